"""Sessions: what was sent once is sent again byte for byte, whatever the client sends back."""

import asyncio
import copy
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from ctxshaper import Context, DeadlineError, FakeReader, InvalidInputError, Pipeline, Run
from ctxshaper.pipelines import Session
from ctxshaper.stages import Stage
from ctxshaper.text.messages import find
from tests.pipelines.chat_turns import FORMS, LIMIT, TURNS, begins, chat, found, openai, pipeline, requests


@dataclass(frozen=True, kw_only=True)
class Failing(Stage):
    """Fails."""

    def shape(self, context: Context, run: Run) -> Context:
        raise ZeroDivisionError("planned")


@dataclass(frozen=True, kw_only=True)
class Dropping(Stage):
    """Drops everything."""

    def shape(self, context: Context, run: Run) -> Context:
        return context.with_passages(())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("echoes", [False, True])
@pytest.mark.parametrize("markers", [False, True])
def test_each_request_begins_with_the_one_before(form, echoes, markers):
    session = Session(pipeline(), markers=markers)
    sent = None
    for whole in requests(form):
        messages = [*copy.deepcopy(sent), *whole[len(sent) :]] if echoes and sent is not None else whole
        given = copy.deepcopy(messages)
        shaped = session.shape(messages)
        assert messages == given
        if sent is not None:
            assert begins(shaped.messages, sent)
        sent = shaped.messages
    assert shaped.tokens_after < 0.75 * session.shape(chat(form, TURNS)).tokens_before
    assert len(shaped.items) >= TURNS
    assert [row["role"] for row in shaped.messages] == [
        row["role"] for row in chat(form, TURNS)[: len(shaped.messages)]
    ]
    assert not shaped.set_aside


@pytest.mark.parametrize("form", FORMS)
def test_a_new_process_that_gets_the_whole_chat_sends_the_same(form):
    session = Session(pipeline())
    for messages in requests(form, 4):
        grown = session.shape(messages).messages
    assert Session(pipeline()).shape(messages).messages == grown


def test_what_is_done_is_in_the_result():
    session = Session(pipeline(), markers=True)
    messages = chat("openai", 2)
    shaped = session.shape(messages)
    assert [item.message for item in shaped.items] == [3, 7]
    for item in shaped.items:
        before, after = messages[item.message]["content"], shaped.messages[item.message]["content"]
        assert session.original(item.hash) == before
        assert f"[shortened; hash={item.hash}]" in json.loads(after)["results"][-1]["text"]
        assert (item.tokens_before, item.tokens_after) == tuple(map(session.pipeline.parts.count, (before, after)))
        assert item.context.query == f"bridge {item.message // 4} designed"
        assert [m["role"] for m in item.context.history][:1] == ["user"]
    assert shaped.tokens_before - shaped.tokens_after == sum(i.tokens_before - i.tokens_after for i in shaped.items)
    assert session.original("0" * 24) is None
    assert all(a is b for a, b in zip(shaped.messages, messages, strict=True) if a == b)


def test_a_question_that_leans_on_the_one_before_takes_it_along():
    passages = "<context>" + " ".join(p["text"] for p in found(1)) + "</context>\n"
    messages = [
        {"role": "user", "content": "Who designed the bridge of Lyon?"},
        {"role": "assistant", "content": "Ada Moreau."},
        {"role": "user", "content": passages + "When was it built?"},
    ]
    (item,) = Session(pipeline()).shape(messages).items
    assert item.context.query == "Who designed the bridge of Lyon? When was it built?"
    assert [dict(m) for m in item.context.history] == messages[:2]


def test_rows_that_must_not_be_touched_are_not():
    session = Session(pipeline())
    messages = chat("openai", 2)
    assert session.shape(messages, frozen=4).messages[:4] == messages[:4]
    # What went out as it came stays so, and so does what went out shaped.
    assert session.shape(messages).messages[3] == messages[3]
    assert session.shape(messages).messages[7] != messages[7]
    cached = copy.deepcopy(messages)
    cached[3]["cache_control"] = {"type": "ephemeral"}
    other = Session(pipeline())
    assert other.shape(cached).messages[3] is cached[3]
    # The mark moves on to the newest row, as clients move it: what the provider has must not change.
    assert other.shape(messages).messages[:4] == messages[:4]


def test_a_mark_that_moves_back_finds_what_was_sent():
    session = Session(pipeline())
    sent = session.shape(chat("anthropic", 1)).messages
    messages = chat("anthropic", 2)
    messages[3]["content"][0]["cache_control"] = {"type": "ephemeral"}
    row = session.shape(messages).messages[3]
    assert row["content"][0].pop("cache_control")
    assert row == sent[3]


def test_short_results_are_left_alone():
    messages = [
        {"role": "user", "content": "How warm is it?"},
        {"role": "tool", "content": "It is 18 °C in Oslo. No wind."},
    ]
    assert Session(pipeline(budget="10%")).shape(messages).messages == messages


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_silently_empty(form):
    session = Session(Pipeline([Dropping()], reader=FakeReader()))
    messages = chat(form, 1)
    shaped = session.shape(messages)
    assert any("nothing in it is relevant" in warning for warning in shaped.warnings)
    assert "nothing in it" not in str(session.shape(messages).warnings)
    assert not any(text == "" for row in shaped.messages for text in texts(row))
    name = shaped.items[0].hash
    assert f"[nothing here is relevant; hash={name}]" in str(shaped.messages)
    assert session.original(name) in {*texts(messages[1]), *texts(messages[3])}
    if form == "openai":
        (result,) = json.loads(shaped.messages[3]["content"])["results"]
        assert result == {"title": "Bridge 0.0", "text": f"[nothing here is relevant; hash={name}]"}
    else:
        assert len(shaped.messages[3]["content"][0]["content"]) == 1


def texts(row):
    content = row["content"]
    if not isinstance(content, list):
        return [] if content is None else [content]
    return [
        t
        for block in content
        for t in ([block["text"]] if "text" in block else texts({"content": block.get("content")}))
    ]


def test_other_json_stays_json():
    value = {"towns": [{"name": p["title"], "rows": [p["text"], {"bananas": 12}]} for p in found(1)], "of": "bridge"}
    messages = [*openai(1)[:2], {"role": "tool", "tool_call_id": "c1", "content": json.dumps(value, indent=1)}]
    shaped = Session(pipeline(), markers=True).shape(messages)
    assert shaped.tokens_after < shaped.tokens_before
    assert "[shortened; hash=" in json.dumps(json.loads(shaped.messages[2]["content"]))


def test_a_failure_follows_the_policy():
    messages = chat("openai", 1)
    with pytest.raises(Exception, match="planned"):
        Session(Pipeline([Failing()], reader=FakeReader())).shape(messages)
    shaped = Session(Pipeline([Failing()], reader=FakeReader(), on_error="skip")).shape(messages)
    assert shaped.messages == messages

    class Broken(FakeReader):
        def read(self, query, passages):
            raise OSError("no reader")

    broken = Session(Pipeline([], reader=Broken(), on_error="skip"), max_tokens=400)
    shaped = broken.shape(chat("openai", 3))
    assert any("the oldest rounds are set aside: OSError: no reader" in warning for warning in shaped.warnings)
    with pytest.raises(OSError, match="no reader"):
        Session(Pipeline([], reader=Broken()), max_tokens=400).shape(chat("openai", 3))


def test_what_was_done_before_the_deadline_is_remembered():
    calls = []

    @dataclass(frozen=True, kw_only=True)
    class Counting(Stage):
        def shape(self, context: Context, run: Run) -> Context:
            calls.append(context.query)
            if len(calls) == 2:
                raise DeadlineError("planned")
            return context

    session = Session(Pipeline([Counting()], reader=FakeReader(), on_error="skip"))
    with pytest.raises(DeadlineError):
        session.shape(chat("openai", 3))
    session.shape(chat("openai", 3))
    assert [call.split()[1] for call in calls] == ["0", "1", "1", "2"]
    with pytest.raises(DeadlineError):
        Session(pipeline()).shape(chat("openai", 3), timeout=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_async_gives_the_same(form):
    messages = chat(form, 6)
    expected = Session(pipeline(), max_tokens=LIMIT).shape(messages)
    shaped = asyncio.run(Session(pipeline(), max_tokens=LIMIT).ashape(messages))
    assert shaped.messages == expected.messages
    assert shaped.warnings == expected.warnings
    with pytest.raises(Exception, match="planned"):
        asyncio.run(Session(Pipeline([Failing()], reader=FakeReader())).ashape(messages))
    with pytest.raises(InvalidInputError):
        asyncio.run(Session(pipeline()).ashape("text"))


async def test_the_loop_runs_beside_it(waiting):
    stage, release = waiting
    session = Session(Pipeline([stage], reader=FakeReader()))
    await asyncio.gather(session.ashape(chat("openai", 1)), release())


def test_threads_agree_on_what_is_sent():
    lock, seen = threading.Lock(), [0]

    @dataclass(frozen=True, kw_only=True)
    class Changing(Stage):
        """Keeps something else each time, as no stage should; whoever is first decides."""

        def shape(self, context: Context, run: Run) -> Context:
            with lock:
                seen[0] += 1
            return context.with_passages(context.passages[: 1 + seen[0] % 4])

    session = Session(Pipeline([Changing()], reader=FakeReader()))
    messages = chat("openai", 3)
    with ThreadPoolExecutor(8) as threads:
        first = list(threads.map(lambda _: session.shape(messages).messages, range(16)))
    assert all(one == first[0] for one in first)
    assert seen[0] >= 3


def test_memory_is_bounded():
    session = Session(pipeline(), remembered=20_000)
    for turn in range(60):
        shaped = session.shape(openai(turn)[:3])
    assert session.original(shaped.items[0].hash) is not None
    old = find(openai(0)[:3])[0].text
    assert session.shape(openai(0)[:3]).items
    assert session.original(shaped.items[0].hash) is not None
    assert sum(cost for _, cost in session._originals._values.values()) <= 20_000
    assert len(old) > 20_000 / 60


def test_what_is_given_is_checked():
    for options in ({"max_tokens": 0}, {"remembered": "x"}, {"budget": "lots"}):
        with pytest.raises(InvalidInputError):
            Session(pipeline(), **options)
    with pytest.raises(InvalidInputError, match=r"takes a ctxshaper\.Pipeline"):
        Session("fast")
    for messages in ("text", {"role": "user"}, ["text"], [{}], 5):
        with pytest.raises(InvalidInputError, match="message"):
            Session(pipeline()).shape(messages)
    with pytest.raises(InvalidInputError, match="plain data"):
        Session(pipeline()).shape([{"role": "user", "content": {(1, 2): 3}}])
    with pytest.raises(InvalidInputError, match="frozen"):
        Session(pipeline()).shape([], frozen=-1)
    assert Session(pipeline()).shape([]).messages == []


@pytest.mark.parametrize("rows", [[], [{"role": "system", "content": "a b c"}], [{"type": "reasoning", "id": "r"}]])
def test_a_chat_without_a_question_passes_as_it_came(rows):
    session = Session(Pipeline.from_recipe("fast", reader=FakeReader()), max_tokens=1)
    assert session.shape(rows).messages == rows
