"""LlamaIndex: a citation query engine whose model reads shaped nodes."""

import faiss
from corpus import EMBEDDER, QUESTION, TEXTS, MiniLMNodes
from embedded_lm import SmolLLM
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.query_engine import CitationQueryEngine
from llama_index.core.schema import TextNode
from llama_index.vector_stores.faiss import FaissVectorStore

from ctxshaper import Reader
from ctxshaper.connectors.llama_index import ContextShaperPostprocessor, map_citation

nodes = [TextNode(text=text, id_=title, metadata={"title": title}) for title, text in TEXTS.items()]
store = FaissVectorStore(faiss.IndexFlatIP(EMBEDDER.embed(["one"]).shape[1]))
index = VectorStoreIndex(nodes, StorageContext.from_defaults(vector_store=store), embed_model=MiniLMNodes())
engine = CitationQueryEngine.from_args(
    index,
    llm=SmolLLM(),
    similarity_top_k=6,
    node_postprocessors=[ContextShaperPostprocessor(pipeline="qa", budget="30%")],
)
response = engine.query(QUESTION)

count = Reader().count_tokens
before = sum(count(item.text) for item in index.as_retriever(similarity_top_k=6).retrieve(QUESTION))
after = sum(count(item.text) for item in response.source_nodes)
print(f"tokens saved: {before - after} of {before}")
print(f"answer: {response}")

citation = map_citation(response.source_nodes, str(response)) or map_citation(response.source_nodes, "Ada Moreau")
source = TEXTS[response.source_nodes[citation.passage].metadata["title"]]
(span, *_) = citation.spans
print(f"cited: {source[:12]}...[{span.start}:{span.end}] = {source[span.start : span.end]!r}")
