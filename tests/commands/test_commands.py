"""The two commands run from end to end on small files."""

import json

import pytest
import typer
from typer.testing import CliRunner

from ctxshaper import PositionProfile
from ctxshaper.commands.mine_distractors import mine_distractors
from ctxshaper.commands.profile import profile
from ctxshaper.errors import InvalidInputError
from ctxshaper.evaluation.mining import MinedFile
from ctxshaper.evaluation.questions import made_up_questions


def run(command, *arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_profile_writes_a_file_that_says_nothing_pays_yet(tmp_path):
    out = tmp_path / "positions.json"
    result = run(profile, "--slots", 3, "--prompts", 2, "--no-gains", "--out", out)
    assert result.exit_code == 0, result.output
    made = PositionProfile.load(out)
    assert (made.slots, made.generator, made.pays) == (3, "SmolLM2-135M-Instruct", False)
    assert made.provenance["prompts"] == 2


@pytest.fixture
def files(tmp_path):
    items = made_up_questions()[:3]
    questions, corpus = tmp_path / "q.jsonl", tmp_path / "c.jsonl"
    questions.write_text("".join(json.dumps({"question": q.text, "answers": q.answers}) + "\n" for q in items))
    passages = items[0].passages
    corpus.write_text("".join(json.dumps({"text": p.text, "title": p.title}) + "\n" for p in passages))
    return questions, tmp_path / "out.jsonl", corpus


def test_mining_goes_on_where_it_stopped(files):
    questions, out, corpus = files
    assert run(mine_distractors, questions, out, "--corpus", corpus, "--count", 2).exit_code == 0
    first = out.read_text()
    assert len(list(MinedFile(out))) == 6
    out.write_text("".join(first.splitlines(keepends=True)[:4]))  # one question, its mark, and a half-finished one
    result = run(mine_distractors, questions, out, "--corpus", corpus, "--count", 2)
    assert result.exit_code == 0
    assert "1 of 3 questions" in result.output
    assert out.read_text() == first


def test_mining_takes_query_for_question(files):
    questions, out, corpus = files
    run(mine_distractors, questions, out, "--corpus", corpus, "--count", 2)
    renamed = questions.with_name("renamed.jsonl")
    renamed.write_text(questions.read_text().replace('"question"', '"query"'))
    result = run(mine_distractors, renamed, out.with_name("again.jsonl"), "--corpus", corpus, "--count", 2)
    assert result.exit_code == 0, result.output
    assert out.with_name("again.jsonl").read_text() == out.read_text()


def test_mining_says_what_is_missing(files):
    questions, out, _ = files
    nowhere = questions.with_name("missing.jsonl")
    assert "there is no file" in str(run(mine_distractors, nowhere, out).exception)
    assert "there is no file" in str(run(mine_distractors, questions, out, "--corpus", nowhere).exception)
    assert "--corpus" in str(run(mine_distractors, questions, out).exception)
    questions.write_text('{"question": "q", "answers": "one"}\n')
    assert "list of texts" in str(run(mine_distractors, questions, out, "--corpus", questions).exception)
    questions.write_text('{"question": "q"}\n')
    error = run(mine_distractors, questions, out, "--corpus", questions).exception
    assert isinstance(error, InvalidInputError)
    assert "line 1: no answers" in str(error)
