"""Probability walks along the rare names that passages share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxshaper import Context, Parts, Passage, Run
from ctxshaper.ranking.walks import name_links, walked
from ctxshaper.stages.evidence_filter.scores import Evidence
from ctxshaper.stages.units import units_of


def links_of(query, *sources, titles=()):
    """Links of passages that are one unit each."""
    titles = titles or [""] * len(sources)
    found = name_links(query, titles, sources, sources, np.arange(len(sources)))
    return {(u, p): w for u, p, w in zip(found.units.tolist(), found.passages.tolist(), found.weights, strict=True)}


def test_a_shared_rare_name_links_and_what_the_question_names_does_not():
    found = links_of("Where does Ada live?", "Ada met Odo Verne.", "Verne, an engineer.", "Ada and others.")
    assert found == {(0, 1): 1.0, (1, 0): 1.0}


def test_a_title_counts_as_its_passages_text_and_small_words_do_not():
    assert links_of("q", "It was by Verne.", "He was tall.", titles=["", "Odo Verne"]) == {(0, 1): 1.0}
    assert links_of("q", "a rare word", "a rare word") == {}


def test_many_names_between_two_passages_count_once():
    once = links_of("q", "Odo went to Lyon.", "Odo.", "Lyon.")
    more = links_of("q", "Odo Verne Moreau went to Lyon.", "Odo Verne Moreau.", "Lyon.")
    assert once == more
    assert more[0, 1] == more[0, 2] == pytest.approx(0.5)


def test_what_many_passages_hold_tells_none_of_them_apart():
    assert links_of("q", *["Odo."] * 3)
    assert not links_of("q", *["Odo."] * 4)


def test_writing_without_capitals_is_linked_by_its_rare_words():
    found = links_of("谁设计了大桥?", "大桥由李明设计。", "李明出生于里昂。", "天下雨了。")
    assert (0, 1) in found
    assert (0, 2) not in found
    assert (0, 1) in links_of("मकान किसने बनाया", "मकान रमेश ने", "रमेश गाँव में")


def test_probability_walks_two_steps_and_only_along_links():
    sources = ["It was by Odo Verne.", "Verne taught Lucy Clay.", "Clay was born in Ghent.", "It rained."]
    links = name_links("Who taught?", [""] * 4, sources, sources, np.arange(4))
    before = np.log([0.97, 0.01, 0.01, 0.01])
    after = np.exp(walked(links, np.arange(4), before))
    assert after.sum() == pytest.approx(1)
    assert after[1] > 0.1
    assert after[2] > 0.015
    assert after[3] < 0.011


def test_within_a_passage_it_goes_to_the_likelier_unit():
    texts = ["By Odo Verne.", "Verne sang.", "He died in Lyon."]
    owners = np.array([0, 1, 1])
    links = name_links("q", ["", ""], [texts[0], " ".join(texts[1:])], texts, owners)
    after = walked(links, owners, np.log([0.9, 0.01, 0.09]))
    assert after[2] > after[1]


def test_without_links_nothing_changes_however_far_behind():
    scores = np.array([0.0, -1.0, -300.0, -301.0])
    links = name_links("q", [""] * 4, ["a", "b", "c", "d"], ["a", "b", "c", "d"], np.arange(4))
    after = walked(links, np.arange(4), scores)
    np.testing.assert_allclose(after - after[0], scores, atol=1e-9)


@given(st.lists(st.text("Aa B.大桥", max_size=12), min_size=1, max_size=6), st.randoms())
def test_the_order_of_passages_changes_nothing(texts, draw):
    order = draw.sample(range(len(texts)), len(texts))
    scores = np.linspace(0, -3, len(texts))

    def of(places):
        there = [texts[i] for i in places]
        links = name_links("q", [""] * len(there), there, there, np.arange(len(there)))
        assert np.bincount(links.units, links.weights)[links.units] == pytest.approx(1)
        return walked(links, np.arange(len(there)), scores[places])[np.argsort(places)]

    np.testing.assert_allclose(of(list(range(len(texts)))), of(order), atol=1e-9)


def test_a_third_hop_gains_with_the_real_models(reader, embedder):
    passages = (
        Passage("The Arno Bridge was designed by Ada Moreau. It is long."),
        Passage("Moreau learned her trade from Odo Verne. She liked sailing."),
        Passage("As a child Verne lived in Ghent. He liked chess."),
        Passage("As a child Luc lived in Lyon. He liked cards."),
    )
    query = "Where did the teacher of the designer of the Arno Bridge live as a child?"
    context = Context(query, passages, reader.count_tokens)
    run = Run(Parts(reader=reader, embedder=embedder))
    evidence = Evidence(context, units_of(context, "sentence"), run, embedding=True, bm25=True)
    after = evidence.scores()
    # What leads on is told from what resembles it as much.
    assert after[4] > after[6]
