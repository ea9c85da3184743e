"""Finds the blocks of a text, Markdown or plain, as line ranges of the source.

markdown-it-py was chosen because it is the CommonMark reference parser of the Python world, keeps the lines
of every block token, runs in linear time and limits its nesting. Only its block phase runs here: inline
markup, link definitions and tables are cheaper and safer to treat by line, and never change where a block
starts. What CommonMark would misread in plain text (an indented paragraph as code, a stray fence as the
start of endless code) is put right afterwards.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from enum import Enum
from itertools import chain, starmap
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token


class Kind(Enum):
    """What may happen inside a block."""

    PROSE = "prose"  # may be cut between sentences
    WHOLE = "whole"  # heading, code, table row, HTML, front matter: never cut


class Block(NamedTuple):
    """One block: ``text[start:end]`` in characters."""

    start: int
    end: int
    kind: Kind


# HTML that is longer than this is a scraped page on a few lines: its sentences are cut like prose.
_LARGEST_HTML = 4_000
_MOST_FRONT_MATTER_LINES = 200

# Without one of these at a line start, no CommonMark block other than the paragraph can begin.
_CUE = re.compile(r"^(?: {4}|[ \t]*(?:\t|[-+*>#`~<=|]|\d{1,9}[.)]))", re.M)
_FRONT_MATTER_FIRST = re.compile(r"[\w\"'-]+[ ]?[:=]|#")
_CONTAINER_PREFIX = " \t>"
_TABLE_RULE = frozenset("|-: \t")
_RST_UNDERLINE = re.compile(r"[ ]{0,3}([*~^#+\"'`.:_])\1{2,}[ \t]*")
# Lines that open a block of their own in the midst of a paragraph: link and footnote definitions, bullets
# that Markdown does not know, "Key: value" when its neighbour is one too.
_OPENS_ITSELF = re.compile(r"[ ]{0,3}\[[^\]\n]{1,200}\]:[ \t]|[ \t]*[•·▪‣◦●○■□–][ \t]")
_KEY_LINE = re.compile(r"[ \t>]*[^\W\d_][\w-]{0,30}(?: [\w-]{1,30}){0,2}[:：](?:[ \t]|$)")
_RAW_HTML = re.compile(r"[ \t>]*<(?:script|style|pre|textarea|!|\?)", re.I)
_CODE_SIGN = re.compile(r"[{}\[\]=<>_$\\|&@#^~`]|\w\(")
# Many one-line items of one list, alike but for their words; each is a block if the first and the last are.
_ALIKE = re.compile(r"^( {0,3})([-+*]) [^\W\d_][^|\n]*+\n(?:\1\2 [^\W\d_][^|\n]*+\n){8,}+", re.M)
_PROMPT = re.compile(r"[ \t]*(?:>>>|\$ |In \[)")


def find_blocks(clean: str) -> list[Block]:
    r"""Returns the blocks that tile a text; blank lines belong to the block before them.

    Args:
        clean: The text with ``\n`` as its only line end, of the same length as the source.
    """
    starts = [0, *(match.end() for match in re.finditer("\n", clean))]
    if starts[-1] == len(clean):
        starts.pop()
    if not starts:
        return []
    first = _front_matter_lines(clean, starts)
    kinds: dict[int, Kind] = {0: Kind.WHOLE if first else Kind.PROSE}
    if first < len(starts):
        rest = clean[starts[first] :]
        if _CUE.search(rest):
            kinds |= _Lines(clean, starts).parse(first)
        else:
            kinds |= _Lines(clean, starts).plain(first)
    lines = sorted(kinds)
    ends = [*(starts[line] for line in lines[1:]), len(clean)]
    return [Block(starts[line], end, kinds[line]) for line, end in zip(lines, ends, strict=True)]


def _front_matter_lines(clean: str, starts: list[int]) -> int:
    """Returns how many lines of YAML or TOML front matter open the text."""
    if not clean.startswith(("---", "+++")):
        return 0
    fence = clean[:3]
    lines = clean[: starts[_MOST_FRONT_MATTER_LINES] if len(starts) > _MOST_FRONT_MATTER_LINES else None].split("\n")
    if lines[0].rstrip() != fence or len(lines) < 3 or not _FRONT_MATTER_FIRST.match(lines[1]):
        return 0
    for number, line in enumerate(lines[1:], start=1):
        if line.rstrip() == fence or (fence == "---" and line.rstrip() == "..."):
            return min(number + 1, len(starts))
    return 0


def looks_like_code(text: str) -> bool:
    """Tells code from prose that somebody merely indented, by the share of signs that prose rarely holds."""
    if _PROMPT.match(text) or len(text.split()) < 6:
        return True
    return sum(1 for _ in _CODE_SIGN.finditer(text)) * 50 > len(text)


class _Lines:
    """The lines of one text, and the kinds of the blocks that start at them."""

    def __init__(self, clean: str, starts: list[int]) -> None:
        self.clean = clean
        self.starts = starts
        self.kinds: dict[int, Kind] = {}
        self.at: Sequence[int] = range(len(starts) + 1)  # by line that the parser reads: its number in the text

    def line(self, number: int) -> str:
        return self.text(number, number + 1)

    def text(self, first: int, end: int) -> str:
        stop = self.starts[end] if end < len(self.starts) else len(self.clean)
        return self.clean[self.starts[first] : stop]

    def plain(self, first: int, end: int | None = None) -> dict[int, Kind]:
        """Starts a paragraph after each run of blank lines."""
        blank = True
        begin = first
        end = len(self.starts) if end is None else end
        for number in range(first, end):
            if not self.line(number).strip():
                if not blank:
                    self.paragraph(begin, number)
                blank = True
            elif blank:
                begin, blank = number, False
        if not blank:
            self.paragraph(begin, end)
        return self.kinds

    def parse(self, first: int) -> dict[int, Kind]:
        """Reads the lines from ``first`` as Markdown."""
        # Each round ends the paragraph before a stray fence and reads on behind it. Three rounds, because
        # every further one reads the remaining text again.
        for attempt in range(3):
            tokens = self.tokens(first)
            stray = self.stray_fence(tokens) if attempt < 2 else None
            self.take(tokens, stray)
            if stray is None:
                break
            self.kinds[stray] = Kind.WHOLE
            first = stray + 1
            if first >= len(self.starts):
                break
            self.kinds[first] = Kind.PROSE
        return self.kinds

    def tokens(self, first: int) -> list[Token]:
        """Returns the parser's tokens from this line on, whose own lines `at` maps to those of the text.

        The parser takes some 30 microseconds a line, whatever the line's length. So of a long run of like items it
        reads the first and the last.
        """
        parser = MarkdownIt("commonmark").disable(["inline", "reference"])
        runs = [
            (bisect_left(self.starts, match.start()) + 1, bisect_left(self.starts, match.end()) - 1)
            for match in _ALIKE.finditer(self.clean, self.starts[first])
        ]
        if runs:
            ends = [first, *(end for _, end in runs)]
            begins = [*(begin for begin, _ in runs), len(self.starts)]
            read = [range(a, b) for a, b in zip(ends, begins, strict=True)]
            self.at = [*chain.from_iterable(read), len(self.starts)]
            tokens = parser.parse("".join(self.text(part.start, part.stop) for part in read if part))
            items = {self.at[token.map[0]] for token in tokens if token.type == "list_item_open" and token.map}
            if all(begin - 1 in items and end in items for begin, end in runs):
                self.kinds |= dict.fromkeys(chain.from_iterable(starmap(range, runs)), Kind.PROSE)
                return tokens
        self.at = range(first, len(self.starts) + 1)
        return parser.parse(self.clean[self.starts[first] :])

    def stray_fence(self, tokens: list[Token]) -> int | None:
        """Returns the line of a last, unclosed, unnamed fence with prose behind it.

        A passage cut out of a document may begin inside a fence; its closing line then looks like an
        opening one, and everything behind it like code.
        """
        last = tokens[-1] if tokens else None
        if last is None or last.type != "fence" or last.map is None or last.info.strip():
            return None
        begin, end = self.at[last.map[0]], self.at[last.map[1]]
        closed = end - begin > 1 and self.line(end - 1).strip().startswith(last.markup)
        if closed or looks_like_code(self.text(begin + 1, end) if begin + 1 < end else ""):
            return None
        return begin

    def take(self, tokens: list[Token], stop: int | None) -> None:
        """Notes where the blocks of these tokens start."""
        fresh = False  # a container has just opened: its marker and its first block are one
        for token in tokens:
            if token.map is None or token.nesting < 0:
                fresh = fresh and not token.type.startswith(("list_item", "blockquote"))
                continue
            begin, end = self.at[token.map[0]], self.at[token.map[1]]
            if stop is not None and begin >= stop:
                break
            if token.type in ("list_item_open", "blockquote_open"):
                if not fresh:
                    self.kinds[begin] = Kind.PROSE
                    opened = begin
                fresh = True
                continue
            if token.type not in _LEAVES:
                continue
            if fresh and opened != begin:
                # An empty marker line: it and the block below it are one.
                self.kinds.pop(begin, None)
                if token.type != "paragraph_open":
                    self.kinds[opened] = _LEAVES[token.type]
            else:
                self.leaf(token, begin, end)
            fresh = False

    def leaf(self, token: Token, begin: int, end: int) -> None:
        """Notes one paragraph, heading, rule or block of code or HTML."""
        match token.type:
            case "paragraph_open":
                self.paragraph(begin, end, indented=token.level == 0)
            case "heading_open" if token.markup in ("-", "=") and end - begin > 2:
                # CommonMark makes a whole paragraph above a dashed line a heading; plain text means a rule.
                self.paragraph(begin, end)
            case "code_block" if not looks_like_code(self.text(begin, end)):
                self.plain(begin, end)
            case "html_block":
                html = self.text(begin, end)
                raw = len(html) <= _LARGEST_HTML or _RAW_HTML.match(html)
                self.kinds[begin] = Kind.WHOLE if raw else Kind.PROSE
            case "hr" if self.underlines(begin):
                self.kinds[begin - 1] = Kind.WHOLE
            case _:
                self.kinds[begin] = Kind.WHOLE

    def underlines(self, number: int) -> bool:
        """Tells whether this line underlines a one-line title, as reStructuredText does."""
        return (
            self.kinds.get(number - 1) is Kind.PROSE
            and _RST_UNDERLINE.fullmatch(self.line(number).rstrip("\n")) is not None
            and len(self.line(number - 1).strip()) <= len(self.line(number).strip()) + 2
        )

    def paragraph(self, begin: int, end: int, indented: bool = False) -> None:
        """Notes one paragraph and the table rows, definitions and key lines in it."""
        self.kinds[begin] = Kind.PROSE
        lines = self.text(begin, end).split("\n")[: end - begin]
        if end - begin == 2 and _RST_UNDERLINE.fullmatch(lines[1]) and len(lines[0]) <= len(lines[1]) + 2:
            self.kinds[begin] = Kind.WHOLE
            return
        if indented and all(line[:2].isspace() for line in lines if line.strip()):
            # reStructuredText and pydoc indent code by two or three columns, too little for CommonMark.
            text = "\n".join(lines)
            if len(text.split()) >= 3 and looks_like_code(text) and _CODE_SIGN.search(text):
                self.kinds[begin] = Kind.WHOLE
                return
        self.rows(begin, lines)
        keys = [_KEY_LINE.match(line) is not None for line in lines]
        for number, line in enumerate(lines):
            paired = keys[number] and (keys[number - 1 : number] == [True] or keys[number + 1 : number + 2] == [True])
            if paired or _OPENS_ITSELF.match(line):
                self.kinds.setdefault(begin + number, Kind.PROSE)

    def rows(self, begin: int, lines: list[str]) -> None:
        """Notes table rows; header and delimiter row are one, and a row needs no table around it."""
        in_table = was_row = False
        for number, line in enumerate(lines):
            bare = line.strip(_CONTAINER_PREFIX)
            if in_table and was_row and _is_table_rule(bare):
                continue
            following = lines[number + 1].strip(_CONTAINER_PREFIX) if number + 1 < len(lines) else ""
            pipes = bare.count("|")
            in_table = pipes > 0 and (in_table or _is_table_rule(following))
            if in_table or (pipes > 1 and bare[0] == bare[-1] == "|"):
                self.kinds[begin + number] = Kind.WHOLE
                was_row = True
            elif was_row:
                self.kinds[begin + number] = Kind.PROSE
                was_row = False


def _is_table_rule(bare: str) -> bool:
    return "|" in bare and "-" in bare and _TABLE_RULE.issuperset(bare)


_LEAVES = {
    "paragraph_open": Kind.PROSE,
    "heading_open": Kind.WHOLE,
    "fence": Kind.WHOLE,
    "code_block": Kind.WHOLE,
    "html_block": Kind.WHOLE,
    "hr": Kind.WHOLE,
}
