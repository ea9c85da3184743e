"""Every public format becomes the same record; a bad record is named with file and line."""

import gzip
import json
import sys

import pytest

from ctxshaper import InvalidInputError, MissingDependencyError
from ctxshaper.evaluation.loaders import FORMATS, load_questions
from tests.conftest import DATA

STORY = "The mill stood by the river. " * 60 + "Its miller was called Odo. " + "Nobody came to the mill. " * 60

ENTRIES = {
    "hotpotqa": {
        "_id": "h",
        "question": "Who built the mill?",
        "answer": "Odo",
        "context": [["Mill", ["It is old.", " Odo built it."]], ["River", ["It is long."]]],
        "supporting_facts": [["Mill", 1], ["Somewhere else", 0]],
    },
    "2wikimultihopqa": {
        "_id": "w",
        "question": "Who built the mill?",
        "answer": "Odo",
        "context": [["Mill", ["It is old.", "Odo built it."]], ["River", ["It is long."]]],
        "supporting_facts": [["Mill", 1]],
        "evidences": [["Mill", "builder", "Odo"]],
    },
    "musique": {
        "id": "m",
        "question": "Who built the mill?",
        "answer": "Odo",
        "answer_aliases": ["Odo the miller"],
        "paragraphs": [
            {"idx": 0, "title": "Mill", "paragraph_text": "Odo built it.", "is_supporting": True},
            {"idx": 1, "title": "River", "paragraph_text": "It is long.", "is_supporting": False},
        ],
    },
    "lost-in-the-middle": {
        "question": "Who built the mill?",
        "answers": ["Odo"],
        "ctxs": [
            {"title": "Mill", "text": "Odo built it.", "isgold": True, "hasanswer": True, "id": 3},
            {"title": "River", "text": "It is long.", "isgold": False},
        ],
    },
    "rgb": {
        "id": 0,
        "query": "Who built the mill?",
        "answer": [["Odo", "Odo the miller"]],
        "positive": ["Odo built it."],
        "positive_wrong": ["Ida built it."],
        "negative": ["It is long."],
    },
    "longbench": {
        "input": "Who was the miller?",
        "context": STORY,
        "answers": ["Odo"],
        "_id": "l",
        "dataset": "narrativeqa",
    },
    "loogle": {
        "input": STORY,
        "title": "Mill",
        "qa_pairs": str([{"Q": "Who was the miller?", "A": "Odo", "S": ["Its miller was called Odo.", "Not there."]}]),
    },
    "babilong": {"input": STORY, "question": "Who was the miller?", "target": "Odo"},
    "jsonl": {
        "query": "Who built the mill?",
        "passages": ["It is long.", {"text": "It is old. Odo built it.", "title": "Mill", "id": 9}],
        "answers": "Odo",
        "evidence": [{"passage": 1, "text": "Odo built it."}],
    },
}
# The text of the evidence where the format marks sentences.
SENTENCES = {
    "hotpotqa": "Odo built it.",
    "2wikimultihopqa": "Odo built it.",
    "loogle": "Its miller was called Odo.",
    "jsonl": "Odo built it.",
}
UNMARKED = ("longbench", "babilong")


def write(path, *entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ENTRIES)
def test_a_format_is_told_and_read(name, tmp_path):
    (question,) = load_questions(write(tmp_path / "q.jsonl", ENTRIES[name]))
    assert load_questions(tmp_path / "q.jsonl", name) == [question]
    assert "mill" in question.text
    assert question.answers[0] == "Odo"
    assert [p.rank for p in question.passages] == list(range(len(question.passages)))
    holding = {i for i, p in enumerate(question.passages) if "Odo" in p.text}
    assert question.gold == (frozenset() if name in UNMARKED else holding)
    texts = [question.passages[i].source[s.start : s.end] for i, s in question.evidence]
    assert texts == ([SENTENCES[name]] if name in SENTENCES else [])


def test_all_formats_are_tested():
    assert set(FORMATS) == {*ENTRIES, "nolima", "beir"}


@pytest.mark.parametrize("name", ["hotpotqa", "lost-in-the-middle"])
def test_a_list_and_gzip(name, tmp_path):
    expected = load_questions(write(tmp_path / "q.jsonl", ENTRIES[name]))
    (tmp_path / "q.json").write_text(json.dumps([ENTRIES[name]]), encoding="utf-8")
    with gzip.open(tmp_path / "q.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(json.dumps(ENTRIES[name]))
    assert load_questions(tmp_path / "q.json") == load_questions(tmp_path / "q.jsonl.gz") == expected


def test_the_columns_of_the_hub_are_the_same_question(tmp_path):
    rows = dict(ENTRIES["hotpotqa"])
    rows["context"] = {"title": ["Mill", "River"], "sentences": [["It is old.", " Odo built it."], ["It is long."]]}
    rows["supporting_facts"] = {"title": ["Mill", "Somewhere else"], "sent_id": [1, 0]}
    (plain,) = load_questions(write(tmp_path / "a.jsonl", ENTRIES["hotpotqa"]))
    assert load_questions(write(tmp_path / "b.jsonl", rows)) == [plain]


def test_a_long_text_is_cut_verbatim_between_sentences(tmp_path):
    (question,) = load_questions(write(tmp_path / "q.jsonl", ENTRIES["longbench"]))
    assert "".join(p.source for p in question.passages).split() == STORY.split()
    assert 3 <= len(question.passages) <= 5
    assert all(len(p.source) <= 1000 and p.source.strip().endswith(".") for p in question.passages)


def test_loogle_with_one_question_an_entry(tmp_path):
    entry = {"context": STORY, "question": "Who?", "answer": "Odo", "evidence": ["Its miller was called Odo."]}
    (question,) = load_questions(write(tmp_path / "q.jsonl", {**entry, "title": "Mill", "doc_id": "d"}))
    assert len(question.evidence) == 1


def test_nolimas_needle_stands_in_the_hay(tmp_path):
    needle = {
        "id": "0401",
        "needle": "Actually, {CHAR} lives next to {1}.",
        "questions": {"onehop": "Who has been to {2}?"},
        "character_set": ["Odo", "Ida"],
        "tests": {"T1": {"input_args": ["the old mill", "Millham"]}},
    }
    path = tmp_path / "needlesets" / "needle_set.json"
    path.parent.mkdir()
    path.write_text(json.dumps([needle]), encoding="utf-8")
    with pytest.raises(InvalidInputError, match="haystack"):
        load_questions(path)
    (tmp_path / "haystack").mkdir()
    (tmp_path / "haystack" / "book.txt").write_text("It rained that day, and all was grey. " * 200, encoding="utf-8")
    (question,) = load_questions(path)
    assert question.text == "Who has been to Millham?"
    assert question.id == "0401-T1-onehop"
    (answer,) = question.answers
    held = "".join(question.passages[i].source[s.start : s.end] for i, s in question.evidence)
    assert held == f"Actually, {answer} lives next to the old mill."
    assert load_questions(path) == [question]


@pytest.fixture
def beir(tmp_path):
    corpus = [{"_id": f"d{i}", "title": "", "text": f"A mill turns in the wind, number {i}."} for i in range(30)]
    write(tmp_path / "corpus.jsonl", *corpus, {"_id": "gold", "title": "Odo", "text": "He built it."})
    write(tmp_path / "queries.jsonl", {"_id": "q", "text": "Who built the mill in the wind?"})
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tgold\t1\nq\td3\t0\n")
    return tmp_path


def test_beir_retrieves_and_never_misses_the_relevant(beir):
    (question,) = load_questions(beir)
    assert len(question.passages) == 20
    assert {question.passages[i].id for i in question.gold} == {"gold"}
    (beir / "qrels" / "test.tsv").write_text("q\tnowhere\t1\n")
    with pytest.raises(InvalidInputError, match=r"test\.tsv, line 1: the passage 'nowhere'"):
        load_questions(beir)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "q.jsonl, line 2: not JSON"),
        ("[1]", "q.jsonl, line 2: an entry must be a JSON object"),
        ('{"query": "?"}', "q.jsonl, line 2: not an entry of the format jsonl: 'passages' must be a list"),
        ('{"query": "?", "passages": [3]}', "line 2: passage 0: not a passage"),
        ('{"query": "?", "passages": ["a"], "evidence": [{"passage": 4}]}', "line 2.*from 0 to 0"),
        ('{"query": "?", "passages": ["a"], "evidence": [{"passage": 0, "text": "b"}]}', "line 2.*does not hold"),
        ('{"query": "?", "passages": ["a"], "evidence": [{"passage": 0, "start": 0, "end": 5}]}', "line 2.*outside"),
        ('{"query": "?", "passages": ["a"], "evidence": [{"passage": 0, "start": 5, "end": 1}]}', "line 2.*span"),
    ],
)
def test_a_bad_record_is_named(line, message, tmp_path):
    path = write(tmp_path / "q.jsonl", ENTRIES["jsonl"])
    path.write_text(path.read_text() + line + "\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match=message):
        load_questions(path)


def failure(path, name):
    try:
        load_questions(path, name)
    except InvalidInputError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", ENTRIES)
def test_a_field_of_another_kind_is_named(name, tmp_path):
    path, said = tmp_path / "q.jsonl", []
    for field in ENTRIES[name]:
        said.append(failure(write(path, {**ENTRIES[name], field: {"a": 1}}), name))
        said.append(failure(write(path, {k: v for k, v in ENTRIES[name].items() if k != field}), name))
    said = [message for message in said if message]
    assert len(said) >= 3
    assert all("q.jsonl, line 1" in message for message in said)


def test_question_is_taken_for_query_in_our_own_format(tmp_path):
    entry = dict(ENTRIES["jsonl"])
    expected = load_questions(write(tmp_path / "a.jsonl", entry))
    entry["question"] = entry.pop("query")
    assert load_questions(write(tmp_path / "b.jsonl", entry)) == expected


def test_unknown_fields_of_a_passage_are_kept(tmp_path):
    entry = {"query": "?", "passages": [{"text": "a", "page": 3}]}
    (question,) = load_questions(write(tmp_path / "a.jsonl", entry))
    assert question.passages[0].metadata["page"] == 3


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"query": ' + "[" * 100_000, "nested deeper"),
        ('{"query": "?", "passages": ' + "[" * 500 + "]" * 500 + "}", "nested deeper"),
        ('{"query": "?", "passages": ["a"], "answers": NaN}', "NaN is no number"),
        ('{"query": "?", "query": "!", "passages": ["a"]}', "stands twice"),
    ],
)
@pytest.mark.parametrize("name", ["q.jsonl", "q.json"])
def test_json_that_is_not_plain_is_an_error_with_its_line(line, reason, name, tmp_path):
    (tmp_path / name).write_text(line + "\n")
    with pytest.raises(InvalidInputError, match=rf"{name}, line 1: .*{reason}"):
        load_questions(tmp_path / name)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(InvalidInputError, match="no file"):
        load_questions(tmp_path / "nothing.json")
    with pytest.raises(InvalidInputError, match=r"no format 'x'.*hotpotqa"):
        load_questions(tmp_path, "x")
    with pytest.raises(InvalidInputError, match=r"no known format.*colour"):
        load_questions(write(tmp_path / "a.jsonl", {"colour": "red"}))
    with pytest.raises(InvalidInputError, match="no question"):
        load_questions(write(tmp_path / "b.jsonl"))
    with pytest.raises(InvalidInputError, match="qrels"):
        load_questions(tmp_path)


def test_the_hub_needs_datasets(monkeypatch):
    with pytest.raises(InvalidInputError, match="CONFIG:SPLIT"):
        load_questions("hub:one")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependencyError, match="pip install datasets"):
        load_questions("hub:owner/name:test")


@pytest.mark.parametrize(
    ("file", "questions", "passages", "sentences"),
    [
        ("hotpotqa_100.json", 100, 994, 229),
        ("nq20_hard.jsonl", 75, 1500, 0),
        ("rgb_counterfactual.jsonl", 100, 1382, 0),
    ],
)
def test_real_files(file, questions, passages, sentences):
    if not (DATA / file).is_file():
        pytest.skip(f"the evaluation data is not beside the project (../shared/data/{file})")
    found = load_questions(DATA / file)
    assert len(found) == questions
    assert all(q.gold and q.answers for q in found)
    assert sum(len(q.passages) for q in found) == passages
    assert sum(len(q.evidence) for q in found) == sentences
