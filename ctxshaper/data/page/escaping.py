"""Text on a page: nothing of it is markup, and what cannot be seen is made visible."""

from __future__ import annotations

import re
from html import escape

# Control characters, bidi embeddings and isolates (which could turn the text behind them around), lone surrogates
# (which UTF-8 cannot hold), and the tag characters in which text can hide from people, not from language models.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]+|\r+(?!\n)"
)


def shown(text: str) -> str:
    """Text as HTML; each character that cannot be seen as its number, `U+202E`, in an element `i`."""
    return _UNSEEN.sub(lambda found: f"<i>{_named(found[0])}</i>", escape(text)).replace("\r\n", "\n")


def visible(text: str) -> str:
    """Text for a terminal: what cannot be seen, or would move the cursor, as its numbers."""
    return _UNSEEN.sub(lambda found: f"<{_named(found[0])}>", text)


def attribute(text: str, most: int = 600) -> str:
    """Text as a quoted attribute's value, shortened where it is longer than `most` characters."""
    if len(text) > most:
        text = text[:most] + " …"
    return escape(_UNSEEN.sub(lambda found: _named(found[0]), text))


def _named(text: str) -> str:
    return " ".join(f"U+{ord(sign):04X}" for sign in text)
