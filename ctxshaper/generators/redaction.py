"""Keeping a key out of everything that is shown."""

from __future__ import annotations

import base64
import html
import json
import re
import string
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

# So many characters of a key in a row are hidden, also where a server cut the key or wrote it another way.
_PIECE = 8
# A shorter "key" is a placeholder such as "x": hidden as a word of its own, or it would blot out the message.
_SHORTEST = 4
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


class Redactor:
    """Hides secrets in text, in the spellings that servers and libraries echo them in.

    These are: as it is, in other case, URL-encoded, escaped for JSON, HTML or Python, in base64 (also inside of a
    longer text) and hexadecimal; each also in part, from 8 characters on.

    Args:
        secrets: what must not be shown; empty ones do not count.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        spelled = {form.translate(_LOWER) for secret in secrets if secret for form in _spellings(secret)}
        self._pieces = {form[i : i + _PIECE] for form in spelled for i in range(len(form) - _PIECE + 1)}
        self._beginnings = {form[:n] for form in spelled if len(form) >= _PIECE for n in range(_SHORTEST, _PIECE)}
        short = sorted((form for form in spelled if len(form) < _PIECE), key=len, reverse=True)
        words = [re.escape(form) if len(form) >= _SHORTEST else rf"(?<!\w){re.escape(form)}(?!\w)" for form in short]
        self._short = re.compile("|".join(words)) if words else None

    def __call__(self, text: str) -> str:
        """The text with each secret, or piece of one, replaced by ***; linear in the text."""
        low = text.translate(_LOWER)
        hidden = [m.span() for m in self._short.finditer(low)] if self._short else []
        if self._pieces:
            hidden += [(i, i + _PIECE) for i in range(len(low) - _PIECE + 1) if low[i : i + _PIECE] in self._pieces]
            # A text that was cut may end with less than a piece.
            size = next((n for n in range(_PIECE - 1, _SHORTEST - 1, -1) if low[-n:] in self._beginnings), 0)
            hidden += [(len(low) - size, len(low))] if size else []
        parts: list[str] = []
        shown = 0
        for start, end in sorted(hidden):
            if start > shown or not parts:
                parts += text[shown:start], "***"
            shown = max(shown, end)
        return "".join((*parts, text[shown:]))


def _spellings(secret: str) -> Iterator[str]:
    data = secret.encode("utf-8", "surrogatepass")
    yield from (secret, quote(data, safe=""), quote(data), quote_plus(data), html.escape(secret))
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1])
    yield from (data.hex(), "".join(f"%{byte:02x}" for byte in data))
    if len(secret) < _SHORTEST:
        return
    # Behind 0, 1 or 2 other bytes a text has three forms in base64; first and last characters mix with neighbours.
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + data).decode()
        form = whole[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        yield from (form, form.translate(str.maketrans("+/", "-_")))
