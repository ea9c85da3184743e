"""The list of stages crossed with every connector, sync and async."""

import asyncio

import pytest
from corpus import QUESTION, TEXTS
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, TextNode

from ctxshaper import FakeGenerator, FakeReader, Passage, Pipeline, Span
from ctxshaper.connectors.langchain import ContextShaper, ShapingRetriever
from ctxshaper.connectors.llama_index import ContextShaperPostprocessor
from tests.stages.configured import ANSWER, CONFIGURED

DOCUMENTS = [Document(text, id=title, metadata={"title": title}) for title, text in TEXTS.items()]


class Fixed(BaseRetriever):
    def _get_relevant_documents(self, query, *, run_manager):
        return DOCUMENTS


def compressor(pipeline):
    return ContextShaper(pipeline=pipeline).compress_documents(DOCUMENTS, QUESTION)


def acompressor(pipeline):
    return asyncio.run(ContextShaper(pipeline=pipeline).acompress_documents(DOCUMENTS, QUESTION))


def retriever(pipeline):
    return ShapingRetriever(base_retriever=Fixed(), base_compressor=ContextShaper(pipeline=pipeline)).invoke(QUESTION)


def nodes():
    return [NodeWithScore(node=TextNode(text=d.page_content, id_=d.id, metadata=dict(d.metadata))) for d in DOCUMENTS]


def postprocessor(pipeline):
    return ContextShaperPostprocessor(pipeline=pipeline).postprocess_nodes(nodes(), query_str=QUESTION)


def apostprocessor(pipeline):
    shaper = ContextShaperPostprocessor(pipeline=pipeline)
    return asyncio.run(shaper.apostprocess_nodes(nodes(), query_str=QUESTION))


@pytest.mark.parametrize("connector", [compressor, acompressor, retriever, postprocessor, apostprocessor])
@pytest.mark.parametrize("stage", CONFIGURED, ids=repr)
def test_a_connector_gives_what_the_pipeline_gives(stage, connector, tiny_language_model):
    pipeline = Pipeline(
        [stage],
        reader=FakeReader(),
        generator=FakeGenerator(ANSWER),
        language_model=tiny_language_model,
        budget="40%",
    )
    shaped = pipeline.shape(QUESTION, [Passage(d.page_content, id=d.id, metadata=d.metadata) for d in DOCUMENTS])
    expected = [(p.id, p.text) for p in shaped.passages if p.text.strip()]
    got = connector(pipeline)
    texts = [d.page_content if isinstance(d, Document) else d.text for d in got]
    ids = [d.id if isinstance(d, Document) else d.node_id for d in got]
    assert list(zip(ids, texts, strict=True)) == expected
    kept = [passage for passage in shaped.passages if passage.text.strip()]
    for document, text, passage in zip(got, texts, kept, strict=True):
        pieces = document.metadata["ctxshaper"]["pieces"]
        placed = [(p.start, p.start + len(p.text), p.spans, p.generated) for p in passage.placed() if p.text]
        assert [(p["start"], p["end"], tuple(Span(*s) for s in p["spans"]), p["generated"]) for p in pieces] == placed
        source = TEXTS[document.metadata["title"]]
        for piece in pieces:
            if not piece["generated"]:
                ((a, b),) = piece["spans"]
                assert source[a:b] == text[piece["start"] : piece["end"]]
