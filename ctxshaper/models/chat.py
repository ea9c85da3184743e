"""Prompts in a model's chat template: the template is markup, what stands in it is data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from ctxshaper.errors import GeneratorError, ModelError
from ctxshaper.text.tokenization import Encoder

_SLOT = "ctxshaperslot"
# Private-use characters stand for the contents while the template is filled; no template has them.
_MARK = "\ue000{}\ue001"


class Chat:
    """How one model is spoken to. Special tokens that are spelled out in a message are plain characters to it.

    Args:
        tokenizer: of transformers.
        encoder: the same tokenizer, safe to share.
        name: the model's name, for errors.
    """

    def __init__(self, tokenizer: Any, encoder: Encoder, name: str) -> None:
        self.encoder, self.name = encoder, name
        self._tokenizer = tokenizer

    def encode(self, messages: str | Sequence[Mapping[str, object]]) -> list[int]:
        """Tokens of a conversation up to where the answer begins.

        Args:
            messages: with role and content; text is one turn of the user.

        Raises:
            GeneratorError: the template refuses these messages, or leaves one out.
        """
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        contents = [str(message["content"]).strip("\n") for message in messages]
        if not getattr(self._tokenizer, "chat_template", None):
            return [*self.encoder.bos, *self.encoder.data("\n\n".join(contents) + "\n\n")[0]]
        marks = [_MARK.format(i) for i in range(len(contents))]
        try:
            frame = self._tokenizer.apply_chat_template(
                [{"role": m["role"], "content": mark} for m, mark in zip(messages, marks, strict=True)],
                tokenize=False,
                add_generation_prompt=True,
            )
        except Exception as error:  # a template is a program of its own, with errors of its own
            raise GeneratorError(f"{self.name}'s chat template refuses these messages: {error}") from error
        ids: list[int] = []
        for message, content, mark in zip(messages, contents, marks, strict=True):
            before, found, frame = frame.partition(mark)
            if not found:
                raise GeneratorError(f"{self.name}'s chat template leaves out a {message['role']} message")
            ids += self.encoder.markup(before) + self.encoder.data(content)[0]
        return ids + self.encoder.markup(frame)

    @cached_property
    def turn(self) -> tuple[str, str]:
        """The markup in front of a user's turn, and behind it up to where the answer begins; see `user_turn`."""
        return user_turn(self._tokenizer, self.name)

    @cached_property
    def opening(self) -> list[int]:
        """Tokens of what stands in front of a user's turn, the token that begins every text included."""
        ids = self.encoder.markup(self.turn[0])
        return ids if ids[:1] == self.encoder.bos else self.encoder.bos + ids

    @cached_property
    def closing(self) -> list[int]:
        """Tokens of what stands behind a user's turn."""
        return self.encoder.markup(self.turn[1])


def user_turn(tokenizer: Any, name: str) -> tuple[str, str]:
    """The markup in front of a user's turn, and behind it up to where the model's answer begins.

    Whoever encodes the two as markup and the turn itself as data can put untrusted text into a prompt.

    Args:
        tokenizer: of transformers.
        name: the model's name, for errors.

    Returns:
        The two texts; without a chat template, nothing and an "Answer:" line.

    Raises:
        ModelError: the template does not show the turn exactly once.
    """
    if not getattr(tokenizer, "chat_template", None):
        return "", "\nAnswer: "
    turn = [{"role": "user", "content": _SLOT}]
    try:
        whole = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # a template is a program of its own, with errors of its own
        raise ModelError(f"the chat template of {name!r} refuses a user's turn: {error}") from error
    if whole.count(_SLOT) != 1:
        raise ModelError(
            f"the chat template of {name!r} shows a user's turn {whole.count(_SLOT)} times instead of once; use a "
            "model with an ordinary chat template"
        )
    before, after = whole.split(_SLOT)
    return before, after
