"""The prompt that an answering model is given here: the rendered passages, then the question."""

from __future__ import annotations

from collections.abc import Sequence

from ctxshaper.data import Marked, Passage, Rendering

LEAD = "Answer the question from these passages, in a few words.\n\n"
_ASK = "\n\nQuestion: "


def framed(question: str, passages: Marked) -> Marked:
    """The user's turn of `prompt` around passages that are rendered already, marks kept."""
    return LEAD + passages + _ASK + question


def prompt(question: str, passages: Sequence[Passage], rendering: Rendering | None = None) -> str:
    """The user's turn that positions are measured in: the rendered passages, then the question."""
    return prompt_places(question, passages, rendering or Rendering())[0]


def prompt_places(
    question: str, passages: Sequence[Passage], rendering: Rendering
) -> tuple[str, list[tuple[int, int]]]:
    """The user's turn, and the range of its characters that each passage and, last, the question takes."""
    text, places = LEAD, []
    for count in range(1, len(passages) + 1):
        # The rendering numbers passages by their place, so that each grows out of those before it.
        grown = LEAD + rendering.render(passages[:count])
        places.append((len(text), len(grown)))
        text = grown
    ahead = text + _ASK
    return ahead + question, [*places, (len(ahead), len(ahead) + len(question))]
