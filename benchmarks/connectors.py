"""What a connector itself costs, without the reading: 20 documents of 1,000 characters, 60% of each kept.

The stage under it keeps fixed ranges; the pipeline's own time is measured alone and subtracted. Time is
that of the processor, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import time
from functools import partial

import torch
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode

from benchmarks.table import Table
from benchmarks.timing import milliseconds
from ctxshaper import Context, Passage, Pipeline, Run, Span, Stage
from ctxshaper.connectors.langchain import ContextShaper, map_citation
from ctxshaper.connectors.llama_index import ContextShaperPostprocessor

TEXT = ("The bridge over the river was designed by Ada Moreau in 1931. " * 20)[:1000]
QUERY = "Who designed the bridge?"
_KEPT = tuple(Span(100 * i, 100 * i + 60) for i in range(10))
_TIMES = 200


class Fixed(Stage):
    """Keeps ten ranges of each passage."""

    def shape(self, context: Context, run: Run) -> Context:  # noqa: ARG002
        """Apply the rule of the class."""
        return context.with_passages(p.keep(_KEPT) for p in context.passages)


def run(_: argparse.Namespace) -> list[Table]:
    """Milliseconds a request; the aim is less than 2 for the connector."""
    torch.set_num_threads(1)
    pipeline = Pipeline([Fixed()], tokenizer=lambda text: len(text) // 4)
    documents = [Document(TEXT, id=str(i), metadata={"source": f"{i}.txt"}) for i in range(20)]
    nodes = [
        NodeWithScore(node=TextNode(text=TEXT, id_=str(i), metadata={"source": "x"}), score=0.5) for i in range(20)
    ]
    passages = [Passage(TEXT, id=str(i)) for i in range(20)]
    compressor, postprocessor = ContextShaper(pipeline=pipeline), ContextShaperPostprocessor(pipeline=pipeline)
    measured = partial(milliseconds, times=_TIMES, clock=time.process_time)
    shaped = compressor.compress_documents(documents, QUERY)
    alone = measured(lambda: pipeline.shape(QUERY, passages))
    rows: dict[str, dict[str, float]] = {"pipeline alone": {"ms": alone}}
    for name, work in (
        ("LangChain: compress_documents", lambda: compressor.compress_documents(documents, QUERY)),
        ("LlamaIndex: postprocess_nodes", lambda: postprocessor.postprocess_nodes(nodes, query_str=QUERY)),
    ):
        total = measured(work)
        rows[name] = {"ms": total, "of it the connector": total - alone}
    rows["map_citation"] = {"ms": measured(lambda: map_citation(shaped, "Ada Moreau"))}
    return [Table("20 documents, one request", rows)]
