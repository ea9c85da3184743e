"""Source code: cut at definitions and statements, each under the line of its class or function.

Python by its own tokenizer (of the grammars that parse in spite of errors, tree-sitter's of Python takes more than
linear time on hostile text); other languages by their indentation: a line at the margin begins a block, and what is
indented or closes it belongs to it.
"""

from __future__ import annotations

import io
import tokenize
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from ctxshaper.data import Span
from ctxshaper.text.structures.tree import Container, Leaf, Structure, at_empty_lines

# Definitions up to so many characters are kept or dropped whole; set by hand: some twenty lines.
_WHOLE = 800
# With longer lines a text is not read as Python: on errors its tokenizer takes the square of a line's length.
_LONGEST_LINE = 1_000
_CLAUSES = {"else", "elif", "except", "finally"}
_SPACE = {tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


@dataclass(frozen=True, slots=True)
class _Line:
    """A logical line: all that Python reads as one."""

    start: int
    end: int
    lead: int  # where the comments above it begin
    indent: int
    words: tuple[str, str, str]  # its first tokens


def python_structure(source: str) -> Structure:
    """The tree of a Python source: its statements, those of long functions and of classes under their header.

    What Python's tokenizer refuses is cut like code of another language.
    """
    physical = list(io.StringIO(source, newline=""))  # which ends lines where Python does
    if max(map(len, physical), default=0) > _LONGEST_LINE:
        return block_structure(source)
    try:
        lines = _logical_lines(source, physical)
    except (tokenize.TokenError, SyntaxError):
        return block_structure(source)
    follows = _next_at_or_above(lines)

    def end_of(first: int) -> int:
        """Behind the last line of the statement that begins here, with its decorators and further clauses."""
        after = follows[first]
        while lines[first].words[0] == "@" and after < len(lines):
            first, after = after, follows[after]
        while after < len(lines) and lines[after].words[0] in _CLAUSES and lines[after].indent == lines[first].indent:
            after = follows[after]
        return after

    leaves: list[Leaf] = []
    containers: list[Container] = []
    labels: dict[int, str] = {}
    # Ranges of lines that hold statements of one level, the first last, with their container and its name.
    todo = [(0, len(lines), -1, "")]
    while todo:
        first, last, parent, path = todo.pop()
        if first == last:
            continue
        after = end_of(first)
        todo.append((after, last, parent, path))
        start, end = _line_start(source, lines[first].lead), _line_end(source, lines[after - 1].end)
        header = first
        while header + 1 < after and lines[header].words[0] == "@":
            header += 1
        body = header + 1
        kind, name = _definition(lines[header])
        if name and body < after and end_of(body) < after and (kind == "class" or end - start > _WHOLE):
            containers.append(Container(Span(start, _line_start(source, lines[body].lead)), Span(end, end), parent))
            todo.append((body, after, len(containers) - 1, f"{path} > {name}" if path else name))
        else:
            labels[len(leaves)] = path
            leaves.append(Leaf(Span(start, end), parent))
    named = {number: path for number, path in labels.items() if path}
    return Structure(source, tuple(leaf.span for leaf in leaves), leaves, containers, labels=named)


def _logical_lines(source: str, physical: list[str]) -> list[_Line]:
    rows = [0, *accumulate(map(len, physical))]
    lines: list[_Line] = []
    words: list[str] = []
    lead = start = indent = -1
    for token in tokenize.generate_tokens(partial(next, iter(physical), "")):
        place = rows[token.start[0] - 1] + token.start[1]
        if (
            token.type == tokenize.COMMENT
            and not words
            and lead < 0
            and not source[rows[token.start[0] - 1] : place].strip()
        ):
            lead = place
        if token.type == tokenize.NEWLINE:
            if words:
                lines.append(_Line(start, place, lead if lead >= 0 else start, indent, (*words, "", "", "")[:3]))  # type: ignore[arg-type]
            words, lead = [], -1
        elif token.type not in _SPACE:
            if not words:
                start, indent = place, token.start[1]
            if len(words) < 3:
                words.append(token.string)
    return lines


def _next_at_or_above(lines: list[_Line]) -> list[int]:
    """By line, the next one that is not indented further."""
    follows = [len(lines)] * len(lines)
    waiting: list[int] = []
    for number, line in enumerate(lines):
        while waiting and lines[waiting[-1]].indent >= line.indent:
            follows[waiting.pop()] = number
        waiting.append(number)
    return follows


def _definition(line: _Line) -> tuple[str, str]:
    """What a line defines, "def" or "class", and its name; empty where it defines nothing."""
    words = line.words[1:] if line.words[0] == "async" else line.words
    return (words[0], words[1]) if words[0] in ("def", "class") else ("", "")


def _line_end(source: str, place: int) -> int:
    """Where the line of a place ends, if nothing but a comment stands behind it; else the place."""
    end = source.find("\n", place)
    end = len(source) if end < 0 else end
    return end if source[place:end].lstrip()[:1] in ("", "#") else place


def _line_start(source: str, place: int) -> int:
    """Where the line of a place begins, if nothing but white space stands before it; else the place."""
    start = place
    while start and source[start - 1] in " \t":
        start -= 1
    return start if not start or source[start - 1] in "\n\r" else place


def block_structure(source: str) -> Structure:
    """The blocks of code in another language: a line at the margin, and what is indented below it or closes it."""
    spans: list[Span] = []
    place = start = 0
    for line in source.splitlines(keepends=True):
        begins = line.strip() and line[0] not in " \t)]}*" and not line.startswith(("{", "end"))
        if begins and place > start and source[start:place].strip() and not _leads_on(source[start:place]):
            spans.append(Span(start, place))
            start = place
        place += len(line)
    if source[start:].strip():
        spans.append(Span(start, len(source)))
    pieces = [piece for span in spans for piece in at_empty_lines(source, span, _WHOLE)]
    return Structure(source, tuple(pieces), [Leaf(piece) for piece in pieces])


def _leads_on(text: str) -> bool:
    """Whether a block is comments and annotations alone so far: they belong to what follows."""
    return all(not line.strip() or line.lstrip()[0] in "/*#@" for line in text.splitlines())
