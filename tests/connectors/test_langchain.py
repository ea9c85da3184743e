"""LangChain with real parts: a FAISS store, MiniLM embeddings, SmolLM2 as the chat model."""

import asyncio
import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from corpus import QUESTION, TEXTS
from embedded_lm import SmolChat
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_tests.integration_tests import RetrieversIntegrationTests

from ctxshaper import EvidenceFilter, InvalidInputError, Pipeline, StageError
from ctxshaper.connectors.langchain import (
    ContextShaper,
    LLMLinguaCompressor,
    LongContextReorder,
    ShapingRetriever,
    map_citation,
)
from ctxshaper.stages import Stage

DOCUMENTS = [Document(text, id=title, metadata={"title": title}) for title, text in TEXTS.items()]


class Broken(Stage):
    def shape(self, context, log):
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
def broken(reader):
    return Pipeline([Broken()], reader=reader)


def test_documents_are_shorter_copies_with_a_record(shaper):
    shaped = shaper.compress_documents(DOCUMENTS, QUESTION)
    assert 0 < len("".join(d.page_content for d in shaped)) < len("".join(TEXTS.values())) / 2
    for document in shaped:
        record, source = document.metadata["ctxshaper"], TEXTS[document.id]
        assert document.metadata["title"] == document.id == list(TEXTS)[record["rank"]]
        assert record["ellipsis"].join(source[a:b] for a, b in record["spans"]) == document.page_content
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


async def test_async_does_not_block_the_loop(shaper):
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(tick())
    documents = [Document(f"{i} new text about bridge {i}. " * 8, id=str(i)) for i in range(12)]
    await shaper.acompress_documents(documents, QUESTION)
    task.cancel()
    assert ticks > 20


def test_the_retriever_and_the_classic_one_agree(shaper, store):
    base = store.as_retriever(search_kwargs={"k": 6})
    classic = ContextualCompressionRetriever(base_compressor=shaper, base_retriever=base)
    chained = DocumentCompressorPipeline(transformers=[shaper, LongContextReorder()])
    own = ShapingRetriever(retriever=base, shaper=shaper)
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
    read = []

    def joined(state):
        read.append("\n\n".join(d.page_content for d in state["documents"]))
        return read[-1]

    chain = (
        {"query": RunnablePassthrough(), "documents": store.as_retriever(search_kwargs={"k": 4})}
        | RunnablePassthrough.assign(documents=shaper)
        | RunnablePassthrough.assign(context=joined)
        | prompt
        | SmolChat()
        | StrOutputParser()
    )
    pieces = list(chain.stream(QUESTION))
    assert len(pieces) > 3
    # What the small model makes of it is its own affair; it was given the fact, and less beside it.
    assert "Ada Moreau" in read[0]
    assert len(read[0]) < sum(map(len, TEXTS.values()))
    assert "Bridge" in "".join(pieces)


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


def test_mistakes_are_named(shaper, tmp_path):
    with pytest.raises(ValueError, match="no recipe 'qaa'"):
        ContextShaper(pipeline="qaa")
    with pytest.raises(ValueError, match="cannot read the budget"):
        ContextShaper(budget="much")
    with pytest.raises(ValueError, match="modes"):
        ContextShaper(modes="shadow")
    with pytest.raises(InvalidInputError, match="got \\['question'\\]"):
        shaper.invoke({"question": "?"})
    with pytest.raises(InvalidInputError, match="LangChain Documents, but got str"):
        shaper.compress_documents(["text"], QUESTION)
    assert shaper.compress_documents([], "") == []
    path = tmp_path / "own.yaml"
    path.write_text("budget: 20\nstages: [EvidenceFilter]\n")
    copy = pickle.loads(pickle.dumps(ContextShaper(pipeline=path)))  # noqa: S301
    assert copy.compress_documents(DOCUMENTS, QUESTION)


def test_32_requests_at_once_give_what_one_gives(shaper):
    queries = [QUESTION, "How long is the Varn?", "When did the trams start?", "What freezes in winter?"] * 8
    expected = {q: shaper.compress_documents(DOCUMENTS, q) for q in queries[:4]}
    shaper.pipeline.reader.cache.clear()
    with ThreadPoolExecutor(32) as pool:
        threads = list(pool.map(lambda q: shaper.compress_documents(DOCUMENTS, q), queries))
    assert threads == [expected[q] for q in queries]

    async def tasks():
        return await asyncio.gather(*(shaper.acompress_documents(DOCUMENTS, q) for q in queries))

    assert asyncio.run(tasks()) == threads


def test_reorder_gives_the_original_order():
    from langchain_community.document_transformers import LongContextReorder as Original

    for count in range(12):
        documents = [Document(str(i)) for i in range(count)]
        assert LongContextReorder().transform_documents(documents) == Original().transform_documents(documents)
        assert asyncio.run(LongContextReorder().atransform_documents(documents)) == Original().transform_documents(
            documents
        )


def test_the_drop_in_for_llmlingua_keeps_its_limit(reader):
    pipeline = Pipeline([EvidenceFilter()], reader=reader)
    compressor = LLMLinguaCompressor(pipeline=pipeline, target_token=60)
    shaped = compressor.compress_documents(DOCUMENTS, QUESTION)
    assert 0 < reader.count_tokens("\n\n".join(d.page_content for d in shaped)) <= 60
    with pytest.raises(ValueError, match="rank_method"):
        LLMLinguaCompressor(rank_method="longllmlingua")


class TestShapingRetriever(RetrieversIntegrationTests):
    """langchain-tests' own suite."""

    @pytest.fixture(autouse=True)
    def _parts(self, store, reader):
        whole = Pipeline([EvidenceFilter()], reader=reader)  # without a budget every document stays
        type(self).parts = {"retriever": store.as_retriever(), "shaper": ContextShaper(pipeline=whole)}

    @property
    def retriever_constructor(self):
        return ShapingRetriever

    @property
    def retriever_constructor_params(self):
        return self.parts

    @property
    def retriever_query_example(self):
        return QUESTION
