"""A knowledge graph as passages: what its lines say, what is left of it, and that the triple that answers is kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxshaper import Context, FakeReader, InvalidInputError, Passage, Pipeline
from ctxshaper.connectors.triples import Triple, kept_triples, triples_as_passages
from ctxshaper.stages.units import units_of

DESIGNERS = {"Ember Bridge": "Ada Moreau", "Salt Bridge": "Odo Kern", "Moon Bridge": "Lena Voss"}
TOWNS = {"Ada Moreau": "Oldport", "Odo Kern": "Greywick", "Lena Voss": "Fernhill"}
GRAPH = [
    *((bridge, "designed_by", person) for bridge, person in DESIGNERS.items()),
    *((bridge, "opened_in", year) for bridge, year in zip(DESIGNERS, ("1931", "1958", "1976"), strict=True)),
    *((bridge, "crosses", "the river Lull") for bridge in DESIGNERS),
    *((person, "born_in", town) for person, town in TOWNS.items()),
    *((person, "studied", "engineering") for person in TOWNS),
    *((person, "worked_for", "the harbour board") for person in TOWNS),
]


def units(passages):
    return [(u.passage, u.span) for u in units_of(Context("q", tuple(passages), len), "sentence")]


def test_a_subject_is_a_passage_and_a_triple_is_a_line():
    first, *rest = triples_as_passages(GRAPH)
    assert first.title == "Ember Bridge"
    assert first.source == (
        "- Ember Bridge designed by Ada Moreau\n- Ember Bridge opened in 1931\n- Ember Bridge crosses the river Lull"
    )
    assert first.metadata["triples"] == tuple(t for t in GRAPH if t[0] == "Ember Bridge")
    assert [p.title for p in rest] == ["Salt Bridge", "Moon Bridge", *TOWNS]


def test_every_line_is_a_unit_and_each_unit_gives_back_its_triple():
    passages = triples_as_passages(GRAPH)
    found = []
    for place, span in units(passages):
        found += (one := kept_triples([passages[place].keep([span])]))
        assert len(one) == 1
    assert sorted(found) == sorted(GRAPH)


def test_a_line_of_which_a_part_is_gone_is_not_kept():
    passage = triples_as_passages(GRAPH)[0]
    (_, line), *_ = units([passage])
    assert kept_triples([passage.keep([type(line)(line.start, line.end - 3)])]) == []
    assert kept_triples([passage.keep([type(line)(line.start + 1, line.end)])]) == []


TEXT = st.text(min_size=1, max_size=30).filter(str.strip)


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=12))
def test_any_texts_come_back_as_they_were_given(triples):
    passages = triples_as_passages(triples)
    assert set(kept_triples(passages)) == set(triples)
    assert sum(len(p.source.split("\n")) for p in passages) == len(set(triples))
    shaped = Pipeline([], reader=FakeReader()).shape("q", passages)
    assert set(kept_triples(shaped)) == set(triples)


def test_what_a_graph_gives_twice_is_said_once():
    once, twice = triples_as_passages(GRAPH[:1]), triples_as_passages([GRAPH[0], list(GRAPH[0]), Triple(*GRAPH[0])])
    assert once == twice


def test_lines_that_read_alike_but_for_their_subjects_are_all_kept():
    shaped = Pipeline.from_recipe("fast", reader=FakeReader()).shape("river", triples_as_passages(GRAPH), budget="100%")
    assert set(kept_triples(shaped)) == set(GRAPH)


def test_other_passages_hold_no_triples():
    assert kept_triples([Passage("Tea is hot."), *triples_as_passages(GRAPH[:1])]) == GRAPH[:1]


@pytest.mark.parametrize("wrong", [("a", "b"), ("a", "b", "c", "d"), ("a", "b", 1), ("a", " ", "c"), "abc", None, {}])
def test_what_is_no_triple_is_refused(wrong):
    with pytest.raises(InvalidInputError, match="subject, relation, object"):
        triples_as_passages([GRAPH[0], wrong])


def test_metadata_that_does_not_fit_the_lines_is_refused():
    wrong = Passage("- Tea is hot", metadata={"triples": GRAPH[:2]})
    with pytest.raises(InvalidInputError, match="1 lines and 2 triples"):
        kept_triples([wrong])


@pytest.mark.parametrize(
    ("question", "answers"),
    [
        ("Who designed the Salt Bridge?", [("Salt Bridge", "designed_by", "Odo Kern")]),
        ("When was the Moon Bridge opened?", [("Moon Bridge", "opened_in", "1976")]),
        ("Where was Ada Moreau born?", [("Ada Moreau", "born_in", "Oldport")]),
        (
            "In which town was the designer of the Moon Bridge born?",
            [("Moon Bridge", "designed_by", "Lena Voss"), ("Lena Voss", "born_in", "Fernhill")],
        ),
    ],
)
def test_the_triples_that_answer_are_kept_at_a_small_budget(reader, question, answers):
    shaped = Pipeline.from_recipe("fast", reader=reader).shape(question, triples_as_passages(GRAPH), budget="25%")
    kept = kept_triples(shaped)
    assert set(answers) <= set(kept)
    assert len(kept) <= len(GRAPH) / 3


def test_llama_index_gives_triples():
    from llama_index.core.graph_stores import SimpleGraphStore, SimplePropertyGraphStore
    from llama_index.core.graph_stores.types import EntityNode, Relation

    simple, labelled = SimpleGraphStore(), SimplePropertyGraphStore()
    for subject, relation, name in GRAPH:
        simple.upsert_triplet(subject, relation, name)
        labelled.upsert_nodes([EntityNode(name=subject), EntityNode(name=name)])
        labelled.upsert_relations([Relation(label=relation, source_id=subject, target_id=name)])
    rows = [row for rows in simple.get_rel_map(depth=1, limit=100).values() for row in rows]
    edges = [(s.id, r.label, o.id) for s, r, o in labelled.get_triplets(entity_names=[*DESIGNERS, *TOWNS])]
    for given_by_it in (rows, edges):
        assert set(kept_triples(triples_as_passages(given_by_it))) == set(GRAPH)


def test_langchain_gives_triples():
    from langchain_community.graphs.graph_document import GraphDocument, Node, Relationship
    from langchain_community.graphs.networkx_graph import KnowledgeTriple
    from langchain_core.documents import Document

    edges = [Relationship(source=Node(id=s), target=Node(id=o), type=r) for s, r, o in GRAPH]
    graph = GraphDocument(nodes=[], relationships=edges, source=Document(""))
    triples = [(str(edge.source.id), edge.type, str(edge.target.id)) for edge in graph.relationships]
    for given_by_it in (triples, [KnowledgeTriple(*triple) for triple in GRAPH]):
        assert kept_triples(triples_as_passages(given_by_it)) == kept_triples(triples_as_passages(GRAPH))
