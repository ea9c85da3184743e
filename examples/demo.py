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
import torch
from rich.console import Console
from rich.table import Table

from ctxshaper import Context, Embedder, Passage, Pipeline
from ctxshaper.models.loading import load_lm, load_tokenizer, resolve_lm
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


class Answerer:
    """SmolLM2 as the generator."""

    def __init__(self) -> None:
        source = resolve_lm()
        self.tokenizer = load_tokenizer(source)
        self.model = load_lm(source, dtype=torch.bfloat16, head=True)

    def __call__(self, question: str, context: str) -> tuple[str, float]:
        """The answer, and the seconds that it took."""
        started = time.perf_counter()
        prompt = f"{context}\n\nAnswer in one or two sentences, from the text above only: {question}"
        ids = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            out = self.model.generate(**ids, max_new_tokens=60, do_sample=False)
        text = self.tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        return text.strip(), time.perf_counter() - started


def show(console: Console, shaped: Context) -> None:
    """What was kept of what."""
    table = Table("passage", "score", "span", "kept text", title="What was kept", show_lines=True)
    units = [unit for stage in shaped.trace.stages for unit in stage.notes.get("kept", ())]
    for passage in shaped.passages:
        for span in passage.spans:
            text = passage.source[span.start : span.end].strip().replace("\n", " ")
            # A span may hold several units that stand side by side: the best of them.
            inside = [u for u in units if u["passage"] == passage.rank and span.start <= u["start"] < span.end]
            score = max((f"{u['score']:.2f}" for u in inside), key=float, default="")
            table.add_row(str(passage.id), score, f"{span.start}:{span.end}", text[:120] + "…" * (len(text) > 120))
    console.print(table)
    scores = sorted((d.score for s in shaped.trace.stages for d in s.dropped if d.score is not None), reverse=True)
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
    console.print(f"first look: {first * 1e3:.0f} ms; a second question on the same passages: {second * 1e3:.0f} ms")
    answer = Answerer()
    full = shaped.rendering.render(found)
    for name, context in (("full", full), ("shaped", shaped.text)):
        text, seconds = answer(question, context)
        console.print(f"\n[bold]Answer from the {name} context[/] ({seconds:.1f} s):\n{text}")


if __name__ == "__main__":
    main()
