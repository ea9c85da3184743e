"""HTML: cut at elements; scripts, styles and comments are never shown, and what is left is well formed.

No parser that is well kept here gives places in the source in linear time: the standard library's takes the square on
unclosed comments, tree-sitter's grammar on nested elements, and lxml, html5lib and selectolax know lines or nothing. So
tags are found by a scanner of our own, which knows what a shaper must: where elements begin and end.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html import unescape

from ctxshaper.data import Span
from ctxshaper.text.segments import sentences
from ctxshaper.text.structures.tree import Container, Leaf, Structure

_NAME = re.compile(r"/?([A-Za-z][A-Za-z0-9:-]*)")
_QUOTES_OR_END = re.compile("[\"'>]")
_RAW = {"script", "style", "template", "svg", "noscript", "iframe", "textarea", "math", "canvas", "object"}
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
# Elements that come along with what is kept inside; the tags of other blocks (div, section, body) say nothing.
_KEPT = {*_HEADINGS, "p", "ul", "ol", "li", "dl", "dt", "dd", "table", "thead", "tbody", "tfoot", "tr", "pre",
         "blockquote", "caption", "figcaption", "select", "option", "summary"}  # fmt: skip
_PLAIN = {"html", "head", "body", "title", "div", "section", "article", "main", "header", "footer", "nav", "aside",
          "form", "fieldset", "figure", "details", "address", "center", "hr", "colgroup", "dialog"}  # fmt: skip
# What an opening tag closes that is still open: end tags that HTML lets authors leave out.
_CLOSES = {
    "li": {"li"}, "dt": {"dt", "dd"}, "dd": {"dt", "dd"}, "tr": {"tr", "td", "th"}, "td": {"td", "th"},
    "th": {"td", "th"}, "thead": {"thead", "tbody", "tr"}, "tbody": {"thead", "tbody", "tr"}, "option": {"option"},
    "tfoot": {"tbody", "tr"},
}  # fmt: skip
_ENDS_P = (_KEPT | _PLAIN) - {"option", "summary", "caption", "figcaption", "title", "tr", "thead", "tbody", "tfoot"}
# A piece of running text beyond this many characters is cut at its sentences.
_LONG = 300
_LONGEST_HEADING = 200
# A tag with more quoted values than this is taken to end at its first `>`.
_MOST_VALUES = 64


@dataclass(slots=True)
class _Tag:
    start: int
    end: int
    name: str
    closing: bool
    empty: bool


@dataclass(slots=True)
class _Open:
    name: str
    tag: Span
    container: int  # its place among the containers, or that of the one around it


@dataclass
class _Builder:
    source: str
    leaves: list[Leaf] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    run: list[Span] = field(default_factory=list)  # texts since the last block's border
    pairs: list[tuple[Span, Span]] = field(default_factory=list)
    border: int = 0

    def flush(self, parent: int, border: int) -> None:
        """What was read since the last border is a leaf, if any of it shows; the next begins at this border."""
        texts = [span for span in self.run if not self.source[span.start : span.end].isspace()]
        if texts:
            # Whole elements at the borders belong to it; tags that are open beyond them do not.
            start, end = texts[0].start, texts[-1].end
            inside = [pair for pair in self.pairs if self.border <= pair[0].start < end and pair[1].end > start]
            start, end = min([start, *(a.start for a, _ in inside)]), max([end, *(b.end for _, b in inside)])
            while start < end and self.source[start].isspace():
                start += 1
            while start < end and self.source[end - 1].isspace():
                end -= 1
            # A sign that opens no tag here would open one in front of the text that is kept next.
            if end > start and self.source[end - 1] == "<" and self.source[end : end + 1].isspace():
                end += 1
            while end > start and self.source[end - 1] == "<":
                end -= 1
            if end > start:
                self.leaves.append(Leaf(Span(start, end), parent, inline=tuple(inside)))
        self.run, self.pairs, self.border = [], [], border


def html_structure(source: str) -> Structure:
    """The tree of an HTML page or a piece of one. Linear, whatever the text."""
    built = _Builder(source)
    stack: list[_Open] = []
    open_names: Counter[str] = Counter()
    place = 0

    def around() -> int:
        return stack[-1].container if stack else -1

    def text(end: int) -> None:
        if end > place:
            built.run.append(Span(place, end))

    def close(upto: int, tag: Span) -> None:
        """Close what is open down to this depth; the last one by a tag."""
        while len(stack) > upto:
            top = stack.pop()
            open_names[top.name] -= 1
            own = tag if len(stack) == upto else Span(tag.start, tag.start)
            if top.name in _KEPT:
                built.flush(top.container, tag.end)
                container = built.containers[top.container]
                built.containers[top.container] = Container(container.open, own, container.parent)
            elif top.name in _PLAIN:
                built.flush(top.container, tag.end)
            elif own or top.name in ("td", "th"):
                built.pairs.append((top.tag, own))

    for tag in tags(source):
        text(tag.start)
        place = tag.end
        if not tag.name:  # a comment, a script, a doctype
            continue
        span = Span(tag.start, tag.end)
        if tag.closing:
            if open_names[tag.name]:
                depth = len(stack) - 1
                while stack[depth].name != tag.name:
                    depth -= 1
                close(depth, span)
            continue
        ends = _CLOSES.get(tag.name, set()) | ({"p"} if tag.name in _ENDS_P else set())
        while stack and stack[-1].name in ends:
            close(len(stack) - 1, Span(tag.start, tag.start))
        if tag.name in _KEPT or tag.name in _PLAIN:
            built.flush(around(), tag.end)
        if tag.name in _VOID or tag.empty:
            continue
        container = around()
        if tag.name in _KEPT:
            built.containers.append(Container(span, Span(tag.end, tag.end), container))
            built.names.append(tag.name)
            container = len(built.containers) - 1
        stack.append(_Open(tag.name, span, container))
        open_names[tag.name] += 1
    text(len(source))
    end = Span(len(source), len(source))
    built.flush(around(), len(source))
    close(0, end)
    return _structure(built)


def visible(source: str) -> str:
    """What a reader sees of a piece of HTML: no tags, comments or scripts, and characters for their names."""
    return "".join(text for text, _, _ in runs(source))


def runs(source: str) -> Iterator[tuple[str, int, int]]:
    """What a reader sees, in pieces: each with the range of the source that it stands for.

    A piece is as long as its range, character for character, or it stands for the range as a whole: `&` for `&amp;`, a
    line break for the tag of a block.
    """
    place = 0
    for tag in tags(source):
        yield from _texts(source, place, tag.start)
        if tag.name in _KEPT or tag.name in _PLAIN or tag.name in ("br", "td", "th"):
            yield "\n", tag.start, tag.end
        place = tag.end
    yield from _texts(source, place, len(source))


def _texts(source: str, start: int, end: int) -> Iterator[tuple[str, int, int]]:
    place = start
    for match in _ENTITY.finditer(source, start, end):
        if match.start() > place:
            yield source[place : match.start()], place, match.start()
        # One character in place of the name, so that a space which does not break lines is a space.
        yield unescape(match[0]).replace("\xa0", " "), match.start(), match.end()
        place = match.end()
    if place < end:
        yield source[place:end], place, end


def tags(source: str) -> Iterator[_Tag]:
    """Every tag of a text; of comments, declarations and scripts without a name.

    Linear: what was sought in vain once is not sought again.
    """
    place, absent = 0, set[str]()

    def find(sign: str, start: int) -> int:
        if sign in absent:
            return -1
        found = source.find(sign, start)
        if found < 0:
            absent.add(sign)
        return found

    lower = source.lower() if source.isascii() else "".join(c.lower() if c.isascii() else c for c in source)
    while (start := source.find("<", place)) >= 0:
        if source.startswith("<!--", start):
            end = find("-->", start + 4)
            place = end + 3 if end >= 0 else len(source)
            yield _Tag(start, place, "", closing=False, empty=True)
            continue
        if source.startswith(("<!", "<?"), start):
            end = find(">", start)
            place = end + 1 if end >= 0 else len(source)
            yield _Tag(start, place, "", closing=False, empty=True)
            continue
        match = _NAME.match(source, start + 1)
        end = _tag_end(source, match.end(), find) if match else -1
        if not match or end < 0:
            place = start + 1  # a sign of its own, as in "a < b"
            continue
        name, closing = match[1].lower(), source[start + 1] == "/"
        place = end
        if name in _RAW and not closing and source[end - 2] != "/":
            last = -1 if f"</{name}" in absent else lower.find(f"</{name}", end)
            if last < 0:
                absent.add(f"</{name}")
                place = len(source)
            else:
                last = find(">", last)
                place = last + 1 if last >= 0 else len(source)
            yield _Tag(start, place, "", closing=False, empty=True)
            continue
        yield _Tag(start, end, name, closing, empty=source[end - 2] == "/")


def _tag_end(source: str, place: int, find: Callable[[str, int], int]) -> int:
    """Behind the `>` that ends a tag, quoted values passed over; -1 where there is none."""
    if (plain := find(">", place)) < 0:
        return -1
    for _ in range(_MOST_VALUES):
        if (match := _QUOTES_OR_END.search(source, place)) is None:
            break
        if match[0] == ">":
            return match.end()
        closing = find(match[0], match.end())
        if closing < 0:
            break  # a quote that does not close is none
        place = closing + 1
    return plain + 1


def _structure(built: _Builder) -> Structure:
    source, containers, names = built.source, built.containers, built.names
    leaves = sorted(built.leaves, key=lambda leaf: leaf.span.start)
    rows = _enclosing(containers, names, "tr", 2 * _LONG)
    units: list[Span] = []
    heading_of: list[int] = []
    of_unit: list[int] = []
    for leaf in leaves:
        row = rows[leaf.parent] if leaf.parent >= 0 else -1
        if row >= 0:
            extent = Span(containers[row].open.start, max(containers[row].close.end, leaf.span.end))
            if units and units[-1].start == extent.start:
                units[-1] = Span(extent.start, max(units[-1].end, extent.end))
                continue
            units.append(extent)
            of_unit.append(row)
            heading_of.append(0)
            continue
        level = _HEADINGS.get(names[leaf.parent], 0) if leaf.parent >= 0 else 0
        cuts = [leaf.span.end]
        if len(leaf.span) > _LONG and not (leaf.parent >= 0 and names[leaf.parent] == "pre"):
            cuts = [leaf.span.start + s.end for s in sentences(source[leaf.span.start : leaf.span.end])]
        for start, end in zip([leaf.span.start, *cuts[:-1]], cuts, strict=True):
            units.append(Span(start, end))
            of_unit.append(leaf.parent)
            heading_of.append(level if end - start <= _LONGEST_HEADING else 0)
    above, below = _above(source, units, of_unit, heading_of, built)
    return Structure(source, tuple(units), leaves, containers, above, below)


def _enclosing(containers: list[Container], names: list[str], wanted: str, most: int | None = None) -> list[int]:
    """By container, the outermost of this name around it or itself, if it has no more characters; -1 for none."""
    found: list[int] = []
    for place, container in enumerate(containers):
        outer = found[container.parent] if container.parent >= 0 else -1
        fits = names[place] == wanted and (most is None or container.close.end - container.open.start <= most)
        found.append(outer if outer >= 0 else place if fits else -1)
    return found


def _above(
    source: str, units: list[Span], of_unit: list[int], levels: list[int], built: _Builder
) -> tuple[dict[int, int], dict[int, int]]:
    """Headings above what follows them, a table's first row above its others; and what stands below each heading."""
    above: dict[int, int] = {}
    below: dict[int, int] = {}
    headings: list[tuple[int, int]] = []
    tables = _enclosing(built.containers, built.names, "table")
    header: dict[int, int] = {}  # by table, its header row or -1
    for number, (unit, inside, level) in enumerate(zip(units, of_unit, levels, strict=True)):
        table = tables[inside] if inside >= 0 else -1
        while level and headings and headings[-1][0] >= level:
            headings.pop()
        if number and levels[number - 1]:
            below[number - 1] = number
        over = header.get(table, -1) if table >= 0 else -1
        if over < 0 and headings:
            over = headings[-1][1]
        if over >= 0:
            above[number] = over
        if level:
            headings.append((level, number))
        elif table >= 0 and table not in header:
            named = len(unit) <= 2 * _LONGEST_HEADING and "<th" in source[unit.start : unit.end].lower()
            header[table] = number if named else -1
    return above, below
