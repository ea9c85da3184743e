"""What a connector itself costs, without the reading: 20 documents of 1,000 characters, 60% of each kept.

The stage under it keeps fixed sentences; its own time and the pipeline's are measured beside it and subtracted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode

from ctxshaper import Context, Passage, Pipeline, Span
from ctxshaper.connectors.langchain import ContextShaper, map_citation
from ctxshaper.connectors.llama_index import ContextShaperPostprocessor
from ctxshaper.stages import Log, Stage

torch.set_num_threads(1)
TEXT = ("The bridge over the river was designed by Ada Moreau in 1931. " * 20)[:1000]
QUERY = "Who designed the bridge?"


class Fixed(Stage):
    """Keeps ten ranges of each passage."""

    def shape(self, context: Context, log: Log) -> Context:
        """Apply the rule of the class."""
        kept = [Span(100 * i, 100 * i + 60) for i in range(10)]
        log.notes["kept"] = len(kept)
        return context.with_passages(p.keep(kept) for p in context.passages)


def measure(run: Callable[[], object]) -> float:
    """Median milliseconds of 200 runs."""
    times = []
    for _ in range(200):
        started = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times[20:])


def main() -> None:
    """Print milliseconds per request."""
    pipeline = Pipeline([Fixed()], tokenizer=lambda text: len(text) // 4)
    documents = [Document(TEXT, id=str(i), metadata={"source": f"{i}.txt"}) for i in range(20)]
    nodes = [
        NodeWithScore(node=TextNode(text=TEXT, id_=str(i), metadata={"source": "x"}), score=0.5) for i in range(20)
    ]
    passages = [Passage(TEXT, id=str(i)) for i in range(20)]
    compressor, postprocessor = ContextShaper(pipeline=pipeline), ContextShaperPostprocessor(pipeline=pipeline)
    shaped = compressor.compress_documents(documents, QUERY)
    alone = measure(lambda: pipeline.shape(QUERY, passages))
    print(f"pipeline alone                                {alone:6.2f} ms")
    for name, run in (
        ("ContextShaper.compress_documents", lambda: compressor.compress_documents(documents, QUERY)),
        (
            "ContextShaperPostprocessor.postprocess_nodes",
            lambda: postprocessor.postprocess_nodes(nodes, query_str=QUERY),
        ),
    ):
        total = measure(run)
        print(f"{name:45} {total:6.2f} ms, of which the connector {total - alone:.2f} ms (target: below 2)")
    print(
        f"map_citation                                  {measure(lambda: map_citation(shaped, 'Ada Moreau')):6.2f} ms"
    )


if __name__ == "__main__":
    main()
