"""What generators are asked about shaped contexts: how likely the answer is, what they answer, what distracts them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, cast, get_args
from urllib.parse import urlsplit

from ctxshaper.data import Context
from ctxshaper.errors import InvalidInputError
from ctxshaper.evaluation.metrics import answer_log_likelihood, distraction, exact_match, f1
from ctxshaper.evaluation.prompts import prompt
from ctxshaper.evaluation.questions import Question
from ctxshaper.generators import Generator, LocalGenerator, OpenAIGenerator, ScoringGenerator
from ctxshaper.stages.distraction_filter.abstention import Abstention

Asked = Literal["likelihood", "answers", "distraction"]
Values = dict[str, float | None]
EMBEDDED = "embedded"
# Long answers are not what the data sets hold.
_ANSWER_TOKENS = 32
_ENDPOINT = ("@http://", "@https://")


def generators_of(given: Sequence[str] | Mapping[str, Generator], measures: Sequence[str]) -> dict[str, Generator]:
    """Generators by the name that results and reports call them by; nothing is loaded yet.

    Args:
        given: names: `embedded`, a folder, a GGUF file or a hub name, or `MODEL@URL` for an endpoint of OpenAI's form,
            whose URL ends before /chat/completions; or generators of one's own by a name.
        measures: what they will be asked; none are made for nothing.

    Raises:
        InvalidInputError: a URL without a model, or a measure that a generator does not allow.
        MissingDependencyError, ModelError: a model that is not there.
    """
    asked = [measure for measure in get_args(Asked) if measure in measures]
    if not asked:
        return {}
    made = dict(given) if isinstance(given, Mapping) else dict(map(_made, given or (EMBEDDED,)))
    for name, generator in made.items():
        # Not isinstance of the protocol: that looks at `context_window`, for which a local model is loaded.
        if "likelihood" in asked and not hasattr(generator, "logprobs_batch"):
            raise InvalidInputError(
                f"{name} does not say how likely it finds a given answer, as chat endpoints do not; measure answers "
                "with it, and likelihood with local models, in two runs with the same --out"
            )
        if "distraction" in asked and not isinstance(generator, LocalGenerator):
            raise InvalidInputError(f"distraction needs a local model, but {name} is none; measure answers with it")
    return made


def _made(name: str) -> tuple[str, Generator]:
    at = next((name.find(sign) for sign in _ENDPOINT if sign in name), -1)
    if at > 0:
        url = name[at + 1 :]
        # With the class's own length of answers: a model that thinks first needs more than an answer's few tokens.
        made = OpenAIGenerator(model=name[:at], base_url=url)
        # Without a password in it: the name stands in results and reports.
        return f"{name[:at]}@{urlsplit(url)._replace(netloc=urlsplit(url).netloc.rpartition('@')[2]).geturl()}", made
    if name.startswith(("http://", "https://", *_ENDPOINT)):
        raise InvalidInputError("a generator behind an endpoint is MODEL@URL, such as qwen3@http://localhost:8000/v1")
    return name, LocalGenerator(None if name == EMBEDDED else name, max_new_tokens=_ANSWER_TOKENS)


def ask(measure: str, generator: Generator, question: Question, contexts: Sequence[Context]) -> list[Values]:
    """A generator's measure of many contexts of one question, as one batch; equal prompts are asked once."""
    return _ASK[cast("Asked", measure)](generator, question, contexts)


def _likelihood(generator: Generator, question: Question, contexts: Sequence[Context]) -> list[Values]:
    found = answer_log_likelihood(cast("ScoringGenerator", generator), question, contexts)
    return [{"likelihood": value} for value in found]


def _answers(generator: Generator, question: Question, contexts: Sequence[Context]) -> list[Values]:
    prompts = [prompt(question.text, context.passages, context.rendering) for context in contexts]
    different = list(dict.fromkeys(prompts))
    found = dict(zip(different, generator.generate_batch(different), strict=True))
    return [
        {"em": exact_match(found[one], question.answers), "f1": f1(found[one], question.answers)} for one in prompts
    ]


def _distraction(generator: Generator, question: Question, contexts: Sequence[Context]) -> list[Values]:
    abstention = Abstention(cast("LocalGenerator", generator).language_model)
    return [{"distraction": effect} for effect in distraction(abstention, question, contexts)]


_ASK: dict[Asked, Callable[[Generator, Question, Sequence[Context]], list[Values]]] = {
    "likelihood": _likelihood,
    "answers": _answers,
    "distraction": _distraction,
}
