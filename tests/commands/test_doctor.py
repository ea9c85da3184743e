"""Doctor is honest: about what is missing, and about its time."""

import re
import tomllib
from pathlib import Path

from typer.testing import CliRunner

from ctxshaper.commands.app import app
from ctxshaper.commands.extras import EXTRAS, advice, missing
from ctxshaper.errors import MissingDependencyError


def test_doctor_finds_the_model_and_says_what_took_how_long():
    result = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    times = re.search(
        r"passed in ([\d.]+) s \(import ([\d.]+) s, model ([\d.]+) s, reading ([\d.]+) s\)", result.stdout
    )
    whole, *parts = map(float, times.groups())
    assert abs(whole - sum(parts)) < 0.25
    assert "pip install" not in result.stdout


def test_what_is_installed_is_not_advised(monkeypatch):
    # torch is installed here, so that a failing import of it is another trouble than a missing extra.
    assert advice(ImportError("libtorch.so is damaged", name="torch")) is None
    assert advice(ImportError("no module", name="somebody_elses")) is None
    assert not missing("reader")

    class Damaged:
        def __init__(self):
            try:
                raise ImportError("libtorch.so is damaged")
            except ImportError as error:
                raise MissingDependencyError("reading needs torch; pip install 'ctxshaper[reader]'") from error

    monkeypatch.setattr("ctxshaper.reading.reader.Reader", Damaged)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "libtorch.so is damaged" in result.stdout
    assert "pip install" not in result.stdout


def test_every_package_of_the_table_is_known_to_an_extra():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    assert set(EXTRAS.values()) <= set(extras)
