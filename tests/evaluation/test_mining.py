"""Mining finds what is near and never what answers; a run that was cut off goes on."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxshaper import InvalidInputError, Passage
from ctxshaper.evaluation.mining import KINDS, CorpusIndex, MinedFile, holds_answer, retrieved, skewed, written
from ctxshaper.evaluation.questions import made_up_questions

CORPUS = [
    *made_up_questions()[0].passages,
    Passage("The Halvorsen Bridge is 300 metres long and carries two lanes.", id="near"),
    Passage("HALVORSEN bridge: opened, 1931.", id="answers"),
]
QUESTION, ANSWERS = "In which year was the Halvorsen Bridge opened?", ("1931",)


@pytest.fixture(scope="module")
def index():
    return CorpusIndex(CORPUS)


@pytest.mark.parametrize(
    ("text", "answers", "held"),
    [
        ("It was opened in 1931.", ["1931"], True),
        ("It has 19312 bolts.", ["1931"], False),
        ("Dr Jesse\nBENNETT did it", ["Dr. Jesse Bennett"], True),
        ("他在北京出生。", ["北京"], True),
        ("Er wohnt in der Straße.", ["strasse"], True),
        ("nothing", [""], False),
        ("nothing", ["..."], False),
        ("a b", ["x", "b"], True),
    ],
)
def test_whether_an_answer_is_held(text, answers, held):
    assert holds_answer(text, answers) == held


@given(st.text(max_size=20), st.text(alphabet="abc1 ", min_size=1).filter(str.strip), st.text(max_size=20))
def test_an_answer_between_spaces_is_always_found(before, answer, after):
    assert holds_answer(f"{before} {answer} {after}", [answer.upper()])


@pytest.mark.parametrize("skew", ["standard", "sub", "proj"])
def test_hits_are_near_and_never_answer(index, skew):
    found = retrieved(index, QUESTION, ANSWERS, skew=skew, count=4, weight=0.5)
    assert [d.rank for d in found] == [0, 1, 2, 3]
    assert all(not holds_answer(d.text, ANSWERS) for d in found)
    assert found[0].id == "near"
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
    assert {d.method for d in found} == {skew}


def test_the_standard_search_is_the_inner_product(index):
    found = retrieved(index, QUESTION, ("no such answer",), skew="standard", count=22, pool=22)
    texts = [f"{p.title}\n{p.text}" if p.title else p.text for p in CORPUS]
    expected = index.embedder.embed(texts) @ index.embedder.embed([QUESTION])[0]
    assert [d.score for d in found] == pytest.approx(sorted(map(float, expected), reverse=True), abs=1e-5)


def test_the_skews_are_the_papers_formulas():
    query, answer = np.array([1.0, 2.0, 0.0], np.float32), np.array([0.0, 3.0, 4.0], np.float32)
    assert skewed(query, answer, "standard", 1.0).tolist() == [1, 2, 0]
    assert skewed(query, answer, "sub", 0.5).tolist() == [1, 0.5, -2]
    # The projection with weight 1 leaves nothing of the answer's direction.
    assert float(skewed(query, answer, "proj", 1.0) @ answer) == pytest.approx(0, abs=1e-5)
    assert np.allclose(skewed(query, answer, "proj", 1.0), query - 6 / 25 * answer)
    with pytest.raises(InvalidInputError, match="proj"):
        skewed(query, answer, "up", 1.0)


def test_reranking_orders_and_entailment_excludes(index):
    shortest_first = retrieved(index, QUESTION, ANSWERS, rerank=lambda q, ps: [-len(p.text) for p in ps], count=20)
    lengths = [len(d.text) for d in shortest_first]
    assert lengths == sorted(lengths)
    assert {d.method for d in shortest_first} == {"sub+rerank"}
    seen = []
    none = retrieved(index, QUESTION, ANSWERS, entails=lambda text, statement: bool(seen.append(statement)) or True)
    assert none == []
    assert "1931" in seen[0]


def test_bad_requests_are_refused(index):
    for options in ({"answers": ()}, {"count": 0}, {"pool": 0}, {"weight": -1}):
        with pytest.raises(InvalidInputError):
            retrieved(index, QUESTION, **{"answers": ANSWERS, **options})
    with pytest.raises(InvalidInputError, match="empty"):
        CorpusIndex([])


class Writes:
    def __init__(self, answer):
        self.answer, self.prompts = answer, []

    def generate(self, prompt):
        self.prompts.append(prompt)
        return self.answer


def test_four_kinds_are_written_and_answers_rejected():
    generator = Writes("**Title: The bridge**\n\nIt may have opened in 1950.")
    made = [written(generator, "When {0}?", ANSWERS, kind) for kind in KINDS]
    assert [d.method for d in made] == list(KINDS)
    assert {(d.title, d.text) for d in made} == {("The bridge", "It may have opened in 1950.")}
    assert len(set(generator.prompts)) == 4
    assert all("When {0}?" in prompt for prompt in generator.prompts)
    for useless in ("", "  \n", "It opened in 1931.", "1931\nIt opened.", QUESTION):
        assert written(Writes(useless), QUESTION, ANSWERS, "modal") is None
    assert written(Writes("One line only."), QUESTION, ANSWERS, "modal").text == "One line only."
    with pytest.raises(InvalidInputError, match="hypothetical"):
        written(generator, QUESTION, ANSWERS, "loud")


def test_a_run_that_was_cut_off_goes_on(tmp_path, index):
    file = MinedFile(tmp_path / "mined.jsonl")
    assert file.done() == set()
    found = retrieved(index, QUESTION, ANSWERS, count=2)
    file.add("one", found)
    whole = file.path.read_bytes()
    for rest in (b'{"question": "two", "method": "sub"}\n', b'{"question": "tw', b'{"done": "two"}'):
        file.path.write_bytes(whole + rest)
        assert file.done() == {"one"}
        assert file.path.read_bytes() == whole
    file.add("two", [])
    assert file.done() == {"one", "two"}
    assert list(file) == found
    for foreign in ("hello", "[1]", '{"done": 3}', "[" * 100_000):
        file.path.write_text(foreign + "\n")
        with pytest.raises(InvalidInputError, match="line 1"):
            file.done()
        assert file.path.read_text() == foreign + "\n"


def test_the_file_is_plain_json_lines(tmp_path, index):
    file = MinedFile(tmp_path / "mined.jsonl")
    file.add(QUESTION, retrieved(index, QUESTION, ANSWERS, count=1))
    first, mark = map(json.loads, file.path.read_text().splitlines())
    assert first["id"] == "near"
    assert mark == {"done": QUESTION}
