"""Passages in chat messages, whatever the messages: nothing changes by being looked at, and forms stay whole."""

import copy
import gc
import json
import os
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxshaper.text.messages import find, read_by_model, replaced, said_by_user

CASES = int(os.environ.get("CTXSHAPER_CASES", "100"))
TAG = re.compile(r"<(/?)(documents?|context|source|passage)\b[^<>]*>")

words = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(
    [
        "One two.",
        "<document>",
        "</document>",
        "[1] One.\n\n[2] Two.\n\n",
        "Document 1: T\nx\nDocument 2: U\ny",
        "\\",
        '"',
        "\ud800",
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["text", "results", "a", "title"]) | words, inner)
    ),
    max_leaves=12,
)
jsons = st.builds(
    lambda value, indent, ascii_only: json.dumps(value, indent=indent, ensure_ascii=ascii_only),
    values
    | st.lists(st.fixed_dictionaries({"text": words}, optional={"title": words, "n": values}), max_size=4)
    | st.fixed_dictionaries(
        {"results": st.lists(st.fixed_dictionaries({"content": words}), max_size=4), "more": values}
    ),
    st.sampled_from([None, 0, 2]),
    st.booleans(),
)
names = st.sampled_from(["document", "documents", "context", "source", "passage"])
tagged = st.recursive(
    words.map(lambda text: text.replace("<", "(")),
    lambda inner: st.builds(
        lambda n, parts: f"<{n}>" + "\n".join(parts) + f"</{n}>", names, st.lists(inner, max_size=4)
    ),
    max_leaves=8,
)
numbered = st.lists(words, min_size=2, max_size=4).map(lambda t: "\n\n".join(f"[{n}] {x}" for n, x in enumerate(t, 1)))
texts = words | jsons | tagged | numbered | st.lists(tagged | numbered | words, max_size=3).map("\n\n".join)
blocks = st.fixed_dictionaries({"type": st.just("text"), "text": texts}, optional={"citations": values}) | st.builds(
    lambda content: {"type": "tool_result", "tool_use_id": "t1", "content": content},
    texts | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": texts}), max_size=3),
)
contents = texts | st.lists(blocks | values, max_size=3)
rows = st.builds(
    lambda role, content: {"role": role, "content": content, "tool_call_id": "c1", "unknown": {"kept": [1]}},
    st.sampled_from(["system", "user", "assistant", "tool"]),
    contents | values,
)
ASKED = {"role": "user", "content": "Who designed the bridge?"}
chats = st.lists(rows, max_size=5).map(lambda some: [ASKED, *some])


def is_json(text):
    try:
        return isinstance(json.loads(text), (dict, list, str))
    except ValueError:
        return False


@settings(max_examples=CASES, deadline=None)
@given(chats, st.data())
def test_forms_stay_whole(messages, data):
    before = copy.deepcopy(messages)
    items = find(messages)
    for item in items:
        sources = [passage.source for passage in item.passages]
        assert item.written(sources) == item.text
        some = data.draw(
            st.lists(st.sampled_from(["keep", "drop", "new"]), min_size=len(sources), max_size=len(sources))
        )
        # A stage gives back part of what it was given; of JSON the pipeline sees to the form.
        whole = item.layout.slots[0].kind == "json"
        new = [
            {"keep": s, "drop": None, "new": '{"a": "b"}' if whole else s[: len(s) // 2]}[how]
            for how, s in zip(some, sources, strict=True)
        ]
        written = item.written(new, "[m]")
        for text in (written, item.noted("a note")):
            if is_json(item.text):
                assert is_json(text)
            else:
                assert balance(text) == balance(item.text) or any(TAG.search(source) for source in sources)
    kept = replaced(messages, {item: item.written([p.source for p in item.passages]) for item in items})
    assert kept == messages == before
    assert json.dumps(kept) == json.dumps(before)
    assert all(a is b for a, b in zip(kept, messages, strict=True))
    emptied = replaced(messages, dict.fromkeys(items))
    assert len(emptied) == len(messages)
    assert messages == before
    for row in messages:
        said_by_user(row), read_by_model(row)


def balance(text):
    """Opening minus closing tags by name."""
    count = {}
    for closing, name in TAG.findall(text):
        count[name] = count.get(name, 0) + (-1 if closing else 1)
    return {name: n for name, n in count.items() if n}


@settings(max_examples=CASES, deadline=None)
@given(words.filter(lambda text: not TAG.search(text)), st.sampled_from(["system", "assistant", "user"]))
def test_what_is_not_recognised_holds_nothing(text, role):
    if role == "user" and re.search(r"\d", text):
        return
    assert find([ASKED, {"role": role, "content": text}]) == []


HOSTILE = {
    "brackets": "[",
    "braces and keys": '{"results":',
    "deep lists": '[{"text": "a"},',
    "unclosed tags": "<document>",
    "unclosed nests": "<documents><document>x",
    "tags and attributes": '<document a="',
    "closing tags": "</document>",
    "nested pairs": "<context><document>a</document>",
    "labels": "[1] ",
    "lines of labels": "[1]\n",
    "words of labels": "\nDocument 1",
    "fields": "Source: a\n",
    "fields and more": "\nTitle: a\nb: c\nd: e",
    "blank lines": "\n \t",
    "questions": "\nQuestion:",
    "numbers": "Source 1: a\nSource 2: b\n\n",
}


@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_take_linear_time(piece):
    def seconds(size):
        text = (piece * (size // len(piece) + 1))[:size]
        messages = [ASKED, {"role": "user", "content": text}, {"role": "tool", "content": text + "]"}]
        gc.collect()
        gc.disable()  # its share grows with what others left
        started = time.process_time()
        items = find(messages)
        said_by_user(messages[1])
        assert all(item.written([p.source for p in item.passages]) == item.text for item in items)
        taken = time.process_time() - started
        gc.enable()
        return taken

    large = seconds(200_000)
    # A square would take a hundred times as long for ten times the text.
    assert large < max(0.5, 40 * seconds(20_000))
