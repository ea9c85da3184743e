"""Passages in chat messages: what is recognised, what is asked of it, and how it is written back."""

import copy
import json

import pytest

from ctxshaper import InvalidInputError
from ctxshaper.text.messages import (
    answers_a_tool,
    find,
    is_protected,
    read_by_model,
    replaced,
    rewritten,
    said_by_assistant,
    said_by_user,
)

ASKED = {"role": "user", "content": "Who designed the bridge?"}


def called(result, arguments='{"query": "bridge designer"}'):
    """A chat in OpenAI's form that ends with a tool's result."""
    call = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": arguments}}
    return [
        ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": result},
    ]


def used(*blocks, more=(), given=None):
    """The same in Anthropic's form."""
    return [
        ASKED,
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "search", "input": given or {"question": "bridge designer"}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": list(blocks)}, *more]},
    ]


def only(messages):
    items = find(messages)
    assert len(items) == 1
    return items[0]


def says(item):
    return [(passage.title, passage.source) for passage in item.passages]


def without(item, *places):
    return item.written([None if n in places else p.source for n, p in enumerate(item.passages)])


def test_a_plain_result_is_one_passage():
    item = only(called("  Ada designed it. Bananas are yellow.\n"))
    assert says(item) == [("", "Ada designed it. Bananas are yellow.")]
    assert (item.message, item.path, item.query, item.asked_in, item.call) == (
        2,
        ("content",),
        "bridge designer",
        1,
        "c1",
    )
    assert item.written(["Ada designed it."]) == "  Ada designed it.\n"


LISTS = {
    '[{"title": "A", "text": "one two"},  {"text": "three", "n": [1, {"x": "]"}]}]': [("A", "one two"), ("", "three")],
    '{"results": [\n {"url": "u", "content": "one", "raw_content": "one and more"},\n {"content": "two"}\n]}': [
        ("u", "one and more"),
        ("", "two"),
    ],
    '{"hits": {"hits": [{"_id": 1, "_source": {"text": "one", "title": "T"}}, {"_source": {"text": "two"}}]}}': [
        ("T", "one"),
        ("", "two"),
    ],
    '{"response": {"docs": [{"body": "one"}, {"body": "two"}]}}': [("", "one"), ("", "two")],
    '["one two", "caf\\u00e9 \\"bar\\" \\ud83d\\ude00"]': [("", "one two"), ("", 'café "bar" 😀')],
    '{"documents": [{"name": "N", "page_content": "one"}], "web": [{"snippet": "two"}]}': [("N", "one"), ("", "two")],
}


@pytest.mark.parametrize("text", LISTS)
def test_lists_in_json(text):
    item = only(called(text))
    assert says(item) == LISTS[text]
    assert without(item) == text
    for gone in ((0,), (1,), (0, 1)):
        kept = json.loads(without(item, *gone))
        assert len(json.dumps(kept)) < len(json.dumps(json.loads(text)))
    shorter = item.written(['x "é"\n', item.passages[1].source], marker="[m]")
    said = list(strings(json.loads(shorter)))
    assert 'x "é"\n' in said
    assert f"{item.passages[1].source} [m]" in said
    assert "n o t e" in list(strings(json.loads(item.noted("n o t e"))))


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for child in value.values() if isinstance(value, dict) else value:
            yield from strings(child)


def test_what_is_not_dropped_of_json_stays_byte_for_byte():
    text = '{"results":[{"a": 1.0,"text":"one"} ,\t{"text":"tw\\u006f"},{"b":"\\/", "text":"three"}] }'
    item = only(called(text))
    assert without(item, 0) == '{"results":[{"text":"tw\\u006f"},{"b":"\\/", "text":"three"}] }'
    assert without(item, 1) == '{"results":[{"a": 1.0,"text":"one"},{"b":"\\/", "text":"three"}] }'
    assert without(item, 1, 2) == '{"results":[{"a": 1.0,"text":"one"}] }'
    assert without(item, 0, 1, 2) == '{"results":[] }'


def test_elements_that_hold_no_text_stay():
    item = only(called('[{"text": "a b"}, {"text": "c d"}, 5, {"text": "e f"}]'))
    assert json.loads(without(item, 0, 2)) == [{"text": "c d"}, 5]


def test_json_spells_new_text_as_the_list_does():
    assert "\\u00e9" in only(called('[{"text": "a \\u00e8"}]')).written(["é"])
    assert "é" in only(called('[{"text": "a è"}]')).written(["é"])
    assert json.loads(only(called('[{"text": "a è \\ud800 b"}]')).written(["x \ud800"])) == [{"text": "x \ud800"}]


def test_other_json_is_one_passage_of_that_format():
    text = '{"service": {"name": "alpha", "port": 8080}, "ids": ["one two"], "documents": ["a b"], "list": [1, 2]}'
    item = only(called(text))
    assert [(p.source, p.format) for p in item.passages] == [(text, "json")]
    assert json.loads(item.written(['{"a": {"b": "c"}, "d": 1}'], marker='[m "x"]')) == {
        "a": {"b": 'c [m "x"]'},
        "d": 1,
    }
    assert item.written(['{"d": 1}'], marker="[m]") == '{"d": 1}'
    assert (item.written([None]), json.loads(item.noted('n "o"'))) == ("null", 'n "o"')


TAGGED = {
    "<context>One. Two.</context>\n\nWho is it?": ([("", "One. Two.")], "\n\nWho is it?"),
    "<documents>\n<document id='1'>\n<source>a</source>\n<document_content>\nOne.\n</document_content></document>\n"
    "<document id='2'>\n<document_content>Two.</document_content></document>\n</documents>\nWho is it?": (
        [("a", "One."), ("", "Two.")],
        "<documents>\n<document id='2'>\n<document_content>Two.</document_content></document>\n</documents>\n"
        "Who is it?",
    ),
    '<source title="T">One &lt; <b>two</b></source> <source>Two.</source> Who is it?': (
        [("T", "One &lt; <b>two</b>"), ("", "Two.")],
        "<source>Two.</source> Who is it?",
    ),
    "<Context>\n[1] One.\n\n[2] Two.\n</Context>\nQuestion: Who is it?\nAnswer:": (
        [("", "One."), ("", "Two.")],
        "<Context>\n[2] Two.\n</Context>\nQuestion: Who is it?\nAnswer:",
    ),
    '<context>[{"text": "One two."}, {"text": "Two."}]</context> Who is it?': (
        [("", "One two."), ("", "Two.")],
        '<context>[{"text": "Two."}]</context> Who is it?',
    ),
    "<document_1><title>T</title>\nOne.</document_1>\n<doc2>Two.</doc2>\nWho is it?": (
        [("T", "One."), ("", "Two.")],
        "<doc2>Two.</doc2>\nWho is it?",
    ),
    "<results><search_result><source>u</source><content>One.</content></search_result></results>Who is it?": (
        [("u", "One.")],
        "<results></results>Who is it?",
    ),
}


@pytest.mark.parametrize("text", TAGGED)
def test_tags(text):
    passages, without_first = TAGGED[text]
    item = only([{"role": "user", "content": text}])
    assert says(item) == passages
    assert item.query == "Who is it?"
    assert without(item) == text
    assert without(item, 0) == without_first


NUMBERED = {
    "Use these.\n\n[1] One.\n\n[2] Two.\n\nWho is it?": ([("", "One."), ("", "Two.")], "Use these. Who is it?"),
    "[1] One.\n\nMore [3] of it.\n\n[2] Two.\n\nWho is it?": (
        [("", "One.\n\nMore [3] of it."), ("", "Two.")],
        "Who is it?",
    ),
    "Document 1: T\nOne.\nDocument 2: U\nTwo.\n\nQuestion: Who is it?": ([("T", "One."), ("U", "Two.")], "Who is it?"),
    "Passage 3:\nOne.\nPassage 4:\nTwo.\n\n---\nWho is it?": ([("", "One."), ("", "Two.")], "--- Who is it?"),
    "### Source 0\nOne.\n### Source 1\nTwo.\n### Question: Who is it?": ([("", "One."), ("", "Two.")], "Who is it?"),
    "Document [1](Title: T) One.\nDocument [2](Title: U) Two.\nQuestion: Who is it?\nAnswer:": (
        [("T", "One."), ("U", "Two.")],
        "Who is it?",
    ),
    "Source: a.txt\nPage: 2\nContent: One.\n\nSource: b.txt\nContent: Two.\n\nWho is it?": (
        [("a.txt", "One."), ("b.txt", "Two.")],
        "Who is it?",
    ),
}


@pytest.mark.parametrize("text", NUMBERED)
def test_numbered_and_titled_blocks(text):
    passages, query = NUMBERED[text]
    item = only([{"role": "user", "content": text}])
    assert says(item) == passages
    assert item.query == query
    assert without(item) == text
    labels = text[: text.index("Two.")]
    second = labels[labels.rindex("\n") if "\n" in labels else 0 :].strip()
    assert "One." not in without(item, 0)
    assert second in without(item, 0)
    assert item.written(["1", "2"]) == text.replace(passages[0][1], "1").replace("Two.", "2")


@pytest.mark.parametrize(
    "text",
    [
        "Who designed it?",
        "1. Do this.\n2. Do that.",
        "See [1] and\n[2] this.",
        "[7] Smith 2001\n[8] Jones 2002",
        "Document 1: only one",
        "What does <document> mean?",
        "Use <context></context> for it.",
        "</document> a <document>",
        '[{"text": "pasted by the user"}, {"text": "as a question"}]',
        "Page 1 of the book says so.\nPage 2 of the book does not.",
        "<document>" * 1000 + "</document>" * 1000,
    ],
)
def test_what_a_user_says_otherwise_is_left_alone(text):
    messages = [ASKED, {"role": "user", "content": text}]
    assert find(messages) == []
    assert said_by_user(messages[1]) == text


@pytest.mark.parametrize("text", ["", " \n", "[" * 10_000, "{}[]" * 50, "A" * 2000, "[" * 2000 + "]" * 2000])
def test_results_that_are_no_text_are_left_alone(text):
    assert find(called(text)) == []


def test_the_query_of_a_result():
    assert only(called("One two.", "{}")).query == "Who designed the bridge?"
    assert only(called("One two.", "not json")).query == "Who designed the bridge?"
    assert only(called("One two.", '{"n": 3, "q": " x y ", "search": "z"}')).query == "z"
    assert only(used({"type": "text", "text": "One two."})).query == "bridge designer"
    assert only(used({"type": "text", "text": "One two."}, given={"file": "a"})).asked_in == 0
    assert find([{"role": "tool", "tool_call_id": "c1", "content": "One two."}]) == []  # nothing is asked of it
    legacy = [
        {"role": "assistant", "function_call": {"name": "f", "arguments": '{"input": "legacy"}'}},
        {"role": "function", "name": "f", "content": "One two."},
    ]
    assert only(legacy).query == "legacy"


def test_a_row_that_only_holds_passages_is_asked_about_before():
    item = only([ASKED, {"role": "user", "content": "<context>One two.</context>"}])
    assert (item.query, item.asked_in) == ("Who designed the bridge?", 0)


def test_blocks_of_anthropic():
    def text(said):
        return {"type": "text", "text": said}

    found = {"type": "search_result", "source": "u", "title": "S", "content": [text("One."), text("Two.")]}
    document = {
        "type": "document",
        "title": "D",
        "source": {"type": "text", "media_type": "text/plain", "data": "Three."},
    }
    image = {"type": "image", "source": {"type": "base64", "data": "A" * 2000}}
    messages = used(found, text('["Four five."]'), image, more=[document, text("And when?")])
    items = find(messages)
    assert [(item.path, says(item), item.query) for item in items] == [
        (("content", 0, "content", 0, "content", 0, "text"), [("S", "One.")], "bridge designer"),
        (("content", 0, "content", 0, "content", 1, "text"), [("S", "Two.")], "bridge designer"),
        (("content", 0, "content", 1, "text"), [("", "Four five.")], "bridge designer"),
        (("content", 1, "source", "data"), [("D", "Three.")], "And when?"),
    ]
    before = copy.deepcopy(messages)
    new = replaced(messages, {items[0]: "1", items[1]: None, items[2]: "2", items[3]: "3"})
    assert messages == before
    assert new[:2] == messages[:2]
    assert new[0] is messages[0]
    content = new[2]["content"]
    assert content[0]["content"] == [{**found, "content": [text("1")]}, text("2"), image]
    assert content[1]["source"]["data"] == "3"
    # A block of which nothing is left goes, but a call has to be answered.
    assert replaced(messages, dict.fromkeys(items))[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "t1", "content": [image]},
        text("And when?"),
    ]
    bare = used(text("One two."))
    assert replaced(bare, {only(bare): None})[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "t1", "content": []}
    ]


def test_what_must_not_be_touched():
    cached = {"type": "text", "text": "One two.", "cache_control": {"type": "ephemeral"}}
    assert is_protected({"role": "user", "content": [cached]})
    assert is_protected(used(cached)[2])
    assert not is_protected(used({"type": "text", "text": "x", "cache_control": None})[2])
    assert find(used(cached)) == []
    failed = used({"type": "text", "text": "No such file."})
    failed[2]["content"][0]["is_error"] = True
    assert find(failed) == []
    text = "<context>One two.</context> Who is it?"
    assert (
        find([ASKED, *({"role": role, "content": text} for role in ("system", "developer", "assistant", "other"))])
        == []
    )
    odd = [{}, {"role": 5, "content": 7}, {"role": "user"}, {"role": "user", "content": [None, 3, {"type": "text"}]}]
    assert find(odd) == []
    assert replaced(odd, {}) == odd


def test_only_the_rows_asked_for_are_looked_into():
    messages = [*called("One two."), {"role": "user", "content": "<context>Three.</context> Why?"}]
    assert [item.message for item in find(messages)] == [2, 3]
    assert [item.message for item in find(messages, {3})] == [3]


def test_models_of_pydantic_are_rows_too():
    from anthropic.types import TextBlock, ToolUseBlock

    messages = used({"type": "text", "text": "One two."})
    messages[1]["content"] = [
        TextBlock(type="text", text="I look."),
        ToolUseBlock(type="tool_use", id="t1", name="search", input={"query": "typed"}),
    ]
    assert only(messages).query == "typed"
    assert said_by_assistant(messages[1]) == "I look."
    assert read_by_model(messages[1]) == ["I look.", 'search {"query": "typed"}']


def test_what_a_model_reads():
    assert read_by_model(called("x")[1]) == ["search", '{"query": "bridge designer"}']
    assert read_by_model(ASKED) == ["Who designed the bridge?"]
    found = {"type": "search_result", "title": "S", "source": "u", "content": [{"type": "text", "text": "One."}]}
    document = {"type": "document", "source": {"type": "text", "data": "Three."}}
    assert read_by_model(used(found, more=[document])[2]) == ["S", "One.", "Three."]
    assert answers_a_tool(used(found)[2])
    assert not answers_a_tool(ASKED)


def test_json_beside_other_passages():
    text = '<context>{"a": "b"}</context><context>One.</context><context>{"c": 1, "d": "e"}</context> Who is it?'
    item = only([{"role": "user", "content": text}])
    assert [p.format for p in item.passages] == ["json", "prose", "json"]
    assert item.written([None, None, None]) == "<context></context><context></context> Who is it?"
    assert item.written([None, None, '{"d": "e"}'], "[m]").endswith('<context>{"d": "e [m]"}</context> Who is it?')
    assert item.noted("n").startswith('<context>"n"</context>')


def test_errors_say_what_to_do():
    item = only(called("One two."))
    with pytest.raises(InvalidInputError, match="holds 1 passages, but got 2"):
        item.written(["a", "b"])
    with pytest.raises(InvalidInputError, match="no text at"):
        rewritten(ASKED, {("content", 3, "text"): "x"})
