"""Random contexts: kept pieces, written pieces, several formats, any rendering."""

from hypothesis import strategies as st

from ctxshaper import Context, Kept, Passage, Rendering, Span, Written

SOURCE = "The bridge was designed by Ada Moreau. She was born in Lyon.  It is 3.5 km long."
FIRST, SECOND, THIRD = Span(0, 38), Span(39, 60), Span(62, 80)

_prose = st.lists(st.sampled_from(["One fact. ", "Zwei! ", "3.5 km? ", "é𝒳 …", "\n", "\n\n", "  ", "橋です。", "!!! "]))
_lines = st.lists(
    st.sampled_from(["a\tb\n", "c\td\n", '{"x": 1, "y": [2, "zed"]}\n', "def f():\n    return 1\n", "- item\n"])
)
_sources = st.one_of(_prose, _lines).map("".join)
_spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 25)), max_size=4)
_written = st.lists(st.tuples(st.integers(0, 4), st.text("WXYZ. ", min_size=1, max_size=8)), max_size=2)


@st.composite
def contexts(draw):
    passages = []
    for _ in range(draw(st.integers(0, 3))):
        source = draw(_sources)
        passage = Passage(
            source, id=draw(st.sampled_from([None, "", "a", "b"])), metadata={"title": draw(st.sampled_from(["", "T"]))}
        )
        if draw(st.booleans()):
            inside = [Span(min(a, len(source)), min(a + n, len(source))) for a, n in draw(_spans)]
            pieces = list(passage.keep(inside).pieces)
            for place, text in draw(_written):
                pieces.insert(place, Written(text, (Span(0, 1),) if source else ()))
            if draw(st.booleans()):  # touching pieces, as two stages may leave them
                pieces = [half for piece in pieces for half in _halves(piece)]
            passage = passage.rewrite(pieces)
        passages.append(passage)
    label, ellipsis = draw(st.sampled_from(["none", "title", "number"])), draw(st.sampled_from([" … ", " ", ""]))
    return Context("q", tuple(passages), len, rendering=Rendering(label=label, ellipsis=ellipsis))


def _halves(piece):
    if not isinstance(piece, Kept) or len(piece.span) < 2:
        return [piece]
    middle = (piece.span.start + piece.span.end) // 2
    return [Kept(Span(piece.span.start, middle)), Kept(Span(middle, piece.span.end))]


def context(*passages, **rendering):
    return Context("q", tuple(passages), len, rendering=Rendering(**rendering))
