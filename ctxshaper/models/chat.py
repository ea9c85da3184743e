"""Prompts in a model's chat template: the template is markup, what stands in it is data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ctxshaper.data import Marked, Span, intersect
from ctxshaper.data.marked import marks_of
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
        return self.encode_marked(messages)[0]

    def encode_marked(self, messages: str | Sequence[Mapping[str, object]]) -> tuple[list[int], list[bool]]:
        """The same, and which of the tokens stand for `Marked` characters.

        A token belongs to where its last character lies: it may begin with white space.
        """
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        contents = [_stripped(message["content"]) for message in messages]
        if not getattr(self._tokenizer, "chat_template", None):
            whole = contents[0]
            for content in contents[1:]:
                whole = whole + "\n\n" + content
            ids, marked = self._data(whole + "\n\n")
            return self.encoder.bos + ids, [False] * len(self.encoder.bos) + marked
        marks = [_MARK.format(i) for i in range(len(contents))]
        try:
            frame = self._tokenizer.apply_chat_template(
                [{"role": m["role"], "content": mark} for m, mark in zip(messages, marks, strict=True)],
                tokenize=False,
                add_generation_prompt=True,
            )
        except Exception as error:  # a template is a program of its own, with errors of its own
            raise GeneratorError(f"{self.name}'s chat template refuses these messages: {error}") from error
        ids, marked = [], []
        for message, content, mark in zip(messages, contents, marks, strict=True):
            before, found, frame = frame.partition(mark)
            if not found:
                raise GeneratorError(f"{self.name}'s chat template leaves out a {message['role']} message")
            markup = self.encoder.markup(before)
            data, own = self._data(content)
            ids += markup + data
            marked += [False] * len(markup) + own
        end = self.encoder.markup(frame)
        return ids + end, marked + [False] * len(end)

    def _data(self, content: str) -> tuple[list[int], list[bool]]:
        ids, offsets = self.encoder.data(content)
        marked = np.zeros(len(ids), dtype=bool)
        last = np.maximum(offsets[:, 1] - 1, offsets[:, 0])
        # Offsets rise, so that a range of characters is a range of tokens.
        for span in marks_of(content):
            first, end = np.searchsorted(last, (span.start, span.end))
            marked[first:end] = True
        return ids, marked.tolist()

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


def _stripped(content: object) -> str:
    """A message's text without line ends around it; its marks stay where they were."""
    text = str(content)
    rest = text.lstrip("\n")
    lost, rest = len(text) - len(rest), rest.rstrip("\n")
    if not isinstance(content, Marked):
        return rest
    inside = intersect(content.spans, [Span(lost, lost + len(rest))])
    return Marked(rest, [Span(span.start - lost, span.end - lost) for span in inside])


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
