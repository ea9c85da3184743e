"""What kind of text a passage is, seen from its content: prose, or one of the structures that are cut along their own.

Detection is for what is plainly so; all else is prose, whose cutter knows Markdown. A passage's metadata may say it
(`text_format`), and then that holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

from ctxshaper.data.records import is_log, is_table
from ctxshaper.errors import InvalidInputError

Format = Literal["prose", "log", "table", "json", "html", "python", "code", "mail"]
# The key of a passage's metadata that says its format, where what it looks like is wrong.
KEY = "text_format"

_HTML_START = re.compile(
    r"(?:<!--.{0,2000}?-->\s{0,100}){0,3}<(?:!doctype html|(?:html|head|body|main|article|section|header|nav|div|p|ul"
    r"|ol|dl|table|h[1-6]|blockquote|form|figure|aside|footer)\b)",
    re.IGNORECASE | re.DOTALL,
)
_HTML_END = re.compile(r"</(?:p|div|html|body|table|ul|ol|li|tr|td|h[1-6]|dl|section|article|main)>", re.IGNORECASE)
_HEADER = re.compile(r"([A-Za-z][A-Za-z0-9-]{0,60}):(?:[ \t]|$)")
_MAIL = {"from", "to", "subject", "date", "cc", "message-id", "reply-to", "received", "return-path"}
_DEFINES = re.compile(
    r"^[ \t]{0,40}(?:(?:async[ \t]+)?def[ \t]+\w+[ \t]*\(|class[ \t]+\w+[^\n]{0,200}:[ \t]*(?:#|$))"
    r"|^(?:import[ \t]+\w|from[ \t]+[\w.]+[ \t]+import[ \t])",
    re.MULTILINE,
)
_PYTHON_LINE = re.compile(
    r"[ \t]|#|@|\"\"\"|'''|[)\]}]|\w[^\n]{0,200}[:(\[{,\\)\]}\"'][ \t]*$|[\w.\[\]'\", *]{1,80}[-+*/|&]?=(?!=)"
    r"|(?:import|from|return|raise|pass|yield|assert|del|global|try|else|finally)\b"
)
_BRACE_LINE = re.compile(r"[^\n]{0,400}[;{}][ \t]*(?://[^\n]*)?$|[ \t]*(?://|/\*|\*|#include|import |package |using )")
# Texts whose format is known, by their hash: 64 bits of a secret of this process, and the length.
_KNOWN: dict[tuple[int, int], Format] = {}
_MOST = 2**14
# So many characters tell what lines look like.
_LOOK = 20_000


def format_of(source: str, metadata: Mapping[str, Any]) -> Format:
    """The format of a passage's text.

    Args:
        source: the text.
        metadata: the passage's; its `text_format` outranks what the text looks like.

    Raises:
        InvalidInputError: as `checked_format`.
    """
    return checked_format(metadata) or _seen(source)


def checked_format(metadata: Mapping[str, Any]) -> Format | None:
    """The format that a passage's metadata says, if any.

    Raises:
        InvalidInputError: a `text_format` that there is not.
    """
    given: Format | None = metadata.get(KEY)
    if given is not None and given not in get_args(Format):
        raise InvalidInputError(
            f"a passage's {KEY} must be one of {', '.join(get_args(Format))}, but got {given!r:.80}"
        )
    return given


def _seen(source: str) -> Format:
    """What a text looks like; asked for again and again while a budget is filled."""
    name = hash(source), len(source)
    if name not in _KNOWN:
        if len(_KNOWN) >= _MOST:
            _KNOWN.clear()
        _KNOWN[name] = _look(source)
    return _KNOWN.get(name) or _look(source)


def _look(source: str) -> Format:
    start = source.lstrip("\ufeff \t\r\n")[:1]
    if not start:
        return "prose"
    if start in "{[" and is_json(source):
        return "json"
    if start == "<" and _is_html(source):
        return "html"
    if "\n" not in source:
        return "prose"
    if is_log(source):
        return "log"
    if _is_mail(source):
        return "mail"
    if is_table(source):
        return "table"
    return _code(source) or "prose"


def is_json(source: str) -> bool:
    """Whether a text is a JSON object or array, or one in each line."""
    if source.rstrip()[-1:] not in "}]":
        return False
    for texts in ([source], source.splitlines()):
        try:
            for text in texts:
                if text.strip() and not isinstance(json.loads(text), (dict, list)):
                    return False
        except (ValueError, RecursionError):
            continue
        return True
    return False


def _is_html(source: str) -> bool:
    return bool(_HTML_START.match(source.lstrip("\ufeff \t\r\n"))) and bool(_HTML_END.search(source))


def _is_mail(source: str) -> bool:
    """Whether it begins with the header of an e-mail: two of its usual fields at least, then an empty line."""
    found = set()
    for number, line in enumerate(source[:_LOOK].lstrip("\ufeff\r\n").split("\n")):
        if not line.strip():
            break
        if match := _HEADER.match(line):
            found.add(match[1].lower())
        elif not (number and line[0] in " \t") and not (number == 0 and line.startswith("From ")):
            return False
    return len(found & _MAIL) >= 2 and bool(found & {"from", "subject"})


def _code(source: str) -> Format | None:
    text = source[:_LOOK]
    lines = [line for line in text.split("\n") if line.strip()]
    if any(line.startswith(("```", "~~~")) for line in lines) or len(lines) < 2:
        return None
    if _DEFINES.search(text) and sum(bool(_PYTHON_LINE.match(line)) for line in lines) >= 0.7 * len(lines):
        return "python"
    braces = sum(bool(_BRACE_LINE.match(line)) for line in lines)
    if braces >= 0.5 * len(lines) and any(line.rstrip().endswith(("{", "}", "};")) for line in lines):
        return "code"
    return None
