"""Shape what a retriever finds in the Python language reference, and show what was kept, what it costs and saves.

Run it with `make demo`, or `python examples/demo.py "your question"`. No network: the documents ship with CPython
(`pydoc_data.topics`), the models are the embedded ones. It writes `demo.html`, a page to look at.
"""

import os
import sys
import time
import warnings
from pathlib import Path
from pydoc_data.topics import topics

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from rich.console import Console

from ctxshaper import LocalGenerator, Passage, Pipeline
from ctxshaper.commands.showing import show
from ctxshaper.ranking.lexical import LexicalIndex
from ctxshaper.text.segments import blocks

QUESTION = "How can a nested function rebind a variable of the enclosing function?"
ANSWER = "With the nonlocal statement."
FOLLOW_UP = "When are the free variables of a closure looked up?"
PAGE = Path("demo.html")


def split(name: str, text: str, size: int = 900) -> list[Passage]:
    """One topic as passages of whole blocks, about `size` characters each."""
    borders, start, end = [], 0, 0
    for block in blocks(text):
        if block.end - start > size and end > start:
            borders.append((start, end))
            start = end
        end = block.end
    borders.append((start, end))
    return [
        Passage(text[a:b], id=f"{name}:{a}", metadata={"title": f"Python reference: {name}"})
        for a, b in borders
        if text[a:b].strip()
    ]


def retrieve(question: str, corpus: list[Passage], k: int = 10) -> list[Passage]:
    """The k passages that BM25 finds, best first: the retriever of this demo."""
    scores = LexicalIndex([passage.text for passage in corpus]).scores(question)
    return [corpus[place] for place in (-scores).argsort(kind="stable")[:k]]


def likelihood(generator: LocalGenerator, question: str, context: str) -> float:
    """Mean log-probability of the answer's tokens."""
    prompt = f"{context}\n\nQuestion: {question}\nAnswer in one sentence.".strip()
    found = generator.logprobs(prompt, ANSWER)
    return sum(found) / len(found)


def main() -> None:
    """The whole way, from documents to what a generator reads."""
    warnings.filterwarnings("ignore")  # of other libraries
    console = Console(width=118)
    question = " ".join(sys.argv[1:]) or QUESTION
    # Some topics hold the same text as others.
    corpus = list({p.source: p for name, text in sorted(topics.items()) for p in split(name, text)}.values())
    found = retrieve(question, corpus)
    console.print(f"[bold]{question}[/]\n{len(found)} of {len(corpus)} passages were retrieved.\n")

    shaper = Pipeline.from_recipe("qa", budget="15%")
    shaper.shape("warm up", ["The models are loaded by a first small text. It is not timed."])
    started = time.perf_counter()
    shaped = shaper.shape(question, found)
    first = time.perf_counter() - started
    started = time.perf_counter()
    shaper.shape(FOLLOW_UP, found)
    second = time.perf_counter() - started

    show(shaped, console)
    PAGE.write_text(shaped.to_html(shaper.attention(shaped)), encoding="utf-8")
    saved = 1 - shaped.tokens / shaped.tokens_in
    console.print(f"\nTokens: {shaped.tokens_in:,} retrieved, [bold]{shaped.tokens:,}[/] left: {saved:.0%} saved.")
    console.print(f"Time: {first:.2f} s to read and ask; {1e3 * second:.0f} ms for another question over the same.")
    if question == QUESTION:
        generator = LocalGenerator()
        contexts = {"no context": "", "all retrieved": shaped.rendering.render(found), "shaped": shaped.text}
        told = ", ".join(f"{name} {likelihood(generator, question, text):.2f}" for name, text in contexts.items())
        console.print(f'Mean log-probability of a token of "{ANSWER}" to the embedded 135M model: {told}.')
    console.print(f"What was kept, what was dropped, and where the model looked: [bold]{PAGE.resolve().as_uri()}[/]")


if __name__ == "__main__":
    main()
