"""LangChain with a FAISS store and MiniLM embeddings; the reader and the chat model are fakes."""

import asyncio
import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from corpus import QUESTION, TEXTS
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_tests.integration_tests import RetrieversIntegrationTests

from ctxshaper import EvidenceFilter, FakeReader, InvalidInputError, Pipeline, StageError
from ctxshaper.connectors.langchain import (
    ContextShaper,
    LLMLinguaCompressor,
    LongContextReorder,
    ShapingRetriever,
    map_citation,
)
from ctxshaper.connectors.langchain.documents import to_passages
from ctxshaper.stages import Stage

DOCUMENTS = [Document(text, id=title, metadata={"title": title}) for title, text in TEXTS.items()]


class Broken(Stage):
    def shape(self, context, run):
        raise RuntimeError("out of order")


class Recorder(BaseCallbackHandler):
    def __init__(self):
        self.runs, self.parents, self.events = [], {}, []

    def on_chain_start(self, serialized, inputs, *, run_id, parent_run_id=None, name=None, **kwargs):
        self.runs.append(name)
        self.parents[name] = parent_run_id

    def on_retriever_start(self, serialized, query, *, run_id, parent_run_id=None, **kwargs):
        self.parents.setdefault("retriever", run_id)

    def on_custom_event(self, name, data, *, run_id, **kwargs):
        self.events.append((name, data))


@pytest.fixture
def shaper(pipeline):
    return ContextShaper(pipeline=pipeline)


@pytest.fixture
def broken():
    return Pipeline([Broken()], reader=FakeReader())


def copied(record, source, text):
    """Whether a record's pieces are the source's own, and all of a text but what joins them."""
    pieces = [(text[p["start"] : p["end"]], *p["spans"]) for p in record["pieces"]]
    marks = text
    for piece, _ in pieces:
        marks = marks.replace(piece, "", 1)
    return all(piece == source[a:b] for piece, (a, b) in pieces) and not marks.strip(" …")


def test_documents_are_shorter_copies_with_a_record(shaper):
    shaped = shaper.compress_documents(DOCUMENTS, QUESTION)
    assert 0 < len("".join(d.page_content for d in shaped)) < len("".join(TEXTS.values())) / 2
    for document in shaped:
        record, source = document.metadata["ctxshaper"], TEXTS[document.id]
        assert document.metadata["title"] == document.id == list(TEXTS)[record["rank"]]
        assert copied(record, source, document.page_content)
        assert record["source_length"] == len(source)
        assert all(d["reason"] for d in record["dropped"])
        json.dumps(document.metadata, allow_nan=False)
    assert all("ctxshaper" not in d.metadata and d.page_content == TEXTS[d.id] for d in DOCUMENTS)


def test_a_score_of_an_earlier_compressor_stays_a_float(shaper):
    scored = [Document(d.page_content, id=d.id, metadata={"relevance_score": 1}) for d in DOCUMENTS]
    shaped = shaper.compress_documents(scored, QUESTION)
    assert all(type(d.metadata["relevance_score"]) is float for d in shaped)


def test_in_a_chain_the_run_nests_and_reports_once(shaper, store):
    recorder = Recorder()
    chain = {"query": RunnablePassthrough(), "documents": store.as_retriever(search_kwargs={"k": 6})} | shaper
    shaped = chain.invoke(QUESTION, {"callbacks": [recorder]})
    assert map_citation(shaped, "designed by the engineer Ada Moreau").id == "Ember Bridge"
    assert recorder.runs.count("ContextShaper") == 1
    assert recorder.parents["ContextShaper"] is not None
    ((name, data),) = recorder.events
    assert name == "ctxshaper"
    assert data["tokens"] < data["tokens_in"]
    json.dumps(data, allow_nan=False)


def test_called_directly_it_joins_the_run_around_it_and_is_silent_outside_of_one(shaper):
    recorder = Recorder()
    inside = RunnableLambda(lambda query: shaper.compress_documents(DOCUMENTS, query), name="outer")
    assert inside.invoke(QUESTION, {"callbacks": [recorder]}) == shaper.compress_documents(DOCUMENTS, QUESTION)
    assert (recorder.runs, len(recorder.events)) == (["outer", "ContextShaper"], 1)


def test_batch_and_its_twins_agree(shaper):
    inputs = [
        {"query": q, "documents": DOCUMENTS} for q in (QUESTION, "How long is the Varn?", "When did trams start?")
    ]
    expected = [shaper.invoke(one) for one in inputs]
    assert shaper.batch(inputs) == expected
    assert asyncio.run(shaper.abatch(inputs)) == expected


async def test_async_does_not_block_the_loop(waiting):
    stage, release = waiting
    shaper = ContextShaper(pipeline=Pipeline([stage], tokenizer=lambda text: len(text.split())))
    shaped, _ = await asyncio.gather(shaper.acompress_documents(DOCUMENTS, QUESTION), release())
    assert len(shaped) == len(DOCUMENTS)


def test_the_retriever_and_the_classic_one_agree(shaper, store):
    base = store.as_retriever(search_kwargs={"k": 6})
    classic = ContextualCompressionRetriever(base_compressor=shaper, base_retriever=base)
    chained = DocumentCompressorPipeline(transformers=[shaper, LongContextReorder()])
    own = ShapingRetriever(base_retriever=base, base_compressor=shaper)
    assert classic.invoke(QUESTION) == own.invoke(QUESTION) == asyncio.run(own.ainvoke(QUESTION))
    assert {d.id for d in chained.compress_documents(own.invoke(QUESTION), QUESTION)} <= set(TEXTS)


def test_shaped_twice_maps_back_to_the_first_source(shaper):
    once = shaper.compress_documents(DOCUMENTS, QUESTION)
    twice = ContextShaper(pipeline=shaper.pipeline, budget="70%").compress_documents(once, QUESTION)
    words = "Ember Bridge crosses the Varn"
    citation = map_citation(twice, words)
    (span,) = citation.spans
    assert TEXTS[citation.id][span.start : span.end] == words


def test_a_chain_streams_an_answer_from_shaped_documents(shaper, store):
    prompt = ChatPromptTemplate.from_template("{context}\n\nAnswer in one short sentence: {query}")
    read, answer = [], "The Ember Bridge was designed by Ada Moreau."

    def joined(state):
        read.append("\n\n".join(d.page_content for d in state["documents"]))
        return read[-1]

    chain = (
        {"query": RunnablePassthrough(), "documents": store.as_retriever(search_kwargs={"k": 4})}
        | RunnablePassthrough.assign(documents=shaper)
        | RunnablePassthrough.assign(context=joined)
        | prompt
        | FakeListChatModel(responses=[answer])
        | StrOutputParser()
    )
    pieces = list(chain.stream(QUESTION))
    assert len(pieces) > 3
    assert "Ada Moreau" in read[0]
    assert len(read[0]) < sum(map(len, TEXTS.values()))
    assert "".join(pieces) == answer


def test_shadow_returns_the_input_and_says_what_it_would_do(pipeline):
    recorder = Recorder()
    shaper = ContextShaper(pipeline=pipeline, mode="shadow")
    shaped = shaper.invoke({"query": QUESTION, "documents": DOCUMENTS}, {"callbacks": [recorder]})
    assert [d.page_content for d in shaped] == [d.page_content for d in DOCUMENTS]
    would = [d.metadata["ctxshaper"]["shadow"] for d in shaped]
    real = ContextShaper(pipeline=pipeline).compress_documents(DOCUMENTS, QUESTION)
    assert [w["position"] for w in would if w["kept"]] == list(range(len(real)))
    assert recorder.events[0][1]["mode"] == "shadow"
    assert map_citation(shaped, "fish market").id == "Oldport"


def test_on_error(broken):
    with pytest.raises(StageError, match="out of order"):
        ContextShaper(pipeline=broken).compress_documents(DOCUMENTS, QUESTION)
    shaped = ContextShaper(pipeline=broken, on_error="skip").compress_documents(DOCUMENTS, QUESTION)
    assert [d.page_content for d in shaped] == [d.page_content for d in DOCUMENTS]
    assert "out of order" in shaped[0].metadata["ctxshaper"]["error"]
    passed = asyncio.run(ContextShaper(pipeline=broken, on_error="skip").acompress_documents(DOCUMENTS, QUESTION))
    assert passed == shaped


def test_mistakes_are_named(shaper):
    with pytest.raises(ValueError, match="no recipe 'qaa'"):
        ContextShaper(pipeline="qaa")
    with pytest.raises(ValueError, match="cannot read the budget"):
        ContextShaper(budget="much")
    with pytest.raises(ValueError, match="modes"):
        ContextShaper(modes="shadow")
    with pytest.raises(InvalidInputError, match=r"as documents or context, but got 'question'$"):
        shaper.invoke({"question": "?"})
    with pytest.raises(InvalidInputError, match="but got str"):
        shaper.invoke(QUESTION)
    with pytest.raises(InvalidInputError, match="'context' must be a list of Documents, but got str"):
        shaper.invoke({"question": "?", "context": "text"})
    with pytest.raises(InvalidInputError, match="LangChain Documents, but got str"):
        shaper.compress_documents(["text"], QUESTION)
    assert shaper.compress_documents([], "") == []


def test_a_shaper_pickles_with_a_recipe_or_a_pipeline(shaper, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("budget: 20\nstages: [EvidenceFilter]\n")
    made = pickle.loads(pickle.dumps(ContextShaper(pipeline=path)))
    assert (made._client.pipeline().stages, made._client.pipeline().budget.tokens) == ((EvidenceFilter(),), 20)
    again = pickle.loads(pickle.dumps(shaper))
    assert again.pipeline is not shaper.pipeline
    assert again.compress_documents(DOCUMENTS, QUESTION) == shaper.compress_documents(DOCUMENTS, QUESTION)


def test_32_requests_at_once_give_what_one_gives(shaper):
    queries = [QUESTION, "How long is the Varn?", "When did the trams start?", "What freezes in winter?"] * 8
    expected = {q: shaper.compress_documents(DOCUMENTS, q) for q in queries[:4]}
    with ThreadPoolExecutor(32) as pool:
        threads = list(pool.map(lambda q: shaper.compress_documents(DOCUMENTS, q), queries))
    assert threads == [expected[q] for q in queries]

    async def tasks():
        return await asyncio.gather(*(shaper.acompress_documents(DOCUMENTS, q) for q in queries))

    assert asyncio.run(tasks()) == threads


@pytest.mark.parametrize("query", ["query", "question", "input"])
@pytest.mark.parametrize("documents", ["documents", "context"])
def test_a_runnable_takes_the_keys_that_chains_have(shaper, query, documents):
    shaped = shaper.invoke({query: QUESTION, documents: DOCUMENTS, "chat_history": []})
    assert shaped == shaper.compress_documents(DOCUMENTS, QUESTION)
    assert asyncio.run(shaper.ainvoke({query: QUESTION, documents: DOCUMENTS})) == shaped


def test_a_chain_that_calls_its_documents_context_is_shaped_in_place(shaper, store):
    retriever = store.as_retriever(search_kwargs={"k": 6})
    chain = {"input": RunnablePassthrough(), "context": retriever} | RunnablePassthrough.assign(context=shaper)
    result = chain.invoke(QUESTION)
    assert result["context"] == shaper.compress_documents(retriever.invoke(QUESTION), QUESTION)


def test_the_retriever_names_its_parts_as_langchain_does_and_refuses_others(shaper, store):
    with pytest.raises(ValueError, match="shaper"):
        ShapingRetriever(base_retriever=store.as_retriever(), shaper=shaper)
    compressors = DocumentCompressorPipeline(transformers=[shaper, LongContextReorder()])
    chained = ShapingRetriever(base_retriever=store.as_retriever(), base_compressor=compressors)
    assert {d.id for d in chained.invoke(QUESTION)} <= set(TEXTS)


def test_two_sentences_that_s2a_rewrote_cite_their_own_support(rewriting):
    shaped = ContextShaper(pipeline=rewriting).compress_documents(DOCUMENTS, QUESTION)
    first, second = (map_citation(shaped, words) for words in ("designed by the engineer", "bridge is 412 metres"))
    source = TEXTS["Ember Bridge"]
    assert [source[s.start : s.end].strip() for s in first.spans] == [source.split(". ")[1] + "."]
    assert [source[s.start : s.end].strip() for s in second.spans] == ["The bridge is 412 metres long."]
    assert first.generated
    assert second.generated


def test_a_hostile_record_of_a_retrieved_document_is_replaced_and_never_cited(shaper):
    piece = {"start": 0, "end": 10, "spans": [[1_000_000_000, 1_000_000_010]], "generated": False}
    records = [
        {"spans": [[1_000_000_000, 1_000_000_004]], "ellipsis": ""},
        {"pieces": [piece], "source_length": 10, "text_digest": "0" * 16, "rank": 0, "dropped": []},
        [[[[]]]],
        float("nan"),
    ]
    hostile = [
        Document(d.page_content, id=d.id, metadata={"ctxshaper": records[i % 4]}) for i, d in enumerate(DOCUMENTS)
    ]
    shaped = shaper.compress_documents(hostile, QUESTION)
    for documents in (hostile, shaped):
        citation = map_citation(documents, "designed by the engineer Ada Moreau")
        (span,) = citation.spans
        assert TEXTS[citation.id][span.start : span.end] == "designed by the engineer Ada Moreau"
    assert all(copied(d.metadata["ctxshaper"], TEXTS[d.id], d.page_content) for d in shaped)
    json.dumps([d.metadata for d in shaped], allow_nan=False)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf"), "high", True, 10**400])
def test_a_score_that_is_none_and_keys_that_are_no_text_do_not_fail(shaper, score):
    metadata = {"relevance_score": score, 1: "one", "title": "T"}
    (passage,) = to_passages([Document(DOCUMENTS[0].page_content, metadata=metadata)])
    assert passage.score is None
    assert set(passage.metadata) == {"relevance_score", "title"}
    given = [Document(d.page_content, id=d.id, metadata=dict(metadata)) for d in DOCUMENTS]
    shaped = shaper.compress_documents(given, QUESTION)
    assert shaped
    assert all(d.metadata[1] == "one" for d in shaped)


def test_reorder_gives_the_original_order():
    from langchain_community.document_transformers import LongContextReorder as Original

    for count in range(12):
        documents = [Document(str(i)) for i in range(count)]
        assert LongContextReorder().transform_documents(documents) == Original().transform_documents(documents)
        assert asyncio.run(LongContextReorder().atransform_documents(documents)) == Original().transform_documents(
            documents
        )


def test_the_drop_in_for_llmlingua_keeps_its_limit():
    reader = FakeReader()
    pipeline = Pipeline([EvidenceFilter()], reader=reader)
    compressor = LLMLinguaCompressor(pipeline=pipeline, target_token=60)
    shaped = compressor.compress_documents(DOCUMENTS, QUESTION)
    assert 0 < reader.count_tokens("\n\n".join(d.page_content for d in shaped)) <= 60
    with pytest.raises(ValueError, match="rank_method"):
        LLMLinguaCompressor(rank_method="longllmlingua")


class TestShapingRetriever(RetrieversIntegrationTests):
    """langchain-tests' own suite."""

    @pytest.fixture(autouse=True)
    def _parts(self, store):
        whole = Pipeline([EvidenceFilter()], reader=FakeReader())  # without a budget every document stays
        type(self).parts = {"base_retriever": store.as_retriever(), "base_compressor": ContextShaper(pipeline=whole)}

    @property
    def retriever_constructor(self):
        return ShapingRetriever

    @property
    def retriever_constructor_params(self):
        return self.parts

    @property
    def retriever_query_example(self):
        return QUESTION
