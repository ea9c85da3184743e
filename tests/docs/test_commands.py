"""The command lines of the pages: commands, options, extras, benchmarks and targets that they name are there."""

import re
import shlex
import tomllib

import pytest
import typer

from benchmarks.registry import NAMES
from ctxshaper.commands.app import app
from tests.docs.pages import PAGES, ROOT, of_kind

COMMAND = typer.main.get_command(app)
SHELL = [fence for fences in of_kind("sh").values() for fence in fences]


def lines(code):
    """Its commands as words, without comments; JSON that goes over several lines is one word."""
    joined = re.sub(r"(?:^|[ \t])# .*$", "", code.replace("\\\n", " "), flags=re.MULTILINE)
    read = shlex.shlex(joined, posix=True, punctuation_chars=";&|\n")
    read.whitespace, read.whitespace_split, read.commenters = " \t", True, ""
    words = []
    for word in [*read, "\n"]:
        if set(word) <= set(";&|\n"):
            if words:
                yield words
            words = []
        else:
            words.append(word)


def parse(command, words, name):
    """Have the commands' own parser look at the words; nothing is run."""
    context = command.make_context(name, list(words))
    if hasattr(command, "commands"):
        rest = [*context._protected_args, *context.args] if hasattr(context, "_protected_args") else context.args
        parse(command.commands[rest[0]], rest[1:], rest[0])


def commands_of(fence):
    for words in lines(fence.code):
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words:
            yield words


@pytest.mark.parametrize("fence", SHELL, ids=str)
def test_a_block_of_shell_says_commands_that_are_there(fence):
    found = list(commands_of(fence))
    assert found
    for words in found:
        if words[0] == "ctxshaper":
            parse(COMMAND, words[1:], "ctxshaper")


def test_the_check_sees_what_is_wrong():
    for line in ("shape -q x --bugdet 3 a.txt", "store stat", "eval --limit 0 --data x", "index a.txt"):
        with pytest.raises(Exception, match=r"(?i)no such option|missing|input should"):
            parse(COMMAND, line.split(), "ctxshaper")
    with pytest.raises(KeyError):
        parse(COMMAND, ["store", "mend", "x"], "ctxshaper")


def options_of(command):
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


def test_commands_that_the_text_names_are_there():
    named = 0
    for path in PAGES:
        for line in re.findall(r"`ctxshaper ([a-z][^`\n]*)`", path.read_text(encoding="utf-8")):
            command = COMMAND
            words = shlex.split(line)
            while hasattr(command, "commands") and words and words[0] in command.commands:
                command, words = command.commands[words[0]], words[1:]
            assert command is not COMMAND, f"{path.name}: ctxshaper {line}"
            unknown = {word for word in words if word.startswith("-")} - options_of(command)
            assert not unknown, f"{path.name}: ctxshaper {line}"
            named += 1
    assert named > 20


def test_extras_benchmarks_and_targets_that_the_text_names_are_there():
    text = "\n".join(path.read_text(encoding="utf-8") for path in PAGES)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {name for some in re.findall(r"ctxshaper\[([\w,-]+)\]", text) for name in some.split(",")}
    assert named
    assert named <= set(extras)
    benchmarks = set(re.findall(r"python -m benchmarks ([a-z]\w*)", text))
    assert benchmarks
    assert benchmarks <= set(NAMES)
    targets = set(re.findall(r"`make ([a-z]+)`", text))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
