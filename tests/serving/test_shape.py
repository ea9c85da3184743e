"""`/v1/shape` gives what `Pipeline.shape` gives, and says what is wrong with a request."""

import httpx
import pytest

from ctxshaper import Passage, Pipeline

QUESTION = "Who designed the Ember Bridge?"
PASSAGES = [
    {"id": "a", "title": "Ember Bridge", "text": "It was designed by Ada Moreau. It is red. Boats pass under it."},
    "Bananas are rich in potassium. They grow in warm countries.",
    {"id": "c", "text": "The Ember Bridge is in Lyon. 字 é ‏ 👩‍👧 stays as it is.", "score": 0.5, "lang": "en"},
]


def post(url, body, path="/v1/shape", **options):
    return httpx.post(f"{url}{path}", json=body, timeout=60, **options)


def test_it_is_what_the_pipeline_gives(url, reader, embedder):
    answer = post(url, {"query": QUESTION, "passages": PASSAGES, "budget": "50%", "trace": True}).json()
    given = [
        Passage(PASSAGES[0]["text"], id="a", metadata={"title": "Ember Bridge"}),
        Passage(PASSAGES[1]),
        Passage(PASSAGES[2]["text"], id="c", score=0.5, metadata={"lang": "en"}),
    ]
    shaped = Pipeline.from_recipe("qa", reader=reader, embedder=embedder).shape(QUESTION, given, "50%")
    assert answer["text"] == shaped.text
    assert (answer["tokens"], answer["tokens_in"]) == (shaped.tokens, shaped.tokens_in)
    assert answer["tokens"] <= answer["tokens_in"] / 2
    assert answer["answerable"] == pytest.approx(shaped.answerable, abs=1e-6)
    assert answer["model"] == "qa"
    assert [stage["stage"] for stage in answer["trace"]["stages"]] == [stage.stage for stage in shaped.trace.stages]
    for passage, own in zip(answer["passages"], shaped.passages, strict=True):
        assert passage["index"] == own.rank
        assert passage["spans"] == [[s.start, s.end] for s in own.spans]
        assert passage["text"] == own.text


@pytest.mark.parametrize("budget", [20, 0.5, "50%", "20", "auto", None])
def test_budgets_are_spelled_as_everywhere(fake_url, budget):
    answer = post(fake_url, {"query": QUESTION, "passages": PASSAGES, "budget": budget})
    assert answer.status_code == 200
    assert answer.json()["tokens"] <= (20 if budget in (20, "20") else answer.json()["tokens_in"])


def test_the_trace_is_sent_only_where_it_is_asked_for(fake_url):
    assert post(fake_url, {"query": QUESTION, "passages": PASSAGES}).json()["trace"] is None


def test_lone_surrogates_and_control_characters_come_back(fake_url):
    raw = '{"query": "bridge", "passages": [{"text": "a bridge \\u0000 \\u001b \\u202e", "n": "\\ud800"}]}'
    answer = httpx.post(f"{fake_url}/v1/shape", content=raw, headers={"content-type": "application/json"})
    assert answer.json()["text"] == "a bridge \x00 \x1b \u202e"


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"passages": ["a"]}, 422, "body.query"),
        ({"query": "", "passages": ["a"]}, 422, "at least 1 character"),
        ({"query": " ", "passages": ["a"]}, 400, "a text with content"),
        ({"query": "q", "passages": "a"}, 422, "body.passages"),
        ({"query": "q", "passages": [{"id": "a"}]}, 400, "passages[0]: not a passage"),
        ({"query": "q", "passages": [3]}, 422, "body.passages.0"),
        ({"query": "q", "passages": ["a"], "budget": "much"}, 400, "budget"),
        ({"query": "q", "passages": ["a"], "budget": -3}, 400, "budget"),
        ({"query": "q", "passages": ["a"], "model": "gpt-4o"}, 404, "this service has fast"),
        ({"query": "q", "passages": ["a"], "timeout": 0}, 422, "greater than 0"),
        ({"query": "q", "passages": [{"text": "a", "metadata": {"text_format": "cuneiform"}}]}, 400, "cuneiform"),
        ([], 422, "body"),
    ],
)
def test_what_is_wrong_is_said(fake_url, body, status, told):
    answer = post(fake_url, body)
    assert answer.status_code == status
    assert told in answer.json()["message"]
    assert answer.json()["error"]["message"] == answer.json()["message"]


def test_no_passages_are_no_mistake(fake_url):
    assert post(fake_url, {"query": "q", "passages": []}).json()["text"] == ""


def test_passages_are_remembered(url):
    text = "A passage that no other test holds: the Varn is a river of 1,204 kilometres."
    first = post(url, {"passages": [text, text, ""]}, "/v1/index").json()
    assert first["passages"] == 2
    assert first["read_tokens"] > 0
    again = post(url, {"passages": [{"text": text, "id": "x"}], "model": "fast"}, "/v1/index").json()
    assert again == {"passages": 1, "known": 1, "tokens": again["tokens"], "read_tokens": 0}
    assert again["tokens"] > 10


def test_a_deadline_ends_the_work(url):
    texts = [f"Passage {i} of many which nobody has read. " * 40 for i in range(40)]
    answer = post(url, {"query": "q", "passages": texts, "timeout": 0.05})
    assert answer.status_code == 504
    assert answer.json()["error"]["type"] == "deadline_exceeded"
