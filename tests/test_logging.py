"""What the library logs: nothing on its own, warnings once, and no text of a user."""

import ast
import logging
import subprocess
import sys
from pathlib import Path

import pytest

import ctxshaper
from ctxshaper import FakeReader, Pipeline, tracing
from ctxshaper.connectors.langchain import ContextShaper
from ctxshaper.stages import Stage

PACKAGE = Path(ctxshaper.__file__).parent


class Warned(Stage):
    def shape(self, context, run):
        run.log.warnings.append("the passages are few")
        return context


class Broken(Stage):
    def shape(self, context, run):
        raise RuntimeError(f"cannot shape {context.passages[0].text}")


def test_loggers_are_named_after_their_modules():
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        made = [c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "getLogger"]
        if "commands" in path.parts:  # the command line shows what the library logs
            continue
        assert all(isinstance(call.args[0], ast.Name) and call.args[0].id == "__name__" for call in made), path
        if path.relative_to(PACKAGE).parts[0] != "commands":
            assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"], path


def test_an_application_without_logging_reads_nothing_on_its_standard_error():
    code = "import logging, ctxshaper; logging.getLogger('ctxshaper.reading').warning('x')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_warning_is_logged_once(caplog):
    pipeline = Pipeline([Warned()], reader=FakeReader())
    shaped = pipeline.shape("Who?", ["Odo built it."])
    assert shaped.warnings == ("Warned: the passages are few",)
    ContextShaper(pipeline=pipeline).compress_documents([], "Who?")
    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records] == [
        ("ctxshaper.stages.base", "WARNING", "Warned: the passages are few")
    ]


def test_a_connector_logs_no_warning_again(caplog):
    from langchain_core.documents import Document

    shaper = ContextShaper(pipeline=Pipeline([Warned()], reader=FakeReader()))
    shaper.compress_documents([Document("Odo built it.")], "Who?")
    assert caplog.text.count("the passages are few") == 1


def test_an_empty_result_is_logged(caplog):
    class Nothing(Stage):
        def shape(self, context, run):
            return context.with_passages(())

    Pipeline([Nothing()], reader=FakeReader(), budget="30%").shape("Who?", ["Odo built it."])
    assert [r.getMessage() for r in caplog.records] == ["nothing is kept: no stage left anything (budget: 30%)"]


@pytest.mark.parametrize("on", [False, True])
def test_an_error_in_the_log_quotes_texts_only_where_they_may_be_recorded(caplog, monkeypatch, on):
    monkeypatch.setenv("CTXSHAPER_TRACE_CONTENT", str(on).lower())
    tracing.record_content(None)
    Pipeline([Broken()], reader=FakeReader(), on_error="skip").shape("Who?", ["Odo built it."])
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert ("Odo" in record.getMessage()) is on
    assert record.getMessage().startswith("Broken failed and was skipped: StageError")


def test_the_command_line_shows_what_the_library_logs():
    code = (
        "import logging\n"
        "from ctxshaper.commands.logs import show_logs\n"
        "show_logs(); show_logs()\n"
        "logging.getLogger('ctxshaper.reading.store').warning('the store %s is damaged \\ud800', 'keys')\n"
        "logging.getLogger('ctxshaper.reading.store').info('unimportant')\n"
        "logging.getLogger('ctxshaper.stages.base').warning('shown by the command itself')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "ctxshaper: the store keys is damaged ?\n"
