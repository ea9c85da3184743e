"""Anthropic's search results: valid by the SDK's own types, exact to the character, and never a wrong span."""

import copy
import json

import pytest
from anthropic.types import (
    CitationsSearchResultLocation,
    MessageParam,
    SearchResultBlockParam,
    ToolResultBlockParam,
)
from hypothesis import given, settings
from pydantic import TypeAdapter

from ctxshaper import EvidenceFilter, FakeReader, InvalidInputError, Kept, Passage, Pipeline, Rendering, Span, Written
from ctxshaper.connectors.blocks import SearchResults, search_result_passages
from tests.connectors.blocks.made import FIRST, SECOND, SOURCE, THIRD, context, contexts

BLOCK = TypeAdapter(SearchResultBlockParam)
QUERY = "Who designed the bridge?"


def location(results, index, start, end=None, **changed):
    """What the API answers when it cites these blocks."""
    end = start + 1 if end is None else end
    block = results.blocks[index]
    fields = {
        "type": "search_result_location",
        "search_result_index": index,
        "start_block_index": start,
        "end_block_index": end,
        "source": block["source"],
        "title": block["title"],
        "cited_text": "".join(text["text"] for text in block["content"][start:end]),
    }
    return CitationsSearchResultLocation(**{**fields, **changed})


def _solid(text):
    return "".join(text.split())


@settings(max_examples=300, deadline=None)
@given(contexts())
def test_blocks_are_valid_and_every_block_cites_its_own_characters(shaped):
    results = SearchResults(shaped)
    shown = list(shaped.rendering.parts(shaped.passages))
    assert len(results.blocks) == len(shown)
    for index, (block, part) in enumerate(zip(results.blocks, shown, strict=True)):
        BLOCK.validate_python(block, strict=True)
        assert block["source"].strip()
        assert block["title"].strip()
        texts = [content["text"] for content in block["content"]]
        assert "".join(texts) == part.body
        assert all(text.strip() for text in texts)
        passage = shaped.passages[part.place]
        for number, text in enumerate(texts):
            citation = results.cite(location(results, index, number))
            if citation is None:
                assert not any(map(str.isalnum, text))
                continue
            assert citation.passage == part.place
            if citation.generated:
                own = [p for p in passage.pieces if isinstance(p, Written) and p.text.strip() in text]
                assert own
                if all(p.text.strip() for p in own):  # a blank one has no block of its own
                    assert citation.spans in {p.support for p in own}
                continue
            quotes = [passage.source[span.start : span.end] for span in citation.spans]
            # White space joins sentences, and what says nothing, such as a brace, to its neighbour.
            assert _solid("".join(quotes)) == _solid(text)
            assert all(quote in text for quote in quotes)
        whole = results.cite(location(results, index, 0, len(texts)))
        assert whole is None or sum(map(len, whole.spans)) <= len(passage.source)


@settings(max_examples=100, deadline=None)
@given(contexts())
def test_what_was_made_is_taken_in_again_as_it_says(shaped):
    blocks = SearchResults(shaped).blocks
    passages = search_result_passages(blocks)
    assert [p.id for p in passages] == [b["source"] for b in blocks]
    again = SearchResults(context(*passages), given=blocks).blocks
    bodies = [[_solid("".join(t["text"] for t in b["content"])) for b in made] for made in (blocks, again)]
    assert bodies[0] == bodies[1]


def test_a_block_for_each_kept_sentence():
    kept = Passage(SOURCE, id="bridge.txt", metadata={"title": "Bridges"}).keep([FIRST, SECOND, THIRD])
    (block,) = SearchResults(context(kept)).blocks
    assert block == {
        "type": "search_result",
        "source": "bridge.txt",
        "title": "Bridges",
        "citations": {"enabled": True},
        "content": [
            {"type": "text", "text": "The bridge was designed by Ada Moreau."},
            {"type": "text", "text": " … "},
            {"type": "text", "text": "She was born in Lyon."},
            {"type": "text", "text": " … "},
            {"type": "text", "text": "It is 3.5 km long."},
        ],
    }


def test_sentences_that_follow_each_other_keep_their_white_space():
    (block,) = SearchResults(context(Passage(SOURCE).keep([Span(39, 80)]))).blocks
    assert [text["text"] for text in block["content"]] == ["She was born in Lyon.  ", "It is 3.5 km long."]


def test_citations_of_one_of_several_and_of_a_mark():
    results = SearchResults(context(Passage("Bananas."), Passage(SOURCE, id="b").keep([FIRST, THIRD])))
    one = results.cite(location(results, 1, 0))
    assert (one.passage, one.id, one.rank, one.spans, one.quotes) == (1, "b", 1, (FIRST,), (SOURCE[:38],))
    assert (one.exact, one.generated) == (True, False)
    assert results.cite(location(results, 1, 1)) is None
    assert results.cite(location(results, 1, 0, 3)).spans == (FIRST, THIRD)
    # As a dict it says the same.
    assert results.cite(location(results, 1, 0).model_dump()) == one


def test_written_pieces_keep_their_own_support():
    pieces = [Written("Moreau designed it.", (FIRST,)), Written("She was of Lyon.", (SECOND,)), Kept(THIRD)]
    results = SearchResults(context(Passage(SOURCE).rewrite(pieces)))
    first, second, copied = (results.cite(location(results, 0, number)) for number in range(3))
    assert (first.spans, first.quotes, first.generated) == ((FIRST,), (), True)
    assert (second.spans, second.generated) == ((SECOND,), True)
    assert (copied.spans, copied.quotes, copied.generated) == ((THIRD,), ("It is 3.5 km long.",), False)


@pytest.mark.parametrize(
    ("fields", "source"),
    [
        ({"id": "a", "metadata": {"source": "b", "url": "c"}}, "a"),
        ({"id": " ", "metadata": {"source": "b", "url": "c"}}, "b"),
        ({"metadata": {"source": 7, "url": "https://example.org/c"}}, "https://example.org/c"),
        ({"metadata": {"title": "T"}}, "passage-0"),
    ],
)
def test_the_name_of_a_source(fields, source):
    (block,) = SearchResults(context(Passage(SOURCE, **fields))).blocks
    assert block["source"] == source
    assert block["title"] == (fields.get("metadata", {}).get("title") or source)


def test_results_before_these_are_counted():
    shaped = context(Passage(SOURCE))
    results = SearchResults(shaped, first=4)
    cited = location(results, 0, 0, search_result_index=4)
    assert results.cite(cited).spans == (Span(0, 39),)
    with pytest.raises(InvalidInputError, match=r"4 to 4.*first="):
        results.cite(location(results, 0, 0))
    for first in (-1, True, "1"):
        with pytest.raises(InvalidInputError, match="first"):
            SearchResults(shaped, first=first)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"search_result_index": 1}, "result 1"),
        ({"search_result_index": -1}, "result -1"),
        ({"start_block_index": 1, "end_block_index": 1}, "blocks 1 to 1"),
        ({"start_block_index": -1}, "blocks -1"),
        ({"end_block_index": 99}, "99"),
        ({"source": "elsewhere"}, "another request"),
        ({"cited_text": "The bridge was not designed."}, "another request"),
        ({"type": "char_location"}, "char_location"),
        ({"start_block_index": True}, "start_block_index"),
        ({"start_block_index": "0"}, "start_block_index"),
        ({"cited_text": None}, "cited_text"),
    ],
)
def test_a_foreign_or_malformed_citation_is_an_error_and_no_span(changed, match):
    results = SearchResults(context(Passage(SOURCE, id="a")))
    good = location(results, 0, 0).model_dump()
    assert results.cite(good)
    with pytest.raises(InvalidInputError, match=match):
        results.cite({**good, **changed})
    for junk in (None, {}, "text", 7, []):
        with pytest.raises(InvalidInputError, match="type"):
            results.cite(junk)


def test_a_cache_breakpoint_stands_on_the_last_block():
    blocks = SearchResults(context("One.", "Two."), cache_control={"type": "ephemeral"}).blocks
    assert [block.get("cache_control") for block in blocks] == [None, {"type": "ephemeral"}]
    TypeAdapter(MessageParam).validate_python({"role": "user", "content": blocks})
    assert SearchResults(context(), cache_control={"type": "ephemeral"}).blocks == []


def tool_content():
    def result(source, *texts, **more):
        content = [{"type": "text", "text": text} for text in texts]
        return {"type": "search_result", "source": source, "title": source.upper(), "content": content, **more}

    return [
        {"type": "text", "text": "3 hits"},
        result("fruit", "Bananas are yellow.", "They grow in bunches.", citations={"enabled": False}),
        result("bridge", "The bridge was designed by Ada Moreau.", "She was born in Lyon.", score=0.5),
        {"type": "text", "text": "end"},
        result("empty", "", cache_control={"type": "ephemeral", "ttl": "1h"}),
    ]


def test_a_tool_result_is_shaped_and_keeps_its_other_fields():
    content = tool_content()
    before = copy.deepcopy(content)
    passages = search_result_passages(content)
    assert [p.source for p in passages][:2] == [
        "Bananas are yellow.\n\nThey grow in bunches.",
        "The bridge was designed by Ada Moreau.\n\nShe was born in Lyon.",
    ]
    shaped = Pipeline([EvidenceFilter()], reader=FakeReader(), rendering=Rendering(label="none")).shape(
        QUERY, passages, "40%"
    )
    results = SearchResults(shaped, given=content)
    assert results.blocks == [
        {"type": "text", "text": "3 hits"},
        {
            "type": "search_result",
            "source": "bridge",
            "title": "BRIDGE",
            "score": 0.5,
            "content": [{"type": "text", "text": "The bridge was designed by Ada Moreau."}],
            # The block that carried the breakpoint is gone.
            "cache_control": {"type": "ephemeral", "ttl": "1h"},
        },
        {"type": "text", "text": "end"},
    ]
    assert content == before
    TypeAdapter(ToolResultBlockParam).validate_python(
        {"type": "tool_result", "tool_use_id": "t", "content": results.blocks}
    )
    fields = {"search_result_index": 0, "start_block_index": 0, "end_block_index": 1, "source": "bridge"}
    cited = results.cite({"type": "search_result_location", "cited_text": SOURCE[:38], **fields})
    assert (cited.id, cited.rank, cited.quotes) == ("bridge", 1, (SOURCE[:38],))


def test_blocks_of_other_passages_are_refused():
    content = tool_content()
    for foreign in (context("Bananas are yellow."), context(*["x"] * 9)):
        with pytest.raises(InvalidInputError, match="was not made of the given content"):
            SearchResults(foreign, given=content)


@pytest.mark.parametrize(
    "content",
    [
        "text",
        None,
        [7],
        [{"type": "search_result", "source": "s", "title": "t"}],
        [{"type": "search_result", "source": "s", "title": "t", "content": "text"}],
        [{"type": "search_result", "source": "s", "title": "t", "content": [{"type": "image"}]}],
        [{"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": 3}]}],
        [{"type": "search_result", "source": None, "title": "t", "content": []}],
        [{"type": "search_result", "source": "s", "content": []}],
    ],
)
def test_malformed_content_is_refused(content):
    with pytest.raises(InvalidInputError):
        search_result_passages(content)


def test_json_is_cut_by_members_and_stays_json():
    source = json.dumps({"bridge": {"designer": "Ada Moreau", "length": 3.5}, "fruit": {"name": "banana"}})
    shaped = Pipeline([EvidenceFilter()], reader=FakeReader()).shape("Who is the designer?", [source], "70%")
    results = SearchResults(shaped)
    texts = [text["text"] for text in results.blocks[0]["content"]]
    assert "Moreau" in json.dumps(json.loads("".join(texts)))
    assert all(any(map(str.isalnum, text)) for text in texts)
    (place,) = (number for number, text in enumerate(texts) if "Moreau" in text)
    assert any("Moreau" in quote for quote in results.cite(location(results, 0, place)).quotes)
