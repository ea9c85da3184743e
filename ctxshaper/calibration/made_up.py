"""Made-up questions with known evidence, in several kinds and languages, for `calibrate` without data."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import cycle, islice, product
from typing import Any

import yaml

from ctxshaper.data import Passage, Span
from ctxshaper.errors import InvalidInputError


@dataclass(frozen=True)
class EvidenceQuestion:
    """A question whose evidence is known to the character.

    Attributes:
        query: the question.
        passages: in the order of the data.
        gold: by passage, where its evidence lies in its source; empty for passages without.
        kind: what kind of question it is, and in what language, if known.
    """

    query: str
    passages: tuple[Passage, ...]
    gold: tuple[tuple[Span, ...], ...]
    kind: str = ""


def worlds() -> dict[str, dict[str, Any]]:
    """The patterns by language, as they ship."""
    text = files("ctxshaper.calibration").joinpath("data", "synthetic.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return found


def synthetic_questions(count: int, *, languages: Sequence[str] | None = None, seed: int = 0) -> list[EvidenceQuestion]:
    """Questions about buildings that never were: every passage tells the same kinds of facts about another one.

    So each passage misleads: only the name tells the right designer from the wrong ones. Kinds: facts, numbers, dates,
    lists, paraphrase (question and evidence share no words), two hops, comparison, and who is *denied* to be the
    designer. The passages of one question in four have no titles; in half of the questions the passages without
    evidence tell only half of the facts.

    Args:
        count: how many; kinds and languages take turns, so that a multiple of 10 times the languages is balanced.
        languages: of "en", "de", "fr", "es", "zh"; None for all.
        seed: the same seed gives the same questions.

    Raises:
        InvalidInputError: an unknown language, or less than one question.
    """
    known = worlds()
    wanted = list(languages or known)
    unknown = sorted(set(wanted) - set(known))
    if unknown or count < 1:
        raise InvalidInputError(
            f"count must be at least 1 and languages of {', '.join(known)}, but got {count} and {wanted}"
        )
    kinds = list(known[wanted[0]]["questions"])
    random_ = random.Random(seed)  # noqa: S311  # no secret
    # Diagonally, so that a small number holds many kinds and all languages.
    pairs = sorted(product(range(len(kinds)), range(len(wanted))), key=lambda p: ((p[0] - p[1]) % len(kinds), p[1]))
    turns = islice(cycle(pairs), count)
    return [_question(known[wanted[lang]], kinds[kind], wanted[lang], random_) for kind, lang in turns]


def _question(world: Mapping[str, Any], kind: str, language: str, random_: random.Random) -> EvidenceQuestion:
    """Five buildings and three designers; the question is about the first building and, if so asked, the second."""
    stems = random_.sample(world["stems"], 5)
    things = [random_.choice(world["things"]).format(stem=stem) for stem in stems]
    space = "" if world["joint"] == "" else " "
    # What retrievers return has a title more often than not.
    titled = random_.random() < 0.75
    givens, families = random_.sample(world["given"], 10), random_.sample(world["family"], 10)
    people = [f"{g}{space}{f}" for g, f in zip(givens, families, strict=True)]
    towns = random_.sample(world["towns"], 8)
    # Three of the five designers have a passage of their own, among them that of the first building.
    told = [
        *(
            (thing, "thing", {"thing": thing, "person": people[i], "other": people[5 + i], "town": towns[i]})
            for i, thing in enumerate(things)
        ),
        *((people[i], "person", {"person": people[i], "town": towns[5 + i]}) for i in range(3)),
    ]
    years, built = random_.sample(range(1780, 1990), 5), random_.sample(range(1700, 1780), 5)
    months, materials = random_.sample(world["months"], 5), random_.sample(world["materials"], 5)
    lengths = random_.sample(range(20, 400), 5)
    asked = world["questions"][kind]
    owners = {"": 0, "rival": 1, "designer": 5}
    wanted = [(owners[owner], name) for owner, _, name in (fact.rpartition(".") for fact in asked["gold"])]
    # In half of the questions the others tell only half of the facts, so that words of the question may be rare.
    loose, needed = random_.random() < 0.5, {number for number, _ in wanted}
    passages, where = [], {}
    for number, (title, sort, names) in enumerate(told):
        values = {
            **names,
            "year": years[number % 5],
            "length": lengths[number % 5],
            "built": built[number % 5],
            "month": months[number % 5],
            "material": materials[number % 5],
        }
        known = world[sort]
        if loose and number not in needed:
            dropped = random_.sample(sorted(set(known) - {"idle", next(iter(known))}), (len(known) - 1) // 2)
            known = {fact: patterns for fact, patterns in known.items() if fact not in dropped}
        text, spans = _passage(known, values, world["joint"], random_)
        passages.append(Passage(text, metadata={"title": title[0].upper() + title[1:]} if titled else {}))
        where[number] = spans
    query = random_.choice(asked["ask"]).format(thing=things[0], person=people[0], rival=things[1])
    gold: dict[int, list[Span]] = {}
    for number, name in wanted:
        gold.setdefault(number, []).append(where[number][name])
    order = random_.sample(range(len(passages)), len(passages))
    return EvidenceQuestion(
        query,
        tuple(passages[i] for i in order),
        tuple(tuple(sorted(gold.get(i, ()))) for i in order),
        f"{kind}/{language}",
    )


def _passage(
    patterns: Mapping[str, Sequence[str]], values: Mapping[str, Any], joint: str, random_: random.Random
) -> tuple[str, dict[str, Span]]:
    """The text, its first sentence the one that names its subject, and where each fact stands in it."""
    first, *facts = [(fact, random_.choice(patterns[fact])) for fact in patterns if fact != "idle"]
    facts += [("idle", pattern) for pattern in random_.sample(patterns["idle"], 2)]
    random_.shuffle(facts)
    text, spans = "", {}
    for fact, pattern in (first, *facts):
        start = len(text) + (len(joint) if text else 0)
        told = pattern.format(**values)
        text += (joint if text else "") + told[0].upper() + told[1:]
        spans[fact] = Span(start, len(text))
    return text, spans
