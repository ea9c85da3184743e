"""The command line as people use it."""

import json
import random
import re
import resource
import subprocess
import sys
from io import StringIO

import pytest
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.structured import parses
from benchmarks.structured.documents import entries
from ctxshaper import Context, Decision, Passage, Span, StageTrace, Trace
from ctxshaper.commands.app import app
from ctxshaper.commands.showing import show
from ctxshaper.pipelines import shipped_recipes
from tests.machine import slowness

pytestmark = pytest.mark.usefixtures("one_reader")
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


def test_json_holds_the_trace_once(tmp_path):
    (tmp_path / "a.jsonl").write_text(LINES, encoding="utf-8")
    result = run(app, [*ASK, "-p", str(tmp_path / "a.jsonl"), "--json", "--trace"])
    shaped = json.loads(result.stdout)
    assert shaped["passages"][0]["id"] == "7"
    assert shaped["tokens"] <= 0.6 * shaped["tokens_in"]
    assert shaped["trace"]["stages"][0]["stage"] == "EvidenceFilter"
    assert result.stderr == ""


def test_the_trace_beside_the_text(tmp_path):
    (tmp_path / "a.jsonl").write_text(LINES, encoding="utf-8")
    result = run(app, [*ASK, str(tmp_path / "a.jsonl"), "--trace"])
    assert "Ada Moreau" in result.stdout
    assert json.loads(result.stderr)["stages"][0]["stage"] == "EvidenceFilter"


def test_every_file_that_is_named_is_read(tmp_path):
    (tmp_path / "a.txt").write_text("The bridge was designed by Ada Moreau.", encoding="utf-8")
    (tmp_path / "ok.jsonl").write_text('"The bridge was opened in 1894."\n', encoding="utf-8")
    (tmp_path / "c.html").write_text("<p>The bridge is long.</p>", encoding="utf-8")
    names = [str(tmp_path / name) for name in ("a.txt", "ok.jsonl", "c.html")]
    result = run(app, ["shape", names[2], "-q", "bridge", "--recipe", "fast", "-p", names[0], "-p", names[1]])
    assert result.exit_code == 0, result.output
    for text in ("Ada Moreau", "in 1894", "is long"):
        assert text in result.stdout


@pytest.mark.parametrize("number", [12, 36, 44, 66])
def test_files_of_every_kind_are_shaped_and_stay_what_they_are(number, tmp_path):
    entry = entries()[number]
    (tmp_path / "file.txt").write_text(entry.text, encoding="utf-8")
    result = run(
        app, ["shape", "-q", entry.question, str(tmp_path / "file.txt"), "--recipe", "fast", "--budget", "20%"]
    )
    assert result.exit_code == 0, result.output
    title, _, text = result.stdout.partition("\n")
    assert title == "file"
    assert 0 < len(text) < len(entry.text)
    assert parses(entry.kind, text)


@pytest.mark.parametrize("budget", ["0.6", "60%"])
def test_a_share_is_spelled_both_ways(budget):
    result = run(app, ["shape", "-q", "Who designed the bridge?", "--recipe", "fast", "--budget", budget, "-"], LINES)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Bridge\nThe bridge was designed by Ada Moreau.")
    assert "potassium" not in result.stdout


def test_help_lists_the_recipes_that_ship():
    text = " ".join(run(app, ["shape", "-h"], env={"COLUMNS": "500"}).stdout.split())
    assert f"A shipped recipe ({', '.join(shipped_recipes())}) or a YAML file" in text


def test_an_empty_result_is_said():
    result = run(app, [*ASK, "-"], input=" ")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == ""
    assert "standard input is empty" in result.stderr
    assert "the shaped context is empty" in result.stderr


def test_what_is_not_utf8_is_said_and_binary_is_never_printed(tmp_path):
    (tmp_path / "a.txt").write_bytes("Le pont a été dessiné par Ada Moreau, née à Lyon.".encode("latin-1"))
    result = run(app, [*ASK, "--budget", "100%", str(tmp_path)])
    assert "été dessiné" in result.stdout
    assert "is not UTF-8; it is read as cp1252" in result.stderr
    (tmp_path / "b.txt").write_bytes(random.Random(0).randbytes(1000))
    result = run(app, [*ASK, str(tmp_path / "b.txt")])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "b.txt is not text" in result.stderr


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
        ([], None, "no passages: name files"),
        (["-", "--budget", "1.5"], LINES, "budget"),
        (["-", "--budget", "0.1.2"], LINES, "cannot read the budget"),
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


@pytest.mark.parametrize(
    "arguments",
    [
        ["shape", "-q", "q", "missing.jsonl"],
        ["index", "missing.jsonl", "--store", "keys"],
        ["eval", "--data", "missing.jsonl"],
        ["calibrate", "--data", "missing.jsonl"],
        ["calibrate", "--screen", "missing.jsonl"],
        ["profile", "--data", "missing.jsonl"],
        ["mine-distractors", "missing.jsonl", "out.jsonl"],
        ["mine-distractors", "here.jsonl", "out.jsonl", "--corpus", "missing.jsonl"],
    ],
)
def test_a_missing_file_is_said_before_anything_heavy_is_imported(arguments, tmp_path):
    (tmp_path / "here.jsonl").write_text('{"query": "q", "answers": ["a"]}\n')
    code = (
        "import atexit, sys\nfrom ctxshaper.commands.app import app\n"
        "atexit.register(lambda: print([m for m in ('torch', 'numpy', 'transformers') if m in sys.modules]))\n"
        "app(sys.argv[1:])"
    )
    spent = []
    for _ in range(2):  # under 0.5 s of processor time on a quiet core, and half as much again beside another process
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert result.returncode == 2
        assert "there is no file" in result.stderr
        assert "missing.jsonl" in result.stderr
        assert result.stdout == "[]\n"
    assert min(spent) < 0.8 * slowness()


def test_nothing_but_the_text_when_not_a_terminal():
    result = subprocess.run(
        [sys.executable, "-m", "ctxshaper", *ASK, "-p", "-"], input=LINES, capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    assert "Ada Moreau" in result.stdout


def test_version():
    assert run(app, ["--version"]).stdout.startswith("ctxshaper 0.")


def test_a_page_is_written_where_it_is_asked_for(tmp_path):
    page = tmp_path / "page.html"
    result = run(app, [*ASK, "-", "--html", str(page)], input=LINES)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Bridge\nThe bridge was designed by Ada Moreau.")
    text = page.read_text(encoding="utf-8")
    assert "potassium" in text
    assert "dropped by EvidenceFilter" in text


@pytest.mark.parametrize("place", ["", "none/page.html"])
def test_a_place_where_no_page_can_be_is_refused_before_anything_is_read(place, tmp_path):
    result = run(app, [*ASK, "none.txt", "--html", str(tmp_path / place)])
    assert result.exit_code == 2
    assert "--html" in result.stderr
    assert "name a file" in result.stderr


def test_a_page_shows_what_each_head_looked_at_where_that_is_asked_for(tmp_path):
    page = tmp_path / "page.html"
    assert run(app, [*ASK, "-", "--html", str(page), "--attention"], input=LINES).exit_code == 0
    assert "layer 15, head 6" in page.read_text(encoding="utf-8")


def test_show_prints_what_is_dropped_too_and_why():
    text = run(app, [*ASK, "-", "--show"], input=LINES).stdout
    assert re.search(r"Passage 0: Bridge · \d+ of \d+ characters kept", text)
    assert re.search(r"^-?\d+\.\d\d The bridge was designed by Ada Moreau\.", text, re.MULTILINE)
    assert re.search(r"-\d+\.\d\d \[-They are rich in potassium, and", text)
    text = run(app, [*ASK, "-", "--show", "--budget", "13"], input=LINES).stdout
    assert re.search(r"Passage 1 · dropped, best score -?\d+\.\d\d\nBananas are yellow\.", text)


def test_show_in_a_terminal_dims_what_is_dropped_and_moves_no_cursor():
    out = StringIO()
    passage = Passage("Kept\x1b[2J here. Gone \u202eaway.", metadata={"title": "\x1b]0;title\x07"})
    decisions = (Decision(0, Span(0, 15), True, "best", 1.5), Decision(0, Span(15, 27), False, "low", -1.0))
    trace = Trace((StageTrace("S", 0.1, 2, 1, decisions),))
    whole = Context("q", (passage, Passage("Elsewhere\x1b[1A.")), len, trace=trace)
    shaped = whole.with_passages([passage.keep([Span(0, 15)])])
    show(shaped, Console(file=out, force_terminal=True, color_system="standard"))
    assert "\x1b[2m" not in out.getvalue().split("Gone")[0].split("Kept")[1]
    assert "\x1b[2;9mGone <U+202E>away." in out.getvalue()
    assert "Kept<U+001B>[2J here." in out.getvalue()
    assert "Passage 1\x1b[0m · dropped\n\x1b[2mElsewhere<U+001B>[1A." in out.getvalue()
    plain = StringIO()
    show(shaped, Console(file=plain))
    assert "1.50 Kept<U+001B>[2J here. -1.00 [-Gone <U+202E>away.-]" in plain.getvalue()


@pytest.mark.parametrize("options", [["--attention"], ["--show", "--json"]])
def test_options_that_do_not_go_together_are_refused(options):
    result = run(app, [*ASK, "none.txt", *options])
    assert result.exit_code == 2
    assert "--attention needs --html" in result.stderr
