"""LlamaIndex with a FAISS store and MiniLM embeddings; the reader and the LLM are fakes."""

import asyncio
import copy
import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from corpus import QUESTION, TEXTS
from llama_index.core.chat_engine import ContextChatEngine
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.llms import MockLLM
from llama_index.core.memory import Memory
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import CitationQueryEngine
from llama_index.core.schema import (
    Document,
    ImageNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeRelationship,
    NodeWithScore,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step

from ctxshaper import S2A, EvidenceFilter, FakeGenerator, FakeReader, InvalidInputError, Pipeline, Span
from ctxshaper.connectors.llama_index import ContextShaperPostprocessor, map_citation, to_passages
from tests.connectors.test_langchain import Broken, copied


def nodes():
    return [
        NodeWithScore(
            node=TextNode(
                text=text,
                id_=title,
                metadata={"title": title},
                relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc")},
            ),
            score=0.5,
        )
        for title, text in TEXTS.items()
    ]


@pytest.fixture
def shaper(pipeline):
    return ContextShaperPostprocessor(pipeline=pipeline)


def test_nodes_are_shorter_copies_with_ids_relationships_and_a_hidden_record(shaper):
    given = nodes()
    shaped = shaper.postprocess_nodes(given, query_str=QUESTION)
    assert given == nodes()
    assert 0 < len(shaped) < len(given)
    for item in shaped:
        record, source = item.metadata["ctxshaper"], TEXTS[item.node_id]
        assert copied(record, source, item.text)
        assert (item.score, item.node.ref_doc_id, item.metadata["title"]) == (0.5, "doc", item.node_id)
        for mode in (MetadataMode.LLM, MetadataMode.EMBED):
            assert "ctxshaper" not in item.node.get_content(mode)
        json.dumps(item.metadata, allow_nan=False)


def test_without_a_query_nodes_pass(shaper):
    given = nodes()
    assert shaper.postprocess_nodes(given) == given
    assert asyncio.run(shaper.apostprocess_nodes(given)) == given
    assert shaper.postprocess_nodes([], query_str=QUESTION) == []


def test_media_keeps_its_place_and_documents_are_text(shaper):
    image = NodeWithScore(node=ImageNode(image_url="x", text="caption", id_="image"))
    mixed = NodeWithScore(
        node=Node(text_resource=MediaResource(text="x"), image_resource=MediaResource(url="http://x"), id_="mixed")
    )
    document = NodeWithScore(node=Document(text=TEXTS["Ember Bridge"], id_="document"))
    shaped = shaper.postprocess_nodes([image, document, mixed, *nodes()[1:]], query_str=QUESTION)
    assert shaped[0] is image
    assert shaped[2] is mixed
    assert shaped[1].node.node_id == "document"
    assert len(shaped[1].node.get_content()) < len(TEXTS["Ember Bridge"])
    assert shaper.postprocess_nodes([image], query_str=QUESTION) == [image]


def test_it_is_written_down_and_rebuilt_without_loading_a_model(tmp_path):
    made = ContextShaperPostprocessor(pipeline="fast", budget="30%", mode="shadow", on_error="skip")
    again = ContextShaperPostprocessor.from_dict(made.to_dict())
    assert again.to_dict() == made.to_dict() == ContextShaperPostprocessor.from_json(made.to_json()).to_dict()
    assert made.to_dict()["class_name"] == "ContextShaperPostprocessor"
    assert isinstance(made._client._pipeline, type(again._client._pipeline))
    assert not isinstance(again._client._pipeline, Pipeline)
    with pytest.raises(ValueError, match="no recipe"):
        ContextShaperPostprocessor(pipeline="qaa")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_events_and_spans(shaper, asynchronous):
    class Events(BaseEventHandler):
        seen: list

        def handle(self, event, **kwargs):
            self.seen.append(event)

    root, events, spans = get_dispatcher(), Events(seen=[]), SimpleSpanHandler()
    root.add_event_handler(events)
    root.add_span_handler(spans)
    try:
        if asynchronous:
            shaped = asyncio.run(shaper.apostprocess_nodes(nodes(), query_str=QUESTION))
        else:
            shaped = shaper.postprocess_nodes(nodes(), query_str=QUESTION)
    finally:
        root.event_handlers.remove(events)
        root.span_handlers.remove(spans)
    start, end = events.seen
    assert (start.class_name(), end.class_name()) == ("ReRankStartEvent", "ReRankEndEvent")
    assert start.query == QueryBundle(QUESTION)
    assert [n.node_id for n in end.nodes] == [n.node_id for n in shaped]
    assert [s.id_.partition("-")[0].rpartition(".")[2] for s in spans.completed_spans] == [
        "_apostprocess_nodes" if asynchronous else "_postprocess_nodes"
    ]


def test_policies(pipeline):
    shadow = ContextShaperPostprocessor(pipeline=pipeline, mode="shadow").postprocess_nodes(nodes(), query_str=QUESTION)
    assert [n.text for n in shadow] == list(TEXTS.values())
    assert any(n.metadata["ctxshaper"]["shadow"]["position"] is None for n in shadow)
    broken = ContextShaperPostprocessor(pipeline=Pipeline([Broken()], reader=FakeReader()), on_error="skip")
    skipped = broken.postprocess_nodes(nodes(), query_str=QUESTION)
    assert [n.text for n in skipped] == list(TEXTS.values())
    assert "out of order" in skipped[0].metadata["ctxshaper"]["error"]


def test_a_query_engine_streams(index, shaper):
    engine = index.as_query_engine(
        llm=MockLLM(max_tokens=8), similarity_top_k=4, node_postprocessors=[shaper], streaming=True
    )
    response = engine.query(QUESTION)
    pieces = list(response.response_gen)
    assert len(pieces) > 3
    assert map_citation(response.source_nodes, "designed by the engineer Ada Moreau").id == "Ember Bridge"


async def test_a_citation_engine_maps_back_although_it_cuts_nodes_anew(index, shaper):
    engine = CitationQueryEngine.from_args(
        index, llm=MockLLM(max_tokens=8), similarity_top_k=4, node_postprocessors=[shaper], citation_chunk_size=20,
        citation_chunk_overlap=0,
    )  # fmt: skip
    response = await engine.aquery(QUESTION)
    citation = map_citation(response.source_nodes, "designed by the engineer Ada Moreau")
    (span,) = citation.spans
    assert TEXTS["Ember Bridge"][span.start : span.end] == "designed by the engineer Ada Moreau"


def test_a_chat_engine_reads_shaped_nodes(index, shaper):
    engine = ContextChatEngine.from_defaults(
        retriever=index.as_retriever(similarity_top_k=4),
        llm=MockLLM(max_tokens=8),
        memory=Memory.from_defaults(),
        node_postprocessors=[shaper],
    )
    response = engine.chat(QUESTION)
    assert all("ctxshaper" in n.metadata for n in response.source_nodes)
    assert str(response)


async def test_a_workflow_step_uses_it(index, shaper):
    class Flow(Workflow):
        @step
        async def shape(self, event: StartEvent) -> StopEvent:
            found = await index.as_retriever(similarity_top_k=6).aretrieve(event.query)
            return StopEvent(result=await shaper.apostprocess_nodes(found, query_str=event.query))

    result = await Flow(timeout=60).run(query=QUESTION)
    assert map_citation(result, "Ada Moreau") is not None


def test_32_requests_at_once_give_what_one_gives(shaper):
    queries = [QUESTION, "How long is the Varn?", "When did the trams start?", "What freezes in winter?"] * 8
    expected = {q: shaper.postprocess_nodes(nodes(), query_str=q) for q in queries[:4]}
    with ThreadPoolExecutor(32) as pool:
        threads = list(pool.map(lambda q: shaper.postprocess_nodes(nodes(), query_str=q), queries))
    assert threads == [expected[q] for q in queries]

    async def tasks():
        return await asyncio.gather(*(shaper.apostprocess_nodes(nodes(), query_str=q) for q in queries))

    assert asyncio.run(tasks()) == threads


def test_the_prompt_of_s2a_is_changed_through_the_prompt_mixin():
    shaper = ContextShaperPostprocessor(pipeline=Pipeline([S2A()], reader=FakeReader(), generator=FakeGenerator("x")))
    (name,) = shaper.get_prompts()
    assert "CONTEXT:" in shaper.get_prompts()[name].format()
    wording = "Behalte nur {was zählt}. Schreibe zwei Felder, CONTEXT und QUESTION."
    shaper.update_prompts({name: PromptTemplate(wording)})
    assert shaper.get_prompts()[name].get_template().strip() == wording
    generator = shaper._client.pipeline().parts.generator
    shaper.postprocess_nodes(nodes(), query_str=QUESTION)
    assert wording in str(generator.prompts[0])
    with pytest.raises(InvalidInputError, match="there is no prompt 'other'"):
        shaper._update_prompts({"other": PromptTemplate("x")})
    assert ContextShaperPostprocessor(pipeline="fast").get_prompts() == {}


@pytest.mark.parametrize("again", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_a_postprocessor_that_holds_a_pipeline_copies_and_pickles(again):
    made = ContextShaperPostprocessor(pipeline=Pipeline([EvidenceFilter()], reader=FakeReader(), budget="40%"))
    expected = made.postprocess_nodes(nodes(), query_str=QUESTION)
    copied_one = again(made)
    assert copied_one.pipeline is not made.pipeline
    assert copied_one._client.pipeline() is copied_one.pipeline
    assert copied_one.postprocess_nodes(nodes(), query_str=QUESTION) == expected


def test_two_sentences_that_s2a_rewrote_cite_their_own_support(rewriting):
    shaped = ContextShaperPostprocessor(pipeline=rewriting).postprocess_nodes(nodes(), query_str=QUESTION)
    first, second = (map_citation(shaped, words) for words in ("designed by the engineer", "bridge is 412 metres"))
    source = TEXTS["Ember Bridge"]
    assert [source[s.start : s.end].strip() for s in first.spans] == [source.split(". ")[1] + "."]
    assert [source[s.start : s.end].strip() for s in second.spans] == ["The bridge is 412 metres long."]
    assert first.generated
    assert second.generated


def test_a_hostile_record_of_a_retrieved_node_is_replaced_and_never_cited(shaper):
    given = nodes()
    piece = {"start": 0, "end": 10, "spans": [[1_000_000_000, 1_000_000_010]], "generated": False}
    for number, item in enumerate(given):
        forged = {"pieces": [piece], "source_length": 10, "text_digest": "0" * 16, "rank": 0, "dropped": []}
        item.node.metadata["ctxshaper"] = [forged, {**forged, "text": item.text}, {"text": 5}, [[[]]]][number % 4]
    shaped = shaper.postprocess_nodes(given, query_str=QUESTION)
    for some in (given, shaped):
        citation = map_citation(some, "designed by the engineer Ada Moreau")
        (span,) = citation.spans
        assert TEXTS[citation.id][span.start : span.end] == "designed by the engineer Ada Moreau"


def test_words_that_stand_in_a_nodes_record_but_not_in_the_node_are_not_cited(shaper):
    (item, *_) = shaper.postprocess_nodes(nodes(), query_str=QUESTION)
    item.node.set_content(item.text[:20])  # as an engine cuts a node, whose record speaks of more
    assert map_citation([item], TEXTS["Ember Bridge"][:20]).spans == (Span(0, 20),)
    assert map_citation([item], "designed by the engineer Ada Moreau") is None
    item.node.set_content("Nothing of it.")
    assert map_citation([item], "Nothing of it").spans == (Span(0, 13),)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), None])
def test_a_score_that_is_none_and_keys_that_are_no_text_do_not_fail(shaper, score):
    given = nodes()
    for item in given:
        item.score = score
        item.node.metadata[1] = "one"
    assert {passage.score for passage in to_passages(given)} == {None}
    assert set(to_passages(given)[0].metadata) == {"title"}
    shaped = shaper.postprocess_nodes(given, query_str=QUESTION)
    assert shaped
    assert all(item.score is None and item.metadata[1] == "one" for item in shaped)
