"""What a method that scores units gets from its base, and how another package brings one."""

import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from ctxshaper import Context, Pipeline, ScoringStage, StageError

PLUGIN = '''
"""Keeps the units that share the longest words with the question."""

from dataclasses import dataclass

from ctxshaper import ScoringStage


@dataclass(frozen=True, kw_only=True)
class LongWords(ScoringStage):
    """Scores a unit by the longest word that it shares with the question.

    Attributes:
        least: shorter words do not count.
    """

    least: int = 3

    def score(self, context, units, run):
        """The length of the longest shared word."""
        asked = {word for word in context.query.lower().split() if len(word) >= self.least}
        scores = []
        for unit in units:
            source = context.passages[unit.passage].source
            words = set(source[unit.span.start : unit.span.end].lower().rstrip(". ").split())
            scores.append(max(map(len, asked & words), default=0))
        run.log.notes["asked"] = sorted(asked)
        return scores
'''
RECIPE = "budget: 60%\nstages:\n  - LongWords:\n      least: 4\n"
CALL = (
    "from ctxshaper import Pipeline\n"
    "shaped = Pipeline.from_recipe('recipe.yaml', tokenizer=lambda t: len(t.split()))"
    ".shape('Who designed that bridge', ['Ada designed it. She slept well today.'])\n"
    "print(shaped.text, '|', shaped.trace.stages[0].notes['asked'], shaped.trace.stages[0].stage)"
)


def test_another_package_registers_a_stage_and_runs_it_from_yaml(tmp_path):
    (tmp_path / "long_words.py").write_text(PLUGIN)
    metadata = tmp_path / "long_words-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: long-words\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[ctxshaper.stages]\nLongWords = long_words:LongWords\nBroken = long_words:no_such_class\n"
    )
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "broken.yaml").write_text("stages: [Broken]\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])

    def run(code):
        return subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True
        )

    done = run(CALL)
    assert done.stdout.decode().strip() == "Ada designed it. | ['bridge', 'designed', 'that'] LongWords", done.stderr
    failed = run("from ctxshaper import Recipe; Recipe.load('broken.yaml')")
    assert b"RecipeError" in failed.stderr
    assert b"'Broken'" in failed.stderr


@dataclass(frozen=True, kw_only=True)
class Given(ScoringStage):
    """Scores as it is told."""

    scores: tuple = ()

    def score(self, context: Context, units, run):
        return self.scores


def words(text):
    return len(text.split())


@pytest.mark.parametrize("scores", [(1.0,), (1.0, float("nan")), (float("inf"), 0.0), (1, 2, 3)])
def test_scores_that_are_missing_or_no_numbers_are_an_error(scores):
    with pytest.raises(StageError, match=r"one finite number for each of 2 units"):
        Pipeline([Given(scores=scores)], tokenizer=words).shape("q", ["One. Two."], "60%")


def test_every_unit_has_a_decision():
    shaped = Pipeline([Given(scores=(0.1, 0.9, 0.5))], tokenizer=words).shape(
        "q", ["One is long. Two wins. Three is not so."], 3
    )
    decisions = shaped.trace.stages[0].decisions
    assert [(d.kept, d.score) for d in decisions] == [(False, 0.1), (True, 0.9), (False, 0.5)]
    assert shaped.text == "Two wins."
    assert shaped.trace.stages[0].notes["units"] == 3


def test_an_adaptive_budget_keeps_everything_where_a_method_knows_no_better():
    shaped = Pipeline([Given(scores=(0.1, 0.9))], tokenizer=words).shape("q", ["One. Two."], "auto")
    assert shaped.text == "One. Two."
