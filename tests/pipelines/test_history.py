"""Queries that lean on the questions before them."""

import pytest

from ctxshaper.pipelines.history import understood
from ctxshaper.pipelines.memory import Memory

BEFORE = ["Who designed the bridge of Lyon?", "Where was Ada Moreau born?"]


@pytest.mark.parametrize(
    "query",
    [
        "And in winter?",
        "When did she build it?",
        "What did their council pay for this bridge?",
        "Wann wurde sie gebaut, und von wem?",
        "Was hat der Ingenieur nach dem Krieg davon gehabt?",
        "Quand a-t-elle été construite par la ville ?",
        "Quel est le nom de cette rue dans la ville ?",
        "¿Cuándo fue construido este puente por la ciudad?",
        "为什么呢？",
    ],
)
def test_it_takes_the_last_one_along(query):
    assert understood(query, BEFORE) == f"{BEFORE[1]} {query}"
    assert understood(query, []) == query


@pytest.mark.parametrize(
    "query",
    [
        "Who designed the old bridge over the river?",
        "Who is Ada Moreau, and where did she live?",
        "Capital of France?",
        "Wer hat die alte Brücke über den Fluss gebaut?",
        "Qui a construit le vieux pont sur la rivière ?",
        "¿Quién construyó el viejo puente sobre el río?",
        "里昂的旧桥是谁在什么时候设计的？",
    ],
)
def test_it_stands_by_itself(query):
    assert understood(query, BEFORE) == query


def test_a_question_before_may_lean_too():
    assert understood("And why?", ["Who is Ada?", "When did she die?"]) == "Who is Ada? When did she die? And why?"
    assert understood("And why?", ["First?", "Second?", "Third?"]) == "Second? Third? And why?"
    assert len(understood("And why?", ["long " * 10_000])) < 1_100


def test_what_is_remembered_first_stands_and_what_is_unused_goes():
    memory = Memory(10)
    assert memory.first("a", 1, 4) == 1
    assert memory.first("a", 2, 4) == 1
    memory.first("b", 2, 4)
    assert memory.get("a") == 1
    memory.first("c", 3, 4)
    assert [memory.get(name) for name in "abc"] == [1, None, 3]
    assert memory.first("large", 4, 11) == 4
    assert memory.get("large") is None
    assert memory.get("a") == 1
