"""The base install: no model library, no numpy. What needs them says one line, all else works."""

import json
import subprocess
import sys

import pytest

ABSENT = (
    "torch",
    "numpy",
    "transformers",
    "tokenizers",
    "sentence_transformers",
    "bm25s",
    "faiss",
    "httpx",
    "accelerate",
    "gguf",
    "triton",
)
BLOCK = f"import sys\nfor name in {ABSENT}: sys.modules[name] = None\n"
RUN = BLOCK + "from ctxshaper.commands.app import app\napp(prog_name='ctxshaper')"
COMMANDS = ("shape", "eval", "calibrate", "profile", "mine-distractors", "doctor")


def run(*arguments, code=RUN):
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_works_everywhere(command):
    for option in ("-h", "--help"):
        result = run(*command, option)
        assert result.returncode == 0, result.stderr
        assert "Usage: ctxshaper" in result.stdout


def test_passages_are_read(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one", "page": 3}\n"two"\n', encoding="utf-8")
    (tmp_path / "b.txt").write_bytes("Elle a \xe9t\xe9 l\xe0.".encode("latin-1"))
    code = BLOCK + (
        "from ctxshaper.data.files import iter_passages\n"
        "print(ascii([(p.source, dict(p.metadata)) for p in iter_passages(sys.argv[1:], lambda message: None)]))"
    )
    result = run(tmp_path, code=code)
    assert result.stderr == ""
    assert result.stdout.strip() == ascii(
        [
            ("one", {"page": 3}),
            ("two", {}),
            ("Elle a été là.", {"title": "b", "encoding": "cp1252"}),
        ]
    )


def test_questions_are_read(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({"question": "Who?", "passages": ["Odo built it."], "answers": "Odo"}), encoding="utf-8")
    code = BLOCK + "from ctxshaper.evaluation.loaders import load_questions\nprint(load_questions(sys.argv[1])[0].text)"
    assert run(path, code=code).stdout == "Who?\n"


@pytest.mark.parametrize("command", ["shape", "eval", "calibrate", "profile", "mine-distractors"])
def test_what_needs_a_model_says_how_to_install_it(command, tmp_path):
    path = tmp_path / "q.jsonl"
    evidence = [{"passage": 0, "text": "Odo built it."}]
    entry = {"query": "Who?", "passages": ["Odo built it."], "answers": ["Odo"], "evidence": evidence, "text": "t"}
    path.write_text(json.dumps(entry) + "\n", encoding="utf-8")
    arguments = {
        "shape": ["-q", "Who?", path],
        "eval": ["--data", path, "--out", tmp_path / "out"],
        "calibrate": ["--data", path, "--out", tmp_path / "heads.json"],
        "profile": ["--out", tmp_path / "positions.json"],
        "mine-distractors": [path, tmp_path / "mined.jsonl", "--corpus", path],
    }
    result = run(command, *arguments[command])
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("ctxshaper: ")
    assert "pip install 'ctxshaper[re" in line


def test_doctor_advises_what_is_not_installed_and_nothing_else():
    result = run("doctor")
    assert result.returncode == 1
    assert "pip install 'ctxshaper[reader]'" in result.stdout
    assert "not installed: torch, transformers, tokenizers, numpy" in result.stdout
    assert "Traceback" not in result.stderr
