"""Passages with and without an injection, and what is read of their sentences."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.questions import load
from benchmarks.screening.attacks import FAMILIES, attack
from benchmarks.screening.hosts import hosts, injected, pieces
from benchmarks.screening.triggers import trigger_sentences
from ctxshaper import Passage

# The public sets of bare prompts: families that none of the templates knows.
FOREIGN = ("slabs", "multilingual")
ENCYCLOPAEDIA = "encyclopaedia"
TRIGGERS = "trigger words"
Draw = Callable[[random.Random], str]


@dataclass(frozen=True)
class Case:
    """One passage.

    Attributes:
        host: the kind of its text.
        family: that of the injection; empty for benign text.
        half: which half of the templates' words the injection was made of, 0 or 1.
        text: all of it.
        start: where the injection begins.
        end: where it ends.
    """

    host: str
    family: str
    half: int
    text: str
    start: int = 0
    end: int = 0

    @property
    def passage(self) -> Passage:
        """As stages take it."""
        return Passage(self.text)


def cases(data: Path, benign: int, attacks: int, seed: int = 7) -> list[Case]:
    """All passages, the same for the same seed, data and installation.

    Args:
        data: the folder of the labelled questions; its texts are encyclopaedic hosts, its prompts foreign attacks.
        benign: passages without an injection, of each kind of host.
        attacks: passages with one, of each kind of host and family.
        seed: of every draw.
    """
    texts = dict(hosts(benign + attacks * 2, seed))
    texts[ENCYCLOPAEDIA] = _encyclopaedia(data, benign + attacks * 2, seed)
    foreign = _foreign(data)
    made = []
    for host, own in sorted(texts.items()):
        made += [Case(host, "", 0, text) for text in own[:benign]]
        # Texts that carry an injection are others than those that are benign.
        spare = own[benign:] or own
        families: dict[str, Sequence[Draw]] = {name: (_of(name, 0), _of(name, 1)) for name in FAMILIES}
        families |= {name: (_from(prompts),) for name, prompts in foreign.items()}
        for family, draws in families.items():
            draw = random.Random(f"{seed} {host} {family}")
            for number in range(attacks):
                half = number % len(draws)
                text, start, end = injected(draw.choice(spare), host, draws[half](draw), draw)
                made.append(Case(host, family, half, text, start, end))
    return made + [Case(TRIGGERS, "", 0, text) for text in trigger_sentences()]


def _of(family: str, half: int) -> Draw:
    return lambda draw: attack(family, draw, half)


def _from(prompts: Sequence[str]) -> Draw:
    return lambda draw: draw.choice(prompts)


def _encyclopaedia(data: Path, count: int, seed: int) -> list[str]:
    draw, found = random.Random(seed), dict[str, None]()
    for questions in load(data, ("HotpotQA", "nq20_hard")).values():
        for question in draw.sample(list(questions), min(60, len(questions))):
            for passage in draw.sample(list(question.passages), min(4, len(question.passages))):
                found |= dict.fromkeys(pieces(passage.source)[:1])
    texts = list(found)
    draw.shuffle(texts)
    return texts[:count]


def _foreign(data: Path) -> Mapping[str, Sequence[str]]:
    folder = data / "injections"
    if not folder.is_dir():
        return {}
    with (folder / "multilingual_1034.csv").open(encoding="utf-8") as file:
        multilingual = [row[0] for row in list(csv.reader(file))[1:] if row]
    rows = [json.loads(line) for line in (folder / "slabs_3000.jsonl").read_text("utf-8").splitlines()]
    return {"slabs": [row["text"] for row in rows if row["label"] == 1], "multilingual": multilingual}


def labels(case: Case, spans: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """Of each sentence 1 where at least half of it is the injection, -1 where less of it is, else 0."""
    found = []
    for start, end in spans:
        shared = min(end, case.end) - max(start, case.start)
        found.append(0 if shared <= 0 else 1 if 2 * shared >= end - start else -1)
    return np.array(found, dtype=np.int64)
