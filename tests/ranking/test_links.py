"""A sentence that names another passage's title links the two."""

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ctxshaper import Budget, Context, EvidenceFilter, Parts, Passage, Run
from ctxshaper.ranking.links import link_features, title_links
from ctxshaper.stages.evidence_filter.scores import ATTENTION_WEIGHTS, Evidence
from ctxshaper.stages.units import units_of
from ctxshaper.text.terms import terms


def test_who_names_whose_title():
    titles = ["Welcome to the Show", "Sulli (singer)", "Sulli (singer)", "", "X"]
    texts = ["It starred SULLI, and x.", "Sullivan was not in it.", "Sulli sang.", "Welcome, to the show!", "X, Sulli."]
    links = title_links(titles, texts, np.array([0, 0, 1, 3, 4]))
    # Neither part of a word, nor a title of one letter, nor a piece of the same document counts.
    assert sorted(map(tuple, links.tolist())) == [(0, 1), (0, 2), (3, 0), (4, 1), (4, 2)]


def test_likely_units_lend_to_what_they_name_and_unlikely_ones_do_not():
    owners = np.array([0, 0, 1, 2])
    links = np.array([[0, 1], [1, 2]])
    named, names = link_features(links, owners, np.array([5.0, -5.0, 0.0, -1.0])).T
    assert named[2] > 2.5
    assert named[3] < 0.01
    assert named[0] == named[1] == 0
    assert names[0] > names[1] > 0
    assert names[2] == names[3] == 0


def test_no_titles_no_links():
    assert not link_features(title_links(["", ""], ["a b", "b"], np.array([0, 1])), np.array([0, 1]), np.zeros(2)).any()


BRIDGE = [
    Passage("The Arno Bridge was designed by Ada Moreau. It is long.", metadata={"title": "Arno Bridge"}),
    Passage("She was born in Ghent. She liked sailing.", metadata={"title": "Ada Moreau"}),
    Passage("He was born in Lyon. He liked chess.", metadata={"title": "Paul Verne"}),
]


def test_a_bridge_raises_the_passage_it_leads_to_whatever_the_order(reader):
    run, gained = Run(Parts(reader=reader)), []
    for order in ([0, 1, 2], [2, 1, 0]):
        passages = tuple(BRIDGE[i] for i in order)
        context = Context("Where was the designer of the Arno Bridge born?", passages, reader.count_tokens)
        evidence = Evidence(context, units_of(context, "sentence"), run, embedding=False, bm25=False)
        alone = evidence.features() @ np.array(ATTENTION_WEIGHTS)
        gained.append(evidence.links(alone)[:, 0].reshape(3, 2)[np.argsort(order)])
    np.testing.assert_allclose(gained[0], gained[1], atol=1e-9)
    assert (gained[0][1] > 1).all()
    assert not gained[0][2].any()


def test_the_second_passage_of_a_bridge_is_kept(reader):
    context = Context(
        "Where was the designer of the Arno Bridge born?", tuple(BRIDGE), reader.count_tokens, Budget(share=0.8)
    )
    shaped = EvidenceFilter()(context, Parts(reader=reader))
    assert "Ghent" in shaped.text
    assert "chess" not in shaped.text
    assert shaped.tokens <= shaped.limit


WORDS = st.lists(st.sampled_from(["a", "b", "Ab", "the", "the b", "(x)", "(", ")", ",", "字", "É"]), max_size=9).map(
    " ".join
)


@given(st.lists(WORDS, min_size=1, max_size=5), st.lists(WORDS, max_size=6))
def test_names_are_found_as_if_each_were_sought_by_itself(titles, texts):
    owners = np.array([i % len(titles) for i in range(len(texts))], dtype=np.int64)
    bare = [re.sub(r"\s*\([^()]*\)\s*$", "", title) or title for title in titles]
    names = [f" {' '.join(terms(title))} " for title in bare]
    expected = [
        (unit, passage)
        for unit, (owner, text) in enumerate(zip(owners, texts, strict=True))
        for passage, name in enumerate(names)
        if len(name) >= 5 and names[owner] != name and name in f" {' '.join(terms(text))} "
    ]
    assert sorted(map(tuple, title_links(titles, texts, owners).tolist())) == expected
