"""Where a user's turn stands in a model's chat template."""

from __future__ import annotations

from typing import Any

from ctxshaper.errors import ModelError

_SLOT = "ctxshaperslot"


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
    whole = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    if whole.count(_SLOT) != 1:
        raise ModelError(
            f"the chat template of {name!r} shows a user's turn {whole.count(_SLOT)} times instead of once; use a "
            "model with an ordinary chat template"
        )
    before, after = whole.split(_SLOT)
    return before, after
