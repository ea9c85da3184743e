"""Reading at ingestion through the frameworks: shaping then finds every document and node read."""

import asyncio
import pickle
import threading

import pytest
from langchain_core.documents import Document
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import Document as LlamaDocument
from llama_index.core.schema import ImageNode, NodeWithScore, TextNode

from ctxshaper import EvidenceFilter, FakeReader, Pipeline, Reader
from ctxshaper.connectors.langchain import ContextShaper, RememberDocuments
from ctxshaper.connectors.langchain.documents import to_passages
from ctxshaper.connectors.llama_index import ContextShaperPostprocessor, RememberNodes

pytest.importorskip("lmdb", reason="lmdb is not installed: pip install 'ctxshaper[store]'")
pytestmark = pytest.mark.filterwarnings("ignore:no head profile")

QUERY = "Who designed the bridge?"
TEXTS = {"Bridge": "The bridge was designed by Ada Moreau.", "": "Bananas are yellow. They grow.", "None": "It rains."}


class Watched(Reader):
    """Keeps the notes of what it is asked."""

    def read(self, query, passages):
        reading = super().read(query, passages)
        self.notes = dict(reading.notes)
        return reading


@pytest.fixture
def shaping(tiny_model, tmp_path):
    """A pipeline over the store, with a reader of its own that has read nothing."""
    return Pipeline([EvidenceFilter()], reader=Watched(tiny_model("llama"), store=tmp_path / "keys"), budget="50%")


@pytest.fixture
def ahead(tiny_model, tmp_path):
    return Reader(tiny_model("llama"), store=tmp_path / "keys")


def found(pipeline):
    notes = pipeline.parts.reader.notes
    return notes["from_store"], notes["cache_hits"], notes["cache_misses"]


def documents():
    titled = [Document(text, metadata={"title": t} if t else {}) for t, text in TEXTS.items()]
    return [*titled, Document("  ")]


def nodes():
    return [TextNode(text=text, metadata={"title": t} if t else {}) for t, text in TEXTS.items()]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_documents_that_were_ingested_are_not_read_again(way, ahead, shaping):
    given, transform = documents(), RememberDocuments(reader=ahead)
    got = transform.transform_documents(given) if way == "sync" else asyncio.run(transform.atransform_documents(given))
    assert got == given == documents()
    ContextShaper(pipeline=shaping).compress_documents(given, QUERY)
    assert found(shaping) == (4, 0, 0)


@pytest.mark.parametrize("way", ["sync", "async"])
def test_nodes_that_were_ingested_are_not_read_again(way, ahead, shaping):
    given = [*nodes(), ImageNode(image_url="x", text="caption"), LlamaDocument(text="A document is text too.")]
    pipeline = IngestionPipeline(transformations=[RememberNodes(reader=ahead)])
    got = pipeline.run(nodes=given) if way == "sync" else asyncio.run(pipeline.arun(nodes=given))
    assert got == given
    shaper = ContextShaperPostprocessor(pipeline=shaping)
    shaper.postprocess_nodes([NodeWithScore(node=node) for node in got], query_str=QUERY)
    assert found(shaping) == (4, 0, 0)


def test_a_title_written_after_ingestion_is_another_text(ahead, shaping):
    given = RememberDocuments(reader=ahead).transform_documents(documents())
    given[1].metadata["title"] = "Fruit"
    ContextShaper(pipeline=shaping).compress_documents(given, QUERY)
    assert found(shaping) == (3, 0, 1)


def test_a_store_is_enough_and_pickles_as_its_path(tmp_path):
    from ctxshaper.reading.store import KeyStore

    store = tmp_path / "keys"
    transform = pickle.loads(pickle.dumps(RememberDocuments(store=store)))  # our own
    transform.transform_documents(documents()[:1])
    later = Pipeline.from_recipe("fast", store=KeyStore(store, read_only=True))
    context = pickle.loads(pickle.dumps(later)).shape(QUERY, to_passages(documents()[:1]))
    readings = context.trace.stages[0].notes["readings"]
    assert (readings[0]["from_store"], readings[0]["cache_misses"]) == (1, 0)
    component = RememberNodes(store=store)
    assert RememberNodes.from_dict(component.to_dict()).store == str(store)


@pytest.mark.parametrize("made", [RememberDocuments, RememberNodes])
def test_a_pipelines_embeddings_are_remembered_too(made, tiny_model, tmp_path):
    def pipeline():
        return Pipeline([EvidenceFilter(embedding=True)], reader=Reader(tiny_model("llama"), store=tmp_path / "keys"))

    transform = made(pipeline=pipeline())
    if made is RememberNodes:
        transform(nodes())
    else:
        transform.transform_documents(documents())
    later = pipeline()
    embedded, encode = [], later.parts.embedder.model.encode
    later.parts.embedder.model.encode = lambda texts, **more: embedded.extend(texts) or encode(texts, **more)
    later.shape(QUERY, to_passages(documents()), "50%")
    assert embedded == [QUERY]


@pytest.mark.parametrize("made", [RememberDocuments, RememberNodes])
def test_one_of_store_and_reader_is_needed(made, tmp_path):
    for arguments, message in (
        ({}, "neither a store nor a reader"),
        ({"store": tmp_path, "reader": FakeReader()}, "both reader and store"),
        ({"stroe": "keys"}, "stroe"),
        ({"pipeline": Pipeline([], reader=FakeReader()), "store": tmp_path}, "pass the pipeline alone"),
        ({"pipeline": "qa"}, "must be a ctxshaper.Pipeline, but got 'qa'"),
    ):
        with pytest.raises(ValueError, match=message):
            made(**arguments)


@pytest.mark.parametrize("made", [RememberDocuments, RememberNodes])
def test_async_reading_leaves_the_event_loop_free_and_stops_when_cancelled(made):
    from ctxshaper.data import deadline
    from ctxshaper.errors import DeadlineError

    class Slow(FakeReader):
        def __init__(self):
            super().__init__()
            self.began, self.stopped = threading.Event(), threading.Event()

        def remember(self, passages):
            self.began.set()
            try:
                while True:
                    deadline.check()
            except DeadlineError:
                self.stopped.set()
                raise

    async def cancelled(reader):
        transform = made(reader=reader)
        work = transform.acall(nodes()) if made is RememberNodes else transform.atransform_documents(documents())
        task = asyncio.create_task(work)
        while not reader.began.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    reader = Slow()
    asyncio.run(cancelled(reader))
    assert reader.stopped.wait(10)
