"""Spans inside a caller's own: LangChain and LlamaIndex, blocking, awaited and in batches."""

import asyncio

import pytest
from corpus import QUESTION, TEXTS
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from ctxshaper import tracing
from ctxshaper.connectors.langchain import ContextShaper, ShapingRetriever
from ctxshaper.connectors.llama_index import ContextShaperPostprocessor
from tests.tracing.trees import finished, only, outline

REQUEST = ["shape", ". stage.EvidenceFilter", ". . read", ". stage.FitBudget"]


class Corpus(BaseRetriever):
    def _get_relevant_documents(self, query, *, run_manager):
        return [Document(text, id=title) for title, text in TEXTS.items()]


def langchain(pipeline):
    shaper = ContextShaper(pipeline=pipeline)
    retriever = ShapingRetriever(base_retriever=Corpus(), base_compressor=shaper)
    documents = Corpus().invoke(QUESTION)
    return {
        "retriever": (lambda: retriever.invoke(QUESTION), lambda: retriever.ainvoke(QUESTION)),
        "compressor": (
            lambda: shaper.compress_documents(documents, QUESTION),
            lambda: shaper.acompress_documents(documents, QUESTION),
        ),
        "runnable": (
            lambda: shaper.invoke({"query": QUESTION, "documents": documents}),
            lambda: shaper.ainvoke({"query": QUESTION, "documents": documents}),
        ),
    }


def llama_index(pipeline):
    processor, bundle = ContextShaperPostprocessor(pipeline=pipeline), QueryBundle(QUESTION)
    nodes = [NodeWithScore(node=TextNode(text=text, id_=title)) for title, text in TEXTS.items()]
    return {
        "postprocessor": (
            lambda: processor.postprocess_nodes(nodes, bundle),
            lambda: processor.apostprocess_nodes(nodes, bundle),
        )
    }


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize("name", ["retriever", "compressor", "runnable", "postprocessor"])
def test_a_request_is_a_child_of_the_callers_span(spans, pipeline, name, awaited):
    blocking, waiting = {**langchain(pipeline), **llama_index(pipeline)}[name]

    async def ask():
        with tracing.span("caller"):
            await waiting()

    if awaited:
        asyncio.run(ask())
    else:
        with tracing.span("caller"):
            blocking()
    assert outline(spans) == ["caller", *(f". {line}" for line in REQUEST)]


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize("framework", ["LangChain", "LlamaIndex"])
def test_requests_side_by_side_are_children_of_the_callers_span(spans, pipeline, framework, awaited):
    retriever = ShapingRetriever(base_retriever=Corpus(), base_compressor=ContextShaper(pipeline=pipeline))
    ask_node = llama_index(pipeline)["postprocessor"][1]

    async def ask():
        with tracing.span("caller"):
            if framework == "LangChain":
                await retriever.abatch([QUESTION] * 3)
            else:
                await asyncio.gather(*(ask_node() for _ in range(3)))

    if awaited or framework == "LlamaIndex":  # whose postprocessors know no batch: its engines gather them
        asyncio.run(ask())
    else:
        with tracing.span("caller"):
            retriever.batch([QUESTION] * 3)
    caller = only(spans, "caller").context
    requests = finished(spans, "ctxshaper.shape")
    assert len(requests) == 3
    assert {span.parent.span_id for span in requests} == {caller.span_id}
    stages = finished(spans, "ctxshaper.stage.EvidenceFilter")
    assert sorted(s.parent.span_id for s in stages) == sorted(s.context.span_id for s in requests)
    assert {span.context.trace_id for span in finished(spans)} == {caller.trace_id}
