"""Parts that the connectors' tests share: a pipeline without a model, and the examples' own corpus with MiniLM."""

import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
torch.set_num_threads(1)

from ctxshaper import S2A, EvidenceFilter, FakeGenerator, FakeReader, Pipeline  # noqa: E402  # after the thread count


@pytest.fixture(scope="session")
def pipeline():
    return Pipeline([EvidenceFilter()], reader=FakeReader(), budget="40%")


@pytest.fixture
def rewriting():
    """Writes two sentences of the bridge, each supported by one of its source's own."""
    answer = (
        "Context: It was designed by the engineer Ada Moreau in 1931. The bridge is 412 metres long.\nQuestion: Who?"
    )
    return Pipeline([S2A()], reader=FakeReader(), generator=FakeGenerator(answer))


@pytest.fixture(scope="session")
def tiny_language_model(tiny_model):
    from ctxshaper import LanguageModel

    return LanguageModel(tiny_model("llama"), device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def store():
    from corpus import TEXTS, MiniLM
    from langchain_community.vectorstores import FAISS
    from langchain_core.documents import Document

    documents = [Document(text, id=title, metadata={"title": title, "page": 1}) for title, text in TEXTS.items()]
    return FAISS.from_documents(documents, MiniLM())


@pytest.fixture(scope="session")
def index():
    import faiss
    from corpus import EMBEDDER, TEXTS, MiniLMNodes
    from llama_index.core import StorageContext, VectorStoreIndex
    from llama_index.core.schema import TextNode
    from llama_index.vector_stores.faiss import FaissVectorStore

    nodes = [TextNode(text=text, id_=title, metadata={"title": title}) for title, text in TEXTS.items()]
    faiss_store = FaissVectorStore(faiss.IndexFlatIP(EMBEDDER.embed(["one"]).shape[1]))
    context = StorageContext.from_defaults(vector_store=faiss_store)
    return VectorStoreIndex(nodes, context, embed_model=MiniLMNodes())
