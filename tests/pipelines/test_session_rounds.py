"""Old rounds of a chat that is too long are set aside: rarely, visibly, and not those that matter."""

import copy
from itertools import pairwise

import pytest

from ctxshaper.pipelines import Session
from tests.pipelines.chat_turns import FORMS, LIMIT, TURNS, begins, pipeline, requests


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("echoes", [False, True])
def test_old_rounds_are_set_aside_rarely_and_visibly(form, echoes):
    session = Session(pipeline(), max_tokens=LIMIT)
    sent, seen, changes = None, 0, 0
    for whole in requests(form):
        messages = [*copy.deepcopy(sent), *whole[seen:]] if echoes and sent is not None else whole
        seen = len(whole)
        shaped = session.shape(messages)
        assert shaped.tokens_after <= LIMIT
        warned = any("rounds were set aside" in warning for warning in shaped.warnings)
        if sent is not None:
            assert warned != begins(shaped.messages, sent)
        changes += warned
        sent = shaped.messages
        check_pairs(sent)
    assert 1 <= changes <= TURNS // 3
    assert shaped.set_aside
    for aside in shaped.set_aside:
        assert f"[{aside.messages} earlier messages of {aside.tokens} tokens are set aside; hash={aside.hash}]" in str(
            sent
        )
        assert len(session.original(aside.hash)) == aside.messages == 4
    if not echoes:
        assert session.original(shaped.set_aside[0].hash) in [FORMS[form](turn) for turn in range(TURNS)]
        assert Session(pipeline(), max_tokens=LIMIT).shape(messages).messages == sent


def check_pairs(messages):
    """Roles take turns, and each result of a tool follows its call."""
    open_calls = set()
    for before, row in pairwise(messages[1:]):
        assert before["role"] != row["role"]
    for row in messages:
        blocks = row["content"] if isinstance(row["content"], list) else []
        open_calls |= {call["id"] for call in row.get("tool_calls", ())}
        open_calls |= {block["id"] for block in blocks if block["type"] == "tool_use"}
        for name in [row.get("tool_call_id"), *(block.get("tool_use_id") for block in blocks)]:
            assert name is None or name in open_calls


def test_the_rounds_that_matter_stay():
    def round_of(topic, n):
        return [
            {"role": "user", "content": f"Tell me about the {topic}."},
            {"role": "assistant", "content": f"The {topic} is number {n}. " * 20},
        ]

    topics = ["bridge", "banana", "potato", "lighthouse", "tower"]
    messages = [row for n, topic in enumerate(topics) for row in round_of(topic, n)]
    messages.insert(3, {"role": "system", "content": "It is noon."})
    session = Session(pipeline(), max_tokens=600)
    shaped = session.shape([*messages, {"role": "user", "content": "How old is the bridge beside the lighthouse?"}])
    said = str(shaped.messages)
    assert shaped.set_aside
    assert "number 0" in said
    assert "number 3" in said
    assert "number 1" not in said
    assert {"role": "system", "content": "It is noon."} in shaped.messages
    # The present round is never set aside, whatever it takes.
    long = session.shape([{"role": "user", "content": "Why? " * 700}])
    assert not long.set_aside
    assert any("no further round" in warning for warning in long.warnings)
