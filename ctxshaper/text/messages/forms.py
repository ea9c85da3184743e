"""What the fields of a chat row mean, in OpenAI's and in Anthropic's form; all else in a row is passed over."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from ctxshaper.errors import InvalidInputError

# Where a text stands inside its row: keys and places, from the outside in.
Path = tuple[str | int, ...]

# What a tool's caller names the question that it asks, the telling names first.
_ASKED = ("query", "question", "search_query", "searchQuery", "search", "q", "search_term", "keywords", "input",
          "prompt", "__arg1")  # fmt: skip
_TEXT = ("text", "input_text")
# Arguments of a call beyond so many characters are content that it writes, not a question.
_MOST_ARGUMENTS = 100_000
# No API nests blocks deeper than a document in a tool's result.
_DEEPEST = 4


class Text(NamedTuple):
    """One text of a row in which passages may stand.

    Attributes:
        path: where it stands.
        text: what it says.
        kind: "said" by the user, "result" of a tool, or "document": a block that is a passage by its type.
        call: the id of the call that a result answers; empty where there is none.
        title: of a document, if it has one.
    """

    path: Path
    text: str
    kind: Literal["said", "result", "document"]
    call: str = ""
    title: str = ""


def fields(value: Any) -> Mapping[str, Any]:
    """The fields of a row or block: of a mapping, or of a model of pydantic, as the clients return; else none."""
    if isinstance(value, Mapping):
        return value
    dump = getattr(value, "model_dump", None)
    dumped = dump() if callable(dump) and not isinstance(value, type) else None
    return dumped if isinstance(dumped, Mapping) else {}


def role_of(message: Mapping[str, Any]) -> str:
    """The role of a row; empty where it has none."""
    role = message.get("role")
    return role if isinstance(role, str) else ""


def texts(message: Mapping[str, Any]) -> list[Text]:
    """The texts of a user's or a tool's row in which passages may stand, in order; of other rows none."""
    role, content = role_of(message), message.get("content")
    if role in ("tool", "function"):
        call = message.get("tool_call_id") or message.get("name")
        if message.get("is_error"):
            return []
        return list(_blocks(content, ("content",), "result", call if isinstance(call, str) else ""))
    return list(_blocks(content, ("content",), "said", "")) if role == "user" else []


def _blocks(
    content: Any, path: Path, kind: Literal["said", "result", "document"], call: str, title: str = ""
) -> Iterator[Text]:
    if isinstance(content, str):
        yield Text(path, content, kind, call, title)
        return
    if not isinstance(content, list) or len(path) > 2 * _DEEPEST:
        return
    for place, value in enumerate(content):
        block, inside = fields(value), (*path, place)
        of = block.get("type")
        if of in _TEXT and isinstance(block.get("text"), str):
            yield Text((*inside, "text"), block["text"], kind, call, title)
        elif of == "tool_result" and not block.get("is_error"):
            answered = block.get("tool_use_id")
            yield from _blocks(
                block.get("content"), (*inside, "content"), "result", answered if isinstance(answered, str) else ""
            )
        elif of == "search_result":
            yield from _blocks(block.get("content"), (*inside, "content"), "document", call, _title(block))
        elif of == "document":
            source = fields(block.get("source"))
            name = {"text": "data", "content": "content"}.get(str(source.get("type")))
            if name:
                yield from _blocks(source.get(name), (*inside, "source", name), "document", call, _title(block))


def _title(block: Mapping[str, Any]) -> str:
    title = block.get("title")
    return title if isinstance(title, str) else ""


def is_protected(message: Mapping[str, Any]) -> bool:
    """Whether the row, or any block in it, asks the provider to cache what ends here."""
    level: list[Any] = [message]
    for _ in range(2 * _DEEPEST):
        below: list[Any] = []
        for value in level:
            if isinstance(value, list):
                below += value
            elif known := fields(value):
                if known.get("cache_control") is not None:
                    return True
                below += [v for k, v in known.items() if k in ("content", "source")]
        level = below
    return False


def answers_a_tool(message: Mapping[str, Any]) -> bool:
    """Whether a row hands over results of tools, so that it must follow the row that called them."""
    if role_of(message) in ("tool", "function"):
        return True
    content = message.get("content")
    return isinstance(content, list) and any(fields(block).get("type") == "tool_result" for block in content)


def calls(message: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The tool calls of a row that hold a question in their arguments: the id of each, and the question."""
    made = [(fields(call).get("id"), fields(fields(call).get("function"))) for call in _list(message, "tool_calls")]
    legacy = fields(message.get("function_call"))
    for name, function in [*made, (legacy.get("name"), legacy)]:
        yield from _asked(name, function.get("arguments"))
    for block in map(fields, _list(message, "content")):
        if block.get("type") in ("tool_use", "server_tool_use"):
            yield from _asked(block.get("id"), block.get("input"))


def _asked(name: Any, arguments: Any) -> Iterator[tuple[str, str]]:
    if isinstance(arguments, str) and len(arguments) <= _MOST_ARGUMENTS:
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return
    if isinstance(name, str) and isinstance(arguments, Mapping):
        given = (arguments.get(key) for key in _ASKED)
        asked = next((value for value in given if isinstance(value, str) and value.strip()), "")
        if asked:
            yield name, asked.strip()


def _list(message: Mapping[str, Any], key: str) -> list[Any]:
    value = message.get(key)
    return value if isinstance(value, list) else []


def said_by_assistant(message: Mapping[str, Any]) -> str:
    """What an assistant's row says, without its thoughts and calls; empty for other roles."""
    if role_of(message) != "assistant":
        return ""
    return "\n".join(
        text.text for text in _blocks(message.get("content"), ("content",), "said", "") if text.text.strip()
    )


def read_by_model(message: Mapping[str, Any]) -> list[str]:
    """Every text of a row, of whatever role, that its model reads: what costs tokens, but for images and such."""
    found: list[str] = []
    waiting: list[tuple[Any, int]] = [(message.get("content"), 0)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, list):
            waiting += [(fields(block) or block, depth) for block in reversed(value)]
        elif isinstance(value, Mapping) and depth < _DEEPEST:
            of = value.get("type")
            if of in ("tool_use", "server_tool_use"):
                found.append(f"{value.get('name')} {json.dumps(value.get('input'), default=str, ensure_ascii=False)}")
                continue
            keys = ("title", "text", "thinking", "content", "output")
            inside = [value[key] for key in keys if isinstance(value.get(key), (str, list))]
            source = fields(value.get("source"))
            if of == "document" and source.get("type") in ("text", "content"):
                inside += [source.get("data"), source.get("content")]
            waiting += [(v, depth + 1) for v in reversed(inside)]
    for call in _list(message, "tool_calls"):
        function = fields(fields(call).get("function"))
        found += [v for v in (function.get("name"), function.get("arguments")) if isinstance(v, str)]
    return found


def rewritten(message: Mapping[str, Any], changes: Mapping[Path, str | None]) -> dict[str, Any]:
    """A copy of a row with other texts in these places; what does not change is shared with the row given.

    Args:
        message: the row; not changed.
        changes: by path, the new text; None takes the block that holds the text out of its list, and a block around
            that one if nothing is left in it, but for the result of a tool.

    Raises:
        InvalidInputError: a path that the row does not have.
    """
    copied: dict[str, Any] = _changed(message, sorted(changes.items(), key=str), 0)
    return copied


_GONE = object()


def _changed(value: Any, changes: list[tuple[Path, str | None]], depth: int) -> Any:
    """The value with the changes inside of it, whose paths agree up to this depth; `_GONE` where nothing is left."""
    if len(changes[0][0]) == depth:
        return _GONE if changes[0][1] is None else changes[0][1]
    inside: dict[str | int, list[tuple[Path, str | None]]] = {}
    for path, text in changes:
        inside.setdefault(path[depth], []).append((path, text))
    is_list = isinstance(value, list)
    made: Any = list(value) if is_list else dict(fields(value))
    try:
        new = {key: _changed(made[key], some, depth + 1) for key, some in inside.items()}
    except (KeyError, IndexError, TypeError) as error:
        raise InvalidInputError(f"a row has no text at {changes[0][0]}; ask for places that find() gave") from error
    if is_list:
        left = [new.get(place, old) for place, old in enumerate(made)]
        left = [entry for entry in left if entry is not _GONE]
        return left if left or not depth else _GONE
    if _GONE in new.values() and depth and made.get("type") != "tool_result":  # a call has to be answered
        return _GONE
    made.update({key: [] if entry is _GONE else entry for key, entry in new.items()})
    return made
