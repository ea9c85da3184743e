"""Finds texts that are records line by line, logs and tables of values, and where their records begin."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator

# How lines of logs begin: a date, a time, seconds since 1970, an address, or a level.
_RECORD = re.compile(
    r"[\[(<]?(?:"
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}[T _,]"
    r"|\d{1,2}[-/.](?:\d{1,2}|[A-Z][a-z]{2})[-/.]\d{2,4}[ :T]"
    r"|(?:[A-Z][a-z]{2},? )?[A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}"
    r"|\d{1,2}:\d{2}:\d{2}\b"
    r"|\d{10}(?:\d{3})?[.\]\s]"
    r"|\d{1,3}(?:\.\d{1,3}){3} "
    r"|(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL|SEVERE)\b[\]:> ]"
    r"|<\d{1,3}>"
    r")"
)
# What goes on with the record before: stack traces and wrapped messages.
_GOES_ON = re.compile(
    r"[ \t]|Traceback |Caused by|During handling|The above exception|\.\.\. |[A-Za-z_.]+(?:Error|Exception)\b"
)
_FEWEST = 3
_DELIMITERS = "\t,;|"


def record_cuts(text: str) -> list[int] | None:
    """Where each record of a text ends, the last at the end of the text; None where the text is no such text.

    Logs: a record begins where a line begins with a date, a time, an address or a level; lines that go on with it, such
    as a stack trace, belong to it. Tables of values (CSV, TSV, with `;` or `|`): a row is a record, quoted line ends
    included. Both need three records at least. Linear.
    """
    if text.count("\n") < _FEWEST - 1:
        return None
    return _log(text) or _rows(text)


def is_log(text: str) -> bool:
    """Whether a text is a log (see `record_cuts`)."""
    return text.count("\n") >= _FEWEST - 1 and _log(text) is not None


def is_table(text: str) -> bool:
    """Whether a text is a table of values (see `record_cuts`), whose first row says what the others mean."""
    return text.count("\n") >= _FEWEST - 1 and _log(text) is None and _rows(text) is not None


def _log(text: str) -> list[int] | None:
    starts: list[int] = []
    lines = going_on = 0
    place = 0
    for line in text.splitlines(keepends=True):
        if line.strip():
            lines += 1
            if _RECORD.match(line):
                starts.append(place)
            elif starts and _GOES_ON.match(line):
                going_on += 1
        place += len(line)
    if len(starts) < _FEWEST or len(starts) + going_on < 0.8 * lines:
        return None
    if not text[: starts[0]].strip():
        del starts[0]
    return [*starts, len(text)]


def _rows(text: str) -> list[int] | None:
    first = text.lstrip("\n\r").partition("\n")[0]
    for delimiter in _DELIMITERS:
        # A line of prose may hold a comma; a table of values that is worth cutting has two at least, or tabs.
        if first.count(delimiter) >= (1 if delimiter == "\t" else 2) and (cuts := _rows_by(text, delimiter)):
            return cuts
    return None


def _rows_by(text: str, delimiter: str) -> list[int] | None:
    """The ends of rows that all have the same number of fields; None where they do not."""
    taken = 0

    def lines() -> Iterator[str]:
        nonlocal taken
        for line in re.findall(r"[^\n]*\n|[^\n]+", text):
            taken += len(line)
            yield line

    cuts: list[int] = []
    fields = 0
    try:
        for row in csv.reader(lines(), delimiter=delimiter, strict=True):
            # Rows of nothing but white space belong to the row before them.
            if any(map(str.strip, row)):
                fields = fields or len(row)
                if len(row) != fields:
                    return None
                cuts.append(taken)
            elif cuts:
                cuts[-1] = taken
    except csv.Error:
        return None
    # A table in Markdown begins its lines with a bar: it has a header and a delimiter row, and a cutter of its own.
    if len(cuts) < _FEWEST or (delimiter == "|" and text.lstrip().startswith("|")):
        return None
    return [*cuts[:-1], len(text)]
