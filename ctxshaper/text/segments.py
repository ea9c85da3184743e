"""Cuts a text into blocks and sentences that tile it exactly.

Sentence ends come from sentencex (Wikimedia): compiled, linear, built for the languages of Wikipedia and in
use there, with character offsets. It knows no Markdown and misses some abbreviations, so it reads a masked
copy (`ctxshaper.text.masks`) of one block at a time (`ctxshaper.text.markdown`), and its
cuts are checked and moved here. Only offsets are taken from it, never text.
"""

import re
from collections.abc import Callable, Iterable, Iterator

import sentencex

from ctxshaper.data import Span
from ctxshaper.data.records import record_cuts
from ctxshaper.errors import InvalidInputError
from ctxshaper.text.languages import guess
from ctxshaper.text.markdown import Kind, find_blocks
from ctxshaper.text.masks import clean_of, mask_block, masked_of, without_marker

# A segment beyond this many characters could not meet a budget; it is cut at a clause or between words.
_LONGEST = 4_000
_SHORTEST_PIECE = 2_000
# Speech is kept whole as long as somebody would read it in one breath; beyond, its own sentences count.
_LONGEST_SPEECH = 700
# The splitter's time grows with the square of a window's length, and with that of its quotation marks.
_WINDOW, _WIDEST_WINDOW = 4_000, 16_000
_WINDOW_MARGIN = 1_000
_MOST_QUOTES, _QUOTES_SHARE = 200, 0.1

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8})*")
_CLOSERS = frozenset(")]}」』”’»›）】》〉〕｣\"'*_~")
_ALWAYS_CLOSING = frozenset(")]}」』”）】》〉〕｣")
_STRAIGHT_OR_OPENING = frozenset("\"'“‘„«‹([{¿¡")
_LATIN_STOPS = frozenset(".!?…")
_MAY_END = re.compile(r"[^\w ,:;-]", re.ASCII)
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
# What ties a sentence to the quotation before it: Japanese particles, Chinese verbs of speech.
_JAPANESE_GOES_ON = re.compile("[とはがをのにでもや、]|って|という|など|から|まで")
_CHINESE_GOES_ON = re.compile("[^。！？，、“「\\s\u3040-\u30ff]{0,8}?(?:说|說|问|問|道|答|喊|叫|笑|想)[^“「]")
_CJK_QUOTE_END = frozenset("”」』’")
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
_QUOTES = "'“”‘’„«»‹›「」『』"
_SPEECH_MARKS = str.maketrans(dict.fromkeys("\"'“”‘’„«»‹›「」『』()（）[]", " "))
# The splitter never ends a sentence behind a bracket: "(He left.) Nobody knew."
_BRACKETED = re.compile(r"[.!?][)\]]+ +(?=[A-ZÀ-ÖØ-Þ])")
_CLAUSE = re.compile(r"[;:,—–](?=\s)|[；：，、。！？।؛،]|(?<=[.!?])(?=\s)")


def blocks(text: str) -> tuple[Span, ...]:
    """Cuts a text into its blocks: paragraphs, headings, list items, code, table rows, HTML, front matter.

    A heading, a fenced or indented piece of code, a table's header with its delimiter row, every further
    table row, a short piece of HTML and front matter are one block each. A list item's marker stays with its
    text; items of nested lists are blocks of their own. Text without Markdown is cut at blank lines. In a log
    and in rows of values (`ctxshaper.data.records`) each record is a block, and a sentence.

    Args:
        text: Any string, also with lone surrogates and control characters.

    Returns:
        Spans in characters that tile the text: the first starts at 0, each starts where the one before ended,
        the last ends at `len(text)`. White space belongs to the block before it, except for the indent of a
        block's first line, which is part of that block. No block is white space only, unless the text is.
        Empty text gives no block.
    """
    if cuts := record_cuts(text):
        return _tiles(cuts)
    return tuple(Span(start, end) for start, end, _ in _joined(text, clean_of(text)))


def sentences(text: str, language: str | None = None) -> tuple[Span, ...]:
    """Cuts a text into sentences; every block boundary is a sentence boundary too.

    Never cut are code, headings, table rows, links, URLs, numbers with their units, abbreviations, initials,
    and speech or brackets of ordinary length. A sentence of more than 4,000 characters is cut between its
    clauses or words, code never.

    Args:
        text: Any string, also with lone surrogates and control characters.
        language: The language of the text as a tag such as `"de"` or `"pt-BR"`. By default it is guessed
            for each block, from its script and a few stop words.

    Returns:
        Spans in characters that tile the text, as `blocks` does.

    Raises:
        InvalidInputError: The language is not a language tag.
    """
    if language is not None and not _LANGUAGE.fullmatch(language):
        raise InvalidInputError(
            f"language is {language!r}; give a tag such as 'en', 'de' or 'pt-BR', or None to guess it"
        )
    if not text:
        return ()
    if records := record_cuts(text):
        return _tiles(records)
    clean = clean_of(text)
    masked = masked_of(clean)
    given = re.split("[-_]", language.lower())[0] if language else None
    default = given or guess(clean)
    cuts: list[int] = []
    for start, end, kind in _joined(text, clean):
        if kind is Kind.PROSE:
            last = start
            block = without_marker(masked[start:end])
            # Most items of lists are words without a stop: seen at once, where the splitter takes 20 microseconds.
            if _MAY_END.search(block):
                block_language = given or guess(clean[start:end], default)
                block = mask_block(block, block_language)
                for cut in _sentence_cuts(text[start:end], block, block_language):
                    cuts += _clause_cuts(text, masked, last, start + cut)
                    last = start + cut
                    cuts.append(last)
            cuts += _clause_cuts(text, masked, last, end)
        cuts.append(end)
    return _tiles(cuts)


def _tiles(cuts: list[int]) -> tuple[Span, ...]:
    return tuple(Span(start, end) for start, end in zip([0, *cuts[:-1]], cuts, strict=True))


def _joined(text: str, clean: str) -> Iterator[tuple[int, int, Kind]]:
    """Yields the blocks, each that is white space only joined to the one before it, or after at the start."""
    held: tuple[int, int, Kind] | None = None
    for block in find_blocks(clean):
        if held is None:
            held = block
        elif text[block.start : block.end].isspace():
            held = (held[0], block.end, held[2])
        elif text[held[0] : held[1]].isspace():
            held = (held[0], block.end, block.kind)
        else:
            yield held
            held = block
    if held is not None:
        yield held


def _sentence_cuts(text: str, masked: str, language: str) -> list[int]:
    """Returns where the sentences of one block end, without the block's own end; both texts are the block."""
    ends = {*_ends(language, masked), *(match.end() for match in _BRACKETED.finditer(masked))}
    cuts = _checked(text, masked, sorted(ends))
    pieces = list(zip([0, *cuts], [*cuts, len(text)], strict=True))
    if all(end - start <= _LONGEST_SPEECH for start, end in pieces):
        return cuts
    # A long piece is often speech, or text between two unrelated quotation marks: look again without them.
    finer = list(cuts)
    for start, end in pieces:
        if end - start > _LONGEST_SPEECH:
            bare = masked[start:end].translate(_SPEECH_MARKS)
            finer += (start + cut for cut in _checked(text[start:end], bare, _ends(language, bare)))
    return sorted(finer)


def _ends(language: str, masked: str) -> list[int]:
    """Returns the splitter's cuts of one block, ascending.

    It is handed a window at a time: its time grows with the square of the text where no white space stands
    between the sentences (100,000 Chinese characters took a second). Cuts near the end of a window are left
    to the next one, because the splitter has not seen yet which quotation marks close. A text that ends no
    sentence within the widest window is read on behind it, as if it began there.
    """
    ends: list[int] = []
    start, width = 0, _WINDOW
    while start < len(masked):
        stop = start + width
        window = masked[start:stop]
        if sum(map(window.count, _QUOTES)) > max(_MOST_QUOTES, _QUOTES_SHARE * len(window)):
            window = window.translate(_SPEECH_MARKS)  # nobody's speech
        found = [start + boundary["end_index"] for boundary in sentencex.get_sentence_boundaries(language, window)]
        if stop >= len(masked):
            return ends + found
        sure = [end for end in found if end <= stop - _WINDOW_MARGIN]
        if sure:
            ends += sure
            start, width = sure[-1], _WINDOW
        elif width < _WIDEST_WINDOW:
            width *= 2
        else:
            start = stop - _WINDOW_MARGIN
    return ends


def _checked(text: str, masked: str, ends: Iterable[int]) -> list[int]:
    """Moves the splitter's cuts to where they are safe and drops those that are not.

    Args:
        text: The source.
        masked: The same with everything hidden that must not be cut; as long as the source.
        ends: The splitter's cuts, ascending.
    """
    cuts: list[int] = []
    reached = 0  # all before it has been looked through for a letter, once
    has_letter = False
    placed = _Placed(text, masked)
    for end in ends:
        cut = placed.behind(end)
        if not reached < cut < len(text):
            continue
        has_letter = has_letter or _LETTER_OR_DIGIT.search(text, reached, cut) is not None
        reached = cut
        if has_letter and _is_sentence_end(text, cut):
            cuts.append(cut)
            has_letter = False
    if cuts and not _LETTER_OR_DIGIT.search(text, cuts[-1]):
        cuts.pop()
    return cuts


class _Placed:
    """Moves the cuts of one block, ascending, behind the marks and the white space that belong to their sentence."""

    def __init__(self, text: str, masked: str) -> None:
        self.text = text
        self.masked = masked
        # Runs that were walked once are not walked again: many cuts may lie in one.
        self._closers = self._space = self._rest = self._gap = (0, 0)

    def behind(self, end: int) -> int:
        """Moves a cut in front of an opening mark, behind closing marks, and behind the white space."""
        text, masked = self.text, self.masked
        end = min(end, len(masked))
        # `2012. "|Boomiverse"`: a mark with white space before it opens, whatever the splitter took it for.
        if end > 1 and masked[end - 1] in _STRAIGHT_OR_OPENING and masked[end - 2] == " ":
            end -= 1
        end = self._before_gap(end)
        self._closers = self._run(self._closers, end, _CLOSERS.__contains__)
        self._space = self._run(self._space, self._closers[1], str.isspace)
        end = self._space[1]
        if end < len(text) and text[end] in _ALWAYS_CLOSING:
            self._rest = self._run(self._rest, end, lambda sign: sign in _ALWAYS_CLOSING or sign.isspace())
            end = self._rest[1]
        return end

    def _before_gap(self, end: int) -> int:
        first, last = self._gap
        if not first < end <= last:
            first = end
            while first > 0 and self.masked[first - 1] == " ":
                first -= 1
            self._gap = first, end
        return first

    def _run(self, known: tuple[int, int], start: int, belongs: Callable[[str], bool]) -> tuple[int, int]:
        if known[0] <= start < known[1]:
            return known
        end = start
        while end < len(self.text) and belongs(self.text[end]):
            end += 1
        return start, end


def _is_sentence_end(text: str, cut: int) -> bool:
    """Tells whether a sentence may end right before `cut`."""
    before = text[cut - 1]
    if before.isspace():
        return True
    # Without white space, a Latin full stop is part of a name, a number, a version; in CJK it is not.
    end = cut
    while end > 0 and text[end - 1] in _CLOSERS:
        end -= 1
    if end and text[end - 1] in _LATIN_STOPS:
        return text[end - 1] != "." and _CJK.match(text, cut) is not None
    if before in _CJK_QUOTE_END:
        return not (_JAPANESE_GOES_ON.match(text, cut) or _CHINESE_GOES_ON.match(text, cut))
    return True


def _clause_cuts(text: str, masked: str, start: int, end: int) -> list[int]:
    """Cuts an overlong sentence at line ends, clauses or words, whichever comes last in the allowed range."""
    cuts: list[int] = []
    while end - start > _LONGEST:
        window_end = start + _LONGEST
        cut = text.rfind("\n", start + _SHORTEST_PIECE, window_end) + 1
        if not cut:
            found = [match.end() for match in _CLAUSE.finditer(masked, start + _SHORTEST_PIECE, window_end)]
            cut = found[-1] if found else masked.rfind(" ", start + _SHORTEST_PIECE, window_end) + 1
        if not cut:
            # One unbroken string: the next space decides.
            cut = masked.find(" ", window_end, end) + 1 or end
        while cut < end and text[cut].isspace():
            cut += 1
        if cut >= end:
            break
        cuts.append(cut)
        start = cut
    return cuts
