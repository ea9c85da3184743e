"""A comparison measures everything once, forgets for a sample of questions only, and asks each generator for itself."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ctxshaper import FakeGenerator, FakeReader, InvalidInputError, LocalGenerator, OpenAIGenerator, Passage
from ctxshaper.evaluation import Comparison, Question, load_questions, summarize, to_html
from ctxshaper.evaluation.asking import generators_of
from ctxshaper.evaluation.order import in_order
from ctxshaper.evaluation.questions import made_up_questions

QUESTIONS = [
    Question(q.text, q.answers, q.passages[:4], q.gold & set(range(4)), id=str(number))
    for number, q in enumerate(made_up_questions()[:3])
]


def about(*documents):
    """A question for each name, about the document of that name."""
    return [Question(f"{n}?", (), (Passage(name),), frozenset()) for n, name in enumerate(documents)]


@pytest.mark.parametrize(
    ("documents", "order", "cold"),
    [
        ("a", "0", "0"),
        ("abc", "012", "0"),
        ("abcdefgh", "04123567", "04"),
        ("aabbaabb", "01452367", "0"),
        ("aaabbbcccdddeee", "01267834591011121314", "06"),
    ],
)
def test_passages_are_forgotten_at_a_sample_and_never_while_they_are_needed(documents, order, cold):
    asked = in_order(about(*documents))
    assert "".join(question.text[:-1] for question, _ in asked) == order
    assert "".join(question.text[:-1] for question, forget in asked if forget) == cold


def test_of_many_questions_eight_are_read_anew():
    asked = in_order(about(*map(str, range(100))))
    assert [forget for _, forget in asked] == [True] * 8 + [False] * 92
    assert [question.text for question, _ in asked[:8]] == ["0?", "12?", "25?", "37?", "50?", "62?", "75?", "87?"]
    assert in_order([]) == []


def test_what_is_read_after_the_sample_stays_read(reader, tmp_path):
    passages = made_up_questions()[0].passages
    others = [Question("Who?", (), passages[n : n + 2], frozenset(), id=str(n)) for n in (4, 6)]
    rows = Comparison(["fast", "baseline:first-k"], ["30%", "60%"], reader=reader).run(
        [*QUESTIONS, *others], tmp_path / "r"
    )
    assert [row["question"] for row in rows[::4]] == ["0", "1", "2", "4", "6"]
    # Three questions are over the same passages: each recipe forgets what it read once, at its first budget.
    cold = [(row["question"], row["recipe"], row["budget"]) for row in rows if row["cold_ms"] is not None]
    assert cold == [("0", "fast", "30%"), ("0", "baseline:first-k", "30%")]
    # The second recipe forgot as well; the other questions' reading is all there.
    assert len(reader.cache) == len(passages[:8])
    assert all(row["warm_ms"] > 0 for row in rows)
    summary = summarize(rows, data="made up")
    fast = summary.lines[0]
    assert to_html(summary).count("; n = 1</small>") == 2
    assert (fast.values["cold_ms"].count, fast.values["warm_ms"].count) == (1, 5)


def compare(file, measures=("likelihood", "answers"), **generators):
    comparison = Comparison(
        ["fast", "baseline:first-k"], ["30%", "60%"], measures, generators=generators, reader=FakeReader()
    )
    return comparison, comparison.run(QUESTIONS, file)


def test_a_further_generator_is_asked_and_nothing_else_is_done_again(tmp_path):
    file = tmp_path / "results.jsonl"
    right = FakeGenerator(lambda text: next(q.answers[0] for q in QUESTIONS if text.endswith(q.text)))
    _, alone = compare(file, right=right)
    assert {row["em"] for row in alone} == {1.0}
    written, asked = file.read_text(), len(right.prompts)
    # Four shaped contexts, and all, the gold passages and none; what is the same is asked once.
    assert len(alone) == 3 * 7
    assert 3 * 3 < asked < 3 * 7

    wrong = FakeGenerator("no idea")
    comparison, rows = compare(file, right=right, wrong=wrong)
    assert len(right.prompts) == asked == len(wrong.prompts)
    assert file.read_text().startswith(written)
    added = [json.loads(line) for line in file.read_text().removeprefix(written).splitlines()]
    assert {row["generator"] for row in added} == {"wrong"}
    assert len(added) == 2 * 3 * 7
    assert comparison.asked == ["right", "wrong"]
    assert {row["em@right"] for row in rows} == {1.0}
    assert {row["em@wrong"] for row in rows} == {0.0}
    assert [row["likelihood@wrong"] for row in rows] == [row["likelihood"] for row in alone]

    summary = summarize(rows, data="made up", settings={})
    assert {"em@right", "em@wrong"} <= set(summary.measures)
    assert summary.lines[0].against["em@wrong over full"].gain == 0
    assert "exact match, wrong</th>" in to_html(summary)


def test_without_a_generator_to_ask_none_is_made(tmp_path):
    comparison, rows = compare(tmp_path / "r", measures=(), nobody=FakeGenerator([]))
    assert comparison.asked == []
    assert {row["recipe"] for row in rows} == {"fast", "baseline:first-k"}


def test_references_hold_all_the_gold_and_nothing(tmp_path):
    _, rows = compare(tmp_path / "r", one=FakeGenerator("x"))
    kept = {name: [row["tokens_kept"] for row in rows if row["recipe"] == name] for name in ("full", "gold", "none")}
    assert set(kept["full"]) == {1.0}
    assert set(kept["none"]) == {0.0}
    assert all(0 < share < 1 for share in kept["gold"])
    likely = {name: [row["likelihood"] for row in rows if row["recipe"] == name] for name in ("gold", "none")}
    assert all(none < gold for none, gold in zip(likely["none"], likely["gold"], strict=True))


def test_generators_are_called_by_their_names_without_passwords():
    made = generators_of(["embedded", "qwen3:4b@http://ada:secret@localhost:8000/v1"], ["answers"])
    assert list(made) == ["embedded", "qwen3:4b@http://localhost:8000/v1"]
    local, endpoint = made.values()
    assert isinstance(local, LocalGenerator)
    assert isinstance(endpoint, OpenAIGenerator)
    assert (endpoint.model, endpoint.base_url) == ("qwen3:4b", "http://ada:secret@localhost:8000/v1")
    assert list(generators_of((), ["likelihood"])) == ["embedded"]


def test_an_endpoint_is_asked_each_prompt_once(tmp_path):
    seen = []

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            seen.append((self.path, body["model"], body["messages"][-1]["content"]))
            answer = json.dumps({"choices": [{"message": {"content": "In 1931."}}]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        name = f"tiny@http://127.0.0.1:{server.server_port}/v1"
        comparison = Comparison(["fast"], ["50%", "100%"], ["answers"], generators=[name], reader=FakeReader())
        rows = comparison.run(QUESTIONS[:1], tmp_path / "r")
        server.shutdown()
    # At 100% all is kept, as in the full context.
    assert len(rows) == 5
    assert len(seen) == 4 == len(set(seen))
    assert {(path, model) for path, model, _ in seen} == {("/v1/chat/completions", "tiny")}
    assert QUESTIONS[0].answers == ("1931",)
    assert {row["f1"] for row in rows} == {2 / 3}


@pytest.mark.parametrize(
    ("generators", "measure", "message"),
    [
        (["m@https://host/v1"], "likelihood", "m@https://host/v1 does not say how likely"),
        (["m@https://host/v1"], "distraction", "distraction needs a local model"),
        (["https://host/v1"], "answers", "is MODEL@URL"),
        ({"mine": FakeGenerator("x")}, "distraction", "distraction needs a local model, but mine is none"),
    ],
)
def test_what_a_generator_cannot_do_is_refused_before_anything_is_measured(generators, measure, message):
    with pytest.raises(InvalidInputError, match=message):
        Comparison(["fast"], ["30%"], [measure], generators=generators)


def test_abstaining_is_right_where_nothing_answers(reader, tmp_path):
    asked = made_up_questions()[0]
    (gold,) = asked.gold
    answers, other = asked.passages[gold].source, [asked.passages[gold + n].source for n in (1, 2)]
    lines = [
        {"query": asked.text, "passages": other, "evidence": []},
        {"query": asked.text, "passages": [answers, *other], "evidence": [{"passage": 0}]},
        {"query": asked.text, "passages": [*other, answers]},
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, lines)))
    questions = load_questions(tmp_path / "q.jsonl")
    assert [q.unanswerable for q in questions] == [True, False, False]
    rows = Comparison(["fast", "baseline:first-k"], ["60%"], reader=reader).run(questions, tmp_path / "r")
    found = [{name: row[name] for name in row if name.startswith("abstained")} for row in rows]
    right, calm = {"abstained_rightly": 1.0}, {"abstained_wrongly": 0.0}
    # A baseline never abstains. Of the third question nobody says whether anything answers.
    assert found == [right, {"abstained_rightly": 0.0}, calm, calm, {}, {}]
    # The budget is kept all the same; the recipe says what it thinks.
    assert rows[0]["tokens"] > 0
