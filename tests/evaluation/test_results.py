"""Results go on where they stopped, and are found again by another version."""

import json
import subprocess
import sys

import pytest

import ctxshaper.evaluation
from ctxshaper import InvalidInputError
from ctxshaper.evaluation.questions import made_up_questions
from ctxshaper.evaluation.results import Results, earlier_results, identity, matched
from ctxshaper.evaluation.summary import summarize


def row(question, value, recipe="qa", identity=None, **more):
    known = {"identity": identity} if identity else {}
    base = {"key": f"{question} {recipe} {value}", "question": question, "recipe": recipe, "budget": "30%", **known}
    return base | {"sentences": value, "tokens_in": 9, "tokens": 3, "tokens_kept": 1 / 3} | more


def written(folder, *rows):
    folder.mkdir()
    (folder / "results.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return folder


def test_a_line_that_was_cut_off_is_done_again(tmp_path):
    file = written(tmp_path / "out", row("a", 1)) / "results.jsonl"
    whole = file.read_text()
    file.write_text(whole + '{"key": "b')
    results = Results(file)
    assert file.read_text() == whole
    assert "a qa 1" in results
    assert "b" not in results
    results.add(row("b", 0))
    assert Results(file)["b qa 0"]["sentences"] == 0


def test_an_earlier_run_is_only_read(tmp_path):
    file = written(tmp_path / "out", row("a", 1)) / "results.jsonl"
    file.write_text(file.read_text() + '{"key": "b')
    before = file.read_bytes()
    assert [one["question"] for one in earlier_results(tmp_path / "out", [])] == ["a"]
    assert file.read_bytes() == before


def test_the_newest_result_counts_and_generators_go_by_name(tmp_path):
    folder = written(
        tmp_path / "out",
        row("a", 0, identity="A", likelihood=-9.0),
        row("a", 1, identity="A"),
        {"key": "k", "question": "a", "identity": "A", "recipe": "qa", "budget": "30%", "generator": "x", "em": 1.0},
        {"key": "l", "question": "a", "identity": "A", "recipe": "qa", "budget": "30%", "generator": "y", "em": 0.0},
    )
    (alone,) = earlier_results(folder, ["x"])
    assert (alone["sentences"], alone["em"]) == (1, 1.0)
    # Before 0.2 a result did not say which generator it asked.
    assert "likelihood" not in alone
    (both,) = earlier_results(folder, ["x", "y"])
    assert (both["em@x"], both["em@y"]) == (1.0, 0.0)
    (neither,) = earlier_results(folder, ["z"])
    assert "em" not in neither


def test_questions_are_found_by_what_they_are_and_old_ones_by_their_name():
    ours = [row("a", 1, identity="A"), row("b", 1, identity="B"), row("c", 1, identity="C"), row("c", 1, identity="D")]
    by_identity = [row("renamed", 0, identity="A"), row("b", 0, identity="other"), row("a", 0, "fast", identity="A")]
    assert [theirs["question"] for _, theirs in matched(ours, by_identity)] == ["renamed"]
    old = [row("a", 0), row("b", 0), row("b", 0.5), row("c", 0)]
    # Two old results called b, two of our questions called c: which belongs to which cannot be said.
    assert [mine["question"] for mine, _ in matched(ours, old)] == ["a"]


def test_the_gain_is_over_the_same_line_on_the_questions_that_both_hold():
    ours = [
        row(q, value, recipe, identity=q)
        for recipe in ("qa", "new")
        for q, value in zip("abcd", (1, 1, 0, 1), strict=True)
    ]
    earlier = [row(q, 0, identity=q) for q in "bcdz"]
    summary = summarize(ours, data="x", settings={}, against={"old": earlier})
    qa, new = summary.lines
    gain = qa.against["sentences over old"]
    assert gain.gain == pytest.approx(2 / 3)
    assert gain.count == 3
    assert 0 < gain.p <= 1
    assert gain.low <= gain.gain <= gain.high
    assert "sentences over old" not in new.against
    assert not any("tokens_kept" in name or "_ms" in name for name in qa.against)
    assert summary.to_dict()["lines"][0]["against"]["sentences over old"]["count"] == 3


def test_another_label_is_another_question():
    one, other = made_up_questions()[:2]
    assert identity(one) == identity(made_up_questions()[0]) != identity(other)


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"holds no results.jsonl; name the folder"):
        earlier_results(tmp_path, [])
    written(tmp_path / "out", {"key": "mine"})
    with pytest.raises(InvalidInputError, match="line 1: not a result"):
        earlier_results(tmp_path / "out", [])


def test_reading_questions_loads_no_numpy():
    code = "import sys; from ctxshaper.evaluation import load_questions; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
    with pytest.raises(AttributeError, match="no attribute 'Comparisons'"):
        ctxshaper.evaluation.Comparisons  # noqa: B018


def test_every_exported_name_is_there():
    assert all(getattr(ctxshaper.evaluation, name) for name in ctxshaper.evaluation.__all__)
