"""Chats with tools, in OpenAI's and Anthropic's form, for the tests of sessions."""

import json

from ctxshaper import EvidenceFilter, FakeReader, Pipeline

TURNS = 20
# Tokens of a chat that is too long for all of its rounds.
LIMIT = 1500
TOWNS = ["Lyon", "Oslo", "Turin", "Porto", "Ghent"]


def pipeline(**options):
    return Pipeline([EvidenceFilter()], reader=FakeReader(), **{"budget": "40%", **options})


def found(turn):
    """What a tool finds: five passages of which a sentence or two tell."""
    return [
        {
            "title": f"Bridge {turn}.{n}",
            "text": f"Bananas grow in bunches of twelve. The bridge {turn} of {town} was designed by Ada Moreau. "
            f"Nobody knew why the potatoes of {town} were late that year, and nobody asked.",
        }
        for n, town in enumerate(TOWNS)
    ]


def openai(turn):
    arguments = json.dumps({"query": f"bridge {turn} designed"})
    call = {"id": f"c{turn}", "type": "function", "function": {"name": "search", "arguments": arguments}}
    return [
        {"role": "user", "content": f"Who designed the bridge {turn} of Lyon?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"c{turn}", "content": json.dumps({"results": found(turn)})},
        {"role": "assistant", "content": f"Ada Moreau designed bridge {turn}."},
    ]


def anthropic(turn):
    passages = "\n".join(f"<document><title>{p['title']}</title>\n{p['text']}</document>" for p in found(turn))
    asked = {"type": "tool_use", "id": f"t{turn}", "name": "search", "input": {"query": f"bridge {turn} designed"}}
    results = [{"type": "text", "text": passage["text"]} for passage in found(turn)]
    return [
        {"role": "user", "content": f"<documents>{passages}</documents>\nWho designed the bridge {turn} of Oslo?"},
        {"role": "assistant", "content": [{"type": "text", "text": "I look."}, asked]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": f"t{turn}", "content": results}]},
        {"role": "assistant", "content": f"Ada Moreau designed bridge {turn}."},
    ]


FORMS = {"openai": openai, "anthropic": anthropic}


def chat(form, turns):
    return [{"role": "system", "content": "Be brief."}, *(row for turn in range(turns) for row in FORMS[form](turn))]


def requests(form, turns=TURNS):
    """The chats that a client sends, one after the other: two requests a turn."""
    whole = chat(form, turns)
    for turn in range(turns):
        yield whole[: 4 * turn + 2]
        yield whole[: 4 * turn + 4]


def begins(longer, shorter):
    """Whether one list of messages begins with another, and so do their bytes."""
    return longer[: len(shorter)] == shorter and json.dumps(longer).startswith(json.dumps(shorter)[:-1])
