"""The README: its code prints what it says, its commands exist, its links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from ctxshaper.commands.app import app

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OURS = re.compile(
    r"https://(?:github\.com/ctxshaper/ctxshaper/blob|raw\.githubusercontent\.com/ctxshaper/ctxshaper)/main/"
)


def blocks(language):
    return [body for kind, body in FENCE.findall(TEXT) if kind == language]


def test_its_code_prints_what_stands_below_it(capsys):
    (code,), (printed,) = blocks("python"), blocks("text")
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102  # our own
    assert capsys.readouterr().out == printed


def commands():
    lines = [line.partition("  #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith("ctxshaper ")]


@pytest.mark.parametrize("line", commands())
def test_its_commands_exist(line):
    _, name, *words = shlex.split(line)
    command = typer.main.get_command(app).commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known


def test_its_targets_of_make_exist():
    made = re.findall(r"^make (\w+)", TEXT, re.MULTILINE)
    assert made
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"\n{name}:" in makefile for name in made)


def test_all_links_are_absolute_and_lead_to_files_of_the_repository():
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert len(links) > 10
    for link in links:
        place = OURS.match(link)
        assert place, link
        assert (ROOT / link[place.end() :]).is_file(), link
