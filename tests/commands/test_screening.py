"""`calibrate --screen` writes the threshold that the user's benign passages ask for."""

import dataclasses
import json

import pytest
from typer.testing import CliRunner

from ctxshaper import HeadProfile
from ctxshaper.commands.app import app

TEXTS = [
    f"The ferry number {n} leaves the harbour at {n} o'clock. Please follow the signs to pier {n}." for n in range(30)
]


@pytest.fixture
def benign(tmp_path):
    file = tmp_path / "benign.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return file


def run(*arguments):
    return CliRunner().invoke(app, ["calibrate", *map(str, arguments)])


def test_the_profile_has_the_threshold_and_nothing_else_is_changed(benign, tmp_path, reader):
    out = tmp_path / "heads.json"
    found = run("--screen", benign, "--false-alarms", 0.1, "--out", out)
    assert found.exit_code == 0, found.output
    assert "3 of 30 benign passages" in found.stderr
    made, shipped = HeadProfile.load(out), reader.profile
    assert made.injection.threshold != shipped.injection.threshold
    assert made.injection.weights == shipped.injection.weights
    assert (made.heads, made.abstention) == (shipped.heads, shipped.abstention)
    assert made.provenance["injection_threshold"] == {"benign_passages": 30, "false_alarms": 0.1}


def test_a_profile_without_a_probe_is_an_error(benign, tmp_path, reader, monkeypatch):
    bare = dataclasses.replace(reader.profile, injection=None)
    monkeypatch.setattr(HeadProfile, "shipped", classmethod(lambda cls, name: bare))
    found = run("--screen", benign, "--false-alarms", 0.1, "--out", tmp_path / "heads.json")
    assert found.exit_code != 0
    assert "no injection probe" in f"{found.stderr}{found.exception}"
    assert not (tmp_path / "heads.json").exists()


def test_too_few_passages_are_refused(benign, tmp_path):
    found = run("--screen", benign, "--out", tmp_path / "heads.json")
    assert found.exit_code != 0
    assert "at least 100" in f"{found.stderr}{found.exception}"
    assert not (tmp_path / "heads.json").exists()


def test_no_passage_is_an_error(tmp_path):
    (tmp_path / "empty.txt").write_text("  ")
    found = run("--screen", tmp_path / "empty.txt", "--out", tmp_path / "heads.json")
    assert found.exit_code != 0
    assert "no passage" in f"{found.stderr}{found.exception}"
