"""Recipes: pipelines written down in YAML, through a safe loader, with errors that name line and field."""

from __future__ import annotations

import difflib
import reprlib
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from ctxshaper.data import Budget, Rendering
from ctxshaper.errors import InvalidInputError, RecipeError
from ctxshaper.stages import Stage, stage_named, stage_names

# The longest recipe that ships has 1,500 bytes. A file that is larger, nests deeper, or holds longer values is
# something else, or made to take long.
_MOST_BYTES = 1_000_000
_DEEPEST = 20
_LONGEST_VALUE = 10_000
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Recipe:
    """A pipeline as written down.

    Attributes:
        stages: configured stages, in order.
        budget: the default budget.
        rendering: how passages become text.
        on_error: what happens when a stage fails.
        name: what traces call it: the name under which it ships, or its file's; not written in the file itself.
    """

    stages: tuple[Stage, ...]
    budget: Budget = field(default_factory=Budget)
    rendering: Rendering = field(default_factory=Rendering)
    on_error: Literal["raise", "skip"] = "raise"
    name: str | None = field(default=None, compare=False)

    @classmethod
    def load(cls, name: str | Path) -> Recipe:
        """Load a recipe by the name under which it ships, or from a YAML file.

        Raises:
            RecipeError: no such recipe, or one that is not valid.
        """
        text = str(name)
        if text in shipped_recipes():
            return cls.parse(_shipped().joinpath(f"{text}.yaml").read_text(encoding="utf-8"), text)
        path = Path(name)
        if len(text) > _LONGEST_NAME or "\0" in text or not path.is_file():
            raise RecipeError(
                f"there is no recipe {text!r:.200}; shipped are {', '.join(shipped_recipes())}, or pass the path of a "
                "YAML file"
            )
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise RecipeError(f"{text} has {size:,} bytes, and a recipe at most {_MOST_BYTES:,}; is this a recipe?")
        try:
            return cls.parse(path.read_text(encoding="utf-8"), text)
        except UnicodeDecodeError as error:
            raise RecipeError(f"{text} is not UTF-8 text: {error}") from error

    @classmethod
    def parse(cls, text: str, name: str = "recipe") -> Recipe:
        """Read a recipe from YAML text.

        Args:
            text: the YAML.
            name: what errors call it.

        Raises:
            RecipeError: it is not valid; the message names the line and the field.
        """
        if len(text) > _MOST_BYTES:
            raise RecipeError(f"{name} has {len(text):,} characters, and a recipe at most {_MOST_BYTES:,}")
        try:
            root = yaml.compose(text, Loader=_Loader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{name}, line {mark.line + 1}" if mark else name
            raise RecipeError(f"{where}: not valid YAML: {getattr(error, 'problem', error)!s:.300}") from error
        reader = _Reader(name)
        entries = reader.mapping(root, "the recipe")
        reader.known(entries, {f.name for f in fields(cls)} - {"name"}, "the recipe")
        if "stages" not in entries or not isinstance(entries["stages"][1], yaml.SequenceNode):
            raise RecipeError(f"{name}: a recipe needs `stages:`, a list of {', '.join(stage_names())}")
        values: dict[str, Any] = {"stages": tuple(map(reader.stage, entries["stages"][1].value))}
        if "budget" in entries:
            node = entries["budget"][1]
            if not isinstance(node, yaml.ScalarNode):
                raise reader.fail(node, "budget must be one value, such as 2000 or 30%")
            with reader.at(node, "budget"):
                values["budget"] = Budget.parse(reader.plain(node))
        if "rendering" in entries:
            node = entries["rendering"][1]
            values["rendering"] = reader.build(Rendering, node, "rendering")
        if "on_error" in entries:
            node = entries["on_error"][1]
            values["on_error"] = reader.plain(node)
            reader.typed(values["on_error"], Literal["raise", "skip"], node, "on_error")
        return cls(**values, name=Path(name).stem)


def shipped_recipes() -> list[str]:
    """The names of the recipes that ship."""
    return sorted(p.name.removesuffix(".yaml") for p in _shipped().iterdir() if p.name.endswith(".yaml"))


def _shipped() -> Any:
    return files("ctxshaper.pipelines").joinpath("shipped")


class _Loader(yaml.SafeLoader):
    """Refuses what makes a short file large: anchors and aliases, depth, endless values."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        problem = ""
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            problem = "a recipe holds no anchors (&) or aliases (*); write the value out, or in quotes if it is text"
        elif self.depth > _DEEPEST:
            problem = f"nested deeper than {_DEEPEST} levels"
        elif isinstance(event, yaml.ScalarEvent) and len(event.value) > _LONGEST_VALUE:
            problem = f"a value has {len(event.value):,} characters, and may have {_LONGEST_VALUE:,}"
        if problem:
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        self.depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _At:
    """Turns an error about a value into one that names its line and field."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None: ...

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        if isinstance(error, (InvalidInputError, TypeError)) and not isinstance(error, RecipeError):
            raise RecipeError(f"{self.where}: {error}") from error


class _Reader:
    """Walks the nodes of a recipe; every error says where it stands."""

    def __init__(self, name: str) -> None:
        self.name = name

    def at(self, node: yaml.Node, what: str) -> _At:
        return _At(f"{self.name}, line {node.start_mark.line + 1}, {what}")

    def fail(self, node: yaml.Node, message: str) -> RecipeError:
        return RecipeError(f"{self.name}, line {node.start_mark.line + 1}: {message}")

    def plain(self, node: yaml.Node) -> Any:
        loader = yaml.SafeLoader("")
        try:
            return loader.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError) as error:  # ValueError: numbers too long to read, dates that are none
            raise self.fail(node, f"not plain data: {error!s:.300}") from error
        finally:
            loader.dispose()

    def mapping(self, node: yaml.Node | None, what: str) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            where = f", line {node.start_mark.line + 1}" if node else ""
            raise RecipeError(f"{self.name}{where}: {what} must be a mapping of names to values")
        entries: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.fail(key, f"a name in {what} must be one word, but here is a list or a mapping")
            if key.value in entries:
                raise self.fail(key, f"{key.value!r:.80} stands twice in {what}")
            entries[str(key.value)] = (key, value)
        return entries

    def known(self, entries: Mapping[str, tuple[yaml.Node, yaml.Node]], allowed: Iterable[str], what: str) -> None:
        allowed = sorted(allowed)
        for name, (key, _) in entries.items():
            if name not in allowed:
                close = difflib.get_close_matches(name[:_LONGEST_NAME], allowed, 1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise self.fail(key, f"{what} has no field {name!r:.80}; it takes {', '.join(allowed) or 'none'}{hint}")

    def stage(self, node: yaml.Node) -> Stage:
        key: yaml.Node
        options: yaml.Node | None
        if isinstance(node, yaml.ScalarNode):
            name, key, options = str(node.value), node, None
        else:
            entries = self.mapping(node, "a stage")
            if len(entries) != 1:
                raise self.fail(node, f"a stage is one name with its options, but here are {', '.join(entries):.200}")
            ((name, (key, options)),) = entries.items()
        names = stage_names()
        if name not in names:
            close = difflib.get_close_matches(name[:_LONGEST_NAME], names, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise self.fail(key, f"there is no stage {name!r:.80}; there are {', '.join(names)}{hint}")
        empty = options is None or (isinstance(options, yaml.ScalarNode) and options.value == "")
        stage: Stage = self.build(stage_named(name), None if empty else options, name, key)
        return stage

    def build(self, cls: Any, node: yaml.Node | None, what: str, key: yaml.Node | None = None) -> Any:
        """A dataclass from a mapping."""
        hints = get_type_hints(cls)
        entries = self.mapping(node, what) if node is not None else {}
        self.known(entries, {f.name for f in fields(cls)}, what)
        values = {}
        for name, (_, value) in entries.items():
            values[name] = self.plain(value)
            self.typed(values[name], hints[name], value, f"{what}.{name}")
        place = node or key
        if place is None:
            return cls(**values)
        with self.at(place, what):
            return cls(**values)

    def typed(self, value: Any, hint: Any, node: yaml.Node, what: str) -> None:
        if not _fits(value, hint):
            allowed = " or ".join(map(repr, get_args(hint))) if get_origin(hint) is Literal else _spell(hint)
            raise self.fail(node, f"{what} must be {allowed}, but got {_shown_value(value)}")


def _shown_value(value: Any) -> str:
    shown = reprlib.Repr()
    shown.maxstring = shown.maxother = 80
    # Python writes no number out that has thousands of digits.
    return "a number too long to show" if isinstance(value, int) and value.bit_length() > 256 else shown.repr(value)


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return hint is Any or (isinstance(hint, type) and isinstance(value, hint))


def _spell(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("NoneType", "None")
