"""What the benchmark of screening is made of: attacks, hosts, and where an injection lies."""

import random

import pytest

from benchmarks.screening.attacks import FAMILIES, SLOTS, attack
from benchmarks.screening.cases import Case, labels
from benchmarks.screening.hosts import KINDS, hosts, injected, pieces
from benchmarks.screening.triggers import trigger_sentences


@pytest.mark.parametrize("family", FAMILIES)
def test_attacks_are_filled_in_and_repeat(family):
    for half in (0, 1):
        texts = [attack(family, random.Random(n), half) for n in range(40)]
        assert texts == [attack(family, random.Random(n), half) for n in range(40)]
        assert len(set(texts)) > 10
        for text in texts:
            assert not any(f"{{{name}}}" in text for name in [*SLOTS, "drop_low", "task_you"])


def test_the_halves_share_no_words_in_their_slots():
    for words in SLOTS.values():
        assert not set(words[0::2]) & set(words[1::2])
        assert len(words) >= 4


def test_hosts_repeat_and_differ():
    found = hosts(4, 3)
    assert found == hosts(4, 3)
    assert found != hosts(4, 4)
    assert set(found) == set(KINDS)
    for texts in found.values():
        assert len(set(texts)) == len(texts) == 4
        assert all("{" + "person}" not in text for text in texts)


@pytest.fixture(scope="module")
def some_hosts():
    return hosts(6, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_an_injection_lies_where_it_is_said_to(kind, some_hosts):
    draw = random.Random(5)
    for host in some_hosts[kind]:
        text = attack("polite", draw)
        whole, start, end = injected(host, kind, text, draw)
        assert " ".join(text.split()) in " ".join(whole[start:end].split())
        assert len(whole) >= len(host) + len(text)


def test_pieces_are_of_the_size_asked():
    found = pieces("A line of text.\n" * 200, 160)
    assert all(50 < len(piece) <= 160 for piece in found)


def test_sentences_are_labelled_by_how_much_of_them_is_injected():
    case = Case("x", "polite", 0, "." * 100, 20, 40)
    assert labels(case, [(0, 20), (20, 30), (30, 50), (38, 60), (60, 100)]).tolist() == [0, 1, 1, -1, 0]


def test_trigger_sentences_are_many_and_full_of_triggers():
    found = trigger_sentences()
    assert len(set(found)) == 400
    words = (
        "ignor",
        "instruction",
        "system",
        "password",
        "forget",
        "assistant",
        "secret",
        "overrid",
        "disregard",
        "reveal",
    )
    assert sum(any(word in text.lower() for word in words) for text in found) > 350
