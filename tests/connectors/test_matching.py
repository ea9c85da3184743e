"""Finding words: right against brute force, and linear in texts and answers."""

import time
from difflib import SequenceMatcher

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxshaper.connectors.matching import SHORTEST_RUN, find_loosely, longest_run


@pytest.mark.parametrize(
    ("text", "words", "found"),
    [
        ("Straße und STRASSE", "strasse UND", "Straße und"),
        ("Die Straße.", "rasse", "raße"),
        ("a  b\n\tc d", "B C", "b\n\tc"),
        ("Said «Ada Moreau».", '"ada moreau!"', "Ada Moreau"),
        ("İstanbul is big", "istanbul is", None),  # a dotted capital folds to two characters, and is another letter
        ("x ... y", "...", "..."),
        ("abc", "d", None),
    ],
)
def test_words_are_found_whatever_their_case_and_white_space(text, words, found):
    place = find_loosely(["nothing", text], words)
    assert (place and (place[0], text[place[1].start : place[1].end])) == (found and (1, found))


@settings(max_examples=500, deadline=None)
@given(st.lists(st.text("ab", min_size=1, max_size=2), max_size=30), st.lists(st.sampled_from(["a", "b", "ab"])))
def test_the_longest_run_is_the_one_that_brute_force_finds(text, answer):
    match = SequenceMatcher(None, answer, text, autojunk=False).find_longest_match()
    found = longest_run([" ".join(text)], " ".join(answer))
    if match.size < SHORTEST_RUN:
        assert found is None
        return
    span = found[1]
    words = " ".join(text)[span.start : span.end].split()
    assert len(words) == match.size
    assert " ".join(words) in " ".join(answer)


def test_the_longest_run_of_all_texts_counts_and_the_first_of_equals():
    texts = ["one two three four", "x one two three four five", "one two three four five"]
    place, span = longest_run(texts, "Zero, one two three four five.")
    assert (place, texts[place][span.start : span.end]) == (1, "one two three four five")


HOSTILE = {
    "repeated words": lambda n: ("a " * (n // 2), "a " * (n // 4) + "b"),
    "nearly repeated": lambda n: ("a a b " * (n // 6), "a a a b " * (n // 8)),
    "white space": lambda n: ("a" + " " * n + "b", "a" + " " * (n // 2) + "c"),
    "one long word": lambda n: ("a" * n, "a" * (n // 2) + "b"),
    "punctuation": lambda n: ("(" * n, '"' * n + "x"),
    "signs that fold longer": lambda n: ("ß" * n, "s" * n + "t"),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_the_work_is_linear_in_text_and_answer(make):
    def seconds(n):
        text, answer = make(n)
        best = float("inf")
        for _ in range(3):
            started = time.process_time()
            find_loosely([text], answer)
            longest_run([text], answer)
            best = min(best, time.process_time() - started)
        return best

    # Eight times the text: quadratic work would take 64 times as long.
    assert seconds(160_000) < 24 * max(seconds(20_000), 0.002)
