"""The command line as people use it."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from ctxshaper.commands.app import app

run = CliRunner().invoke
LINES = (
    '{"text": "The bridge was designed by Ada Moreau.", "id": 7, "title": "Bridge"}\n'
    '"Bananas are yellow. They are rich in potassium, and they grow in bunches in warm places."\n\n'
)
ASK = ["shape", "-q", "Who designed the bridge?", "--recipe", "fast", "--budget", "60%"]


def test_passages_from_standard_input():
    result = run(app, [*ASK, "-p", "-"], input=LINES)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Bridge\nThe bridge was designed by Ada Moreau.")
    assert "potassium" not in result.stdout


def test_json_and_trace(tmp_path):
    (tmp_path / "a.jsonl").write_text(LINES, encoding="utf-8")
    result = run(app, [*ASK, "-p", str(tmp_path / "a.jsonl"), "--json", "--trace"])
    shaped = json.loads(result.stdout)
    assert shaped["passages"][0]["id"] == "7"
    assert shaped["tokens"] <= 0.6 * shaped["tokens_in"]
    assert json.loads(result.stderr)["stages"][0]["stage"] == "EvidenceFilter"


def test_a_folder_of_files(tmp_path):
    (tmp_path / "one.md").write_text("# Bridge\n\nThe bridge was designed by Ada Moreau.\n", encoding="utf-8")
    (tmp_path / "two.txt").write_text(
        "Bananas are yellow. They are rich in potassium, and grow in bunches.", encoding="utf-8"
    )
    (tmp_path / "three.pdf").write_bytes(b"%PDF")
    result = run(app, [*ASK, "-p", str(tmp_path)])
    assert "Ada Moreau" in result.stdout
    assert "Bananas" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "text", "message"),
    [
        (["-p", "nowhere"], None, "there is no file"),
        (["-p", "-", "--budget", "lots"], LINES, "cannot read the budget"),
        (["-p", "-", "--recipe", "nope"], LINES, "no recipe"),
        (["-p", "-"], '{"txt": 1}', "line 1: not a passage"),
        (["-p", "-"], '{"text": 1}', "must be a str"),
        (["-p", "-", "-q", " "], LINES, "query"),
        (["-p", "-", "--model", "./none"], LINES, "there is no model"),
    ],
)
def test_mistakes_are_one_line_on_stderr(arguments, text, message):
    result = run(app, [*ASK, *arguments], input=text)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_doctor_finds_the_model():
    result = run(app, ["doctor"])
    assert result.exit_code == 0, result.output
    assert "passed" in result.stdout


def test_nothing_but_the_text_when_not_a_terminal():
    result = subprocess.run(
        [sys.executable, "-m", "ctxshaper", *ASK, "-p", "-"], input=LINES, capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    assert "Ada Moreau" in result.stdout


def test_version():
    assert run(app, ["--version"]).stdout.startswith("ctxshaper 0.")
