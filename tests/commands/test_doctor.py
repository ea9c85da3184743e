"""Doctor is honest: about what is missing, and about its time."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ctxshaper.commands.app import app
from ctxshaper.extras import EXTRAS, advice, missing


def test_doctor_finds_the_model_and_says_what_took_how_long():
    result = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    times = re.search(r"passed in ([\d.]+) s \(import ([\d.]+) s, loading and reading ([\d.]+) s\)", result.stdout)
    whole, *parts = map(float, times.groups())
    assert abs(whole - sum(parts)) < 0.25
    assert "pip install" not in result.stdout


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_what_is_installed_is_not_advised(package, tmp_path):
    # Found, and yet it cannot be imported: installing it anew is not what helps.
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("raise ImportError('a library of it is damaged')")
    code = "import sys; sys.path.insert(0, sys.argv.pop()); from ctxshaper.commands.app import app; app(['doctor'])"
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert result.returncode == 1
    assert "self-test failed: a library of it is damaged" in result.stdout
    assert "pip install" not in result.stdout
    assert "Traceback" not in result.stderr


def test_only_a_missing_package_of_ours_is_advised():
    assert advice(ImportError("a library of it is damaged", name="torch")) is None
    assert advice(ImportError("no module", name="somebody_elses")) is None
    assert not missing("reader")


def test_every_package_of_the_table_is_known_to_an_extra():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    assert set(EXTRAS.values()) <= set(extras)
