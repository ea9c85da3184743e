"""Shape what a retriever finds in the Python language reference, and answer from it.

Run it with `make demo`, or `python examples/demo.py "your question"`. No network: the documents ship with CPython
(`pydoc_data.topics`), the models are the embedded ones.
"""

import os
import sys
import time
import warnings
from pydoc_data.topics import topics

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import faiss
from rich.console import Console
from rich.table import Table

from ctxshaper import Context, Embedder, LocalGenerator, Passage, Pipeline
from ctxshaper.text.segments import blocks

QUESTION = "How can a nested function rebind a variable of the enclosing function with nonlocal?"
FOLLOW_UP = "When are the free variables of a closure looked up?"


def split(name: str, text: str, size: int = 900) -> list[Passage]:
    """One topic as passages of whole blocks, about `size` characters each."""
    passages, start, end = [], 0, 0
    for block in blocks(text):
        if block.end - start > size and end > start:
            passages.append((start, end))
            start = end
        end = block.end
    passages.append((start, end))
    return [
        Passage(text[a:b], id=f"{name}:{a}", metadata={"title": f"Python reference: {name}"})
        for a, b in passages
        if text[a:b].strip()
    ]


def retrieve(question: str, passages: list[Passage], embedder: Embedder, k: int = 10) -> list[Passage]:
    """The k passages nearest to the question, best first."""
    vectors = embedder.embed([p.text for p in passages])
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    scores, found = index.search(embedder.embed([question]), k)
    return [
        Passage(passages[i].text, passages[i].id, float(score), passages[i].metadata)
        for i, score in zip(found[0], scores[0], strict=True)
    ]


def show(console: Console, shaped: Context) -> None:
    """What was kept of what."""
    table = Table("passage", "score", "span", "kept text", title="What was kept", show_lines=True)
    decisions = [decision for stage in shaped.trace.stages for decision in stage.decisions]
    for passage in shaped.passages:
        for span in passage.spans:
            text = passage.source[span.start : span.end].strip().replace("\n", " ")
            # A span may hold several units that stand side by side: the best of them.
            units = [d for d in decisions if d.kept and d.passage == passage.rank and d.span.overlaps(span)]
            score = max((f"{d.score:.2f}" for d in units if d.score is not None), key=float, default="")
            table.add_row(str(passage.id), score, f"{span.start}:{span.end}", text[:120] + "…" * (len(text) > 120))
    console.print(table)
    for warning in shaped.warnings:
        console.print(f"[yellow]{warning}[/]")
    scores = sorted((d.score for d in decisions if not d.kept and d.score is not None), reverse=True)
    console.print(f"{len(scores)} units dropped; the best of them scored {scores[0]:.2f}" if scores else "all kept")


def main() -> None:
    """The whole way, from documents to answers."""
    warnings.filterwarnings("ignore")
    console = Console(width=118)
    question = " ".join(sys.argv[1:]) or QUESTION
    embedder = Embedder()
    corpus = [p for name, text in sorted(topics.items()) for p in split(name, text)]
    console.print(f"[bold]{len(corpus)} passages[/] of the Python reference; question: [bold]{question}[/]")
    found = retrieve(question, corpus, embedder)

    shaper = Pipeline.from_recipe("qa", embedder=embedder)
    shaper.shape("warm up", ["The models are loaded by a first small text. It is not timed."], "50%")
    started = time.perf_counter()
    shaped = shaper.shape(question, found, budget="30%")
    first = time.perf_counter() - started
    started = time.perf_counter()
    shaper.shape(FOLLOW_UP, found, budget="30%")
    second = time.perf_counter() - started

    show(console, shaped)
    console.print(f"tokens: {shaped.tokens_in} before, [bold]{shaped.tokens}[/] after")
    console.print(f"prefill and question: {first * 1e3:.0f} ms; a second question on the same: {second * 1e3:.0f} ms")
    generator = LocalGenerator(max_new_tokens=60)
    full = shaped.rendering.render(found)
    for name, context in (("full", full), ("shaped", shaped.text)):
        started = time.perf_counter()
        prompt = f"{context}\n\nAnswer in one or two sentences, from the text above only: {question}"
        text = generator.generate(prompt).strip()
        console.print(f"\n[bold]Answer from the {name} context[/] ({time.perf_counter() - started:.1f} s):\n{text}")


if __name__ == "__main__":
    main()
