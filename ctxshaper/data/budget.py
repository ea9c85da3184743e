"""Budgets: how much a generator may read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from ctxshaper.errors import InvalidInputError

# No context has more tokens than a number of so many digits.
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Budget:
    """How much context the generator may read, counted in its own tokens over the rendered text.

    Attributes:
        tokens: at most so many tokens.
        share: at most this share of the tokens of the input, in (0, 1].
        adaptive: keep while it pays: each stage that chooses text decides by its scores.

    Where several are given, the tightest holds. None of them: no limit.

    Raises:
        InvalidInputError: a number that is out of range or no number.
    """

    tokens: int | None = None
    share: float | None = None
    adaptive: bool = False

    def __post_init__(self) -> None:
        if self.tokens is not None:
            if isinstance(self.tokens, bool) or not isinstance(self.tokens, Integral) or self.tokens < 1:
                raise InvalidInputError(f"a budget in tokens must be an int from 1, but got {self.tokens!r:.80}")
            object.__setattr__(self, "tokens", int(self.tokens))
        if self.share is not None:
            if isinstance(self.share, bool) or not isinstance(self.share, Real) or not 0 < self.share <= 1:
                raise InvalidInputError(
                    f"a budget as a share must lie above 0 and at most 1 (100%), but got {self.share!r:.80}"
                )
            object.__setattr__(self, "share", float(self.share))
        if not isinstance(self.adaptive, bool):
            raise InvalidInputError(f"adaptive must be True or False, but got {self.adaptive!r:.80}")

    def __str__(self) -> str:
        parts = [
            f"{self.tokens} tokens" if self.tokens is not None else "",
            f"{100 * self.share:.4g}%" if self.share is not None else "",
            "auto" if self.adaptive else "",
        ]
        return ", ".join(filter(None, parts)) or "no limit"

    @classmethod
    def parse(cls, value: Any) -> Budget:
        """Read a budget: `500` tokens, `0.3` or `"30%"` of the input, `"auto"`, None for no limit; numbers as text too.

        Raises:
            InvalidInputError: for anything else.
        """
        if isinstance(value, Budget):
            return value
        if value is None:
            return cls()
        if isinstance(value, Integral) and not isinstance(value, bool):
            return cls(tokens=int(value))
        if isinstance(value, Real) and not isinstance(value, bool):
            return cls(share=float(value))
        if isinstance(value, str) and len(value) <= 2 * _DIGITS:
            text = value.strip().lower()
            if text == "auto":
                return cls(adaptive=True)
            if text.isascii() and text.isdigit() and len(text) <= _DIGITS:
                return cls(tokens=int(text))
            number = text.removesuffix("%").rstrip()
            if number.isascii() and number.replace(".", "", 1).isdigit():
                return cls(share=float(number) / (100 if "%" in text else 1))
        raise InvalidInputError(f"cannot read the budget {value!r:.80}; use tokens (500), a share (30% or 0.3) or auto")

    def limit(self, tokens_in: int) -> int | None:
        """The most tokens that may be kept of so many, or None where there is no hard limit."""
        limits = []
        if self.tokens is not None:
            limits.append(self.tokens)
        if self.share is not None:
            # A share of a small input still allows one token; the epsilon keeps 30% of 10 at 3.
            limits.append(max(1, math.floor(self.share * tokens_in + 1e-9)))
        return min(limits) if limits else None
