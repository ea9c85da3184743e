"""The benchmarks' runner: what it lists, what it writes, and how it compares with another revision."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import registry
from benchmarks.against import _beside, _medians, _without
from benchmarks.code import figures
from benchmarks.table import Table, spelled

ROOT = Path(__file__).resolve().parents[2]


def runner(*arguments, where=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *map(str, arguments)],
        cwd=where,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_benchmark_is_listed_with_what_it_measures():
    described = registry.described()
    assert set(described) == set(registry.NAMES)
    assert all(text.endswith((".", "?")) for text in described.values())
    listed = runner()
    assert listed.returncode == 0
    for name, text in described.items():
        assert f"{name} " in listed.stdout
        assert text in listed.stdout
    # What is a benchmark is in the registry, and what is in the registry is a benchmark.
    files = [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "benchmarks").glob("*/__init__.py")]
    with_run = {
        path.parent.name if path.stem == "__init__" else path.stem
        for path in files
        if "\ndef run(" in path.read_text(encoding="utf-8")
    }
    assert with_run == set(registry.NAMES)


def test_an_unknown_name_is_one_line():
    result = runner("quality")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "evidence" in result.stderr


def test_a_table_is_text_and_json():
    table = Table("speed", {"a": {"ms": 1.5, "n": 1200.0}, "b": {"ms": 0.25}}, ("One thread.",))
    assert str(table).splitlines()[0] == "| speed | ms | n |"
    assert "| a | 1.500 | 1,200 |\n| b | 0.250 |  |" in str(table)
    assert str(Table.from_dict(json.loads(json.dumps(table.to_dict())))) == str(table)


@pytest.mark.parametrize(("value", "text"), [(0.0123, "0.012"), (12.34, "12.3"), (5122.4, "5,122"), (3.0, "3")])
def test_figures_have_the_digits_that_they_deserve(value, text):
    assert spelled(value) == text


def test_a_comparison_puts_the_baseline_and_the_ratio_beside():
    ours = _medians([[Table("t", {"a": {"ms": ms}, "new": {"ms": 1.0}})] for ms in (1.0, 3.0, 50.0)])[0]
    beside = _beside(ours, Table("t", {"a": {"ms": 2.0}}), "how")
    assert beside.rows == {"a": {"ms": 3.0}, "a, baseline": {"ms": 2.0}, "a, ratio": {"ms": 1.5}, "new": {"ms": 1.0}}
    assert beside.notes == ("how", "The baseline does not have: new.")


def test_options_of_the_comparison_are_not_passed_on():
    given = ["--limit", "3", "--baseline", "HEAD", "--rounds=2", "--json", "x", "--no-likelihood"]
    assert _without(given, ("--baseline", "--rounds", "--json")) == ["--limit", "3", "--no-likelihood"]


def test_figures_of_code_are_counted_as_by_hand(tmp_path):
    (tmp_path / "ctxshaper").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "ctxshaper" / "a.py").write_text(
        "def shown(x: int) -> int:\n    '''Says so.'''\n    def inner(y): return y\n    return inner(x)\n"
        "class _Own:\n    def method(self) -> None: ...\n"
    )
    (tmp_path / "tests" / "test_a.py").write_text("1\n2\n3\n")
    found = figures(tmp_path)
    assert (found["lines"], found["functions"], found["lines of test per line"]) == (6, 3, 0.5)
    assert found["documented, all"] == pytest.approx(1 / 3)
    assert found["typed, all"] == pytest.approx(2 / 3)
    assert found["documented, public"] == found["typed, public"] == 1


def test_a_revision_is_measured_in_turn_with_the_working_tree(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    result = runner("code", "--baseline", "HEAD", "--json", tmp_path / "figures.json")
    assert result.returncode == 0, result.stderr
    (table,) = json.loads((tmp_path / "figures.json").read_text())
    own, base, ratio = table["rows"].values()
    assert ratio["lines"] == own["lines"] / base["lines"]
    assert "Baseline HEAD" in result.stdout
    command = ["git", "worktree", "list"]
    left = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "ctxshaper-baseline" not in left


def test_a_revision_that_is_none_is_one_line():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    result = runner("code", "--baseline", "no-such-revision")
    assert result.returncode == 1
    assert "no-such-revision" in result.stderr
