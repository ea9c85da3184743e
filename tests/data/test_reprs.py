"""What a debugger, a notebook without HTML and a log show of the data."""

from ctxshaper import Context, EvidenceFilter, FakeReader, GemFilter, Passage, Pipeline, Span, Written


def test_a_passage_says_what_it_is_in_a_line():
    assert repr(Passage("Short.")) == "<Passage 'Short.'>"
    long = Passage("word " * 1000, id="a", score=0.5, metadata={"title": "A title"})
    assert repr(long) == f"<Passage {('word ' * 1000)[:59] + '…'!r}, id='a', score=0.5, title='A title'>"
    assert repr(long.keep([Span(0, 10)])).endswith(", title='A title', 10 of 5000 characters kept>")
    assert repr(long.rewrite([Written("New.", (Span(0, 4),))])).endswith(", rewritten>")
    assert "\x1b" not in repr(Passage("\x1b[31m red", id="\x1b"))


def test_a_context_says_what_is_left_and_counts_nothing_for_it():
    counted = []
    context = Context(
        "Who designed it?", (Passage("One."), Passage("Two.")), lambda text: counted.append(text) or 5, tokens_in=8
    )
    assert repr(context) == "<Context 'Who designed it?': 2 of 2 passages>"
    assert not counted
    assert context.tokens == 5
    assert repr(context) == "<Context 'Who designed it?': 2 of 2 passages, 5 of 8 tokens>"


def test_a_shaped_one_has_its_warnings():
    shaped = Pipeline([], reader=FakeReader()).shape("Who?", ["A long text of many words."], 2)
    assert shaped.warnings
    assert repr(shaped).endswith(f", {len(shaped.warnings)} warnings>")


def test_a_pipeline_shows_as_one_would_write_it():
    stages = [EvidenceFilter(embedding=True, unit="block"), GemFilter()]
    assert repr(Pipeline(stages)) == "Pipeline([EvidenceFilter(unit='block', embedding=True), GemFilter()])"
    assert repr(Pipeline([], budget="30%")) == "Pipeline([], budget='30%')"
    assert repr(Pipeline([GemFilter(k=3)], budget="auto")) == "Pipeline([GemFilter(k=3)], budget='auto')"
