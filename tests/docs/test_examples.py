"""Every Python example of the pages runs, or says why it does not; what a page says that it prints is printed."""

import contextlib
import io
import json

import pytest
import yaml

from tests.docs.pages import DOCS, of_kind

PYTHON = of_kind("python", "py")


@pytest.mark.parametrize("page", PYTHON, ids=lambda path: path.relative_to(DOCS).as_posix())
@pytest.mark.filterwarnings("ignore")  # of the frameworks; a page's own are printed
def test_the_examples_print_what_the_page_says(page, given, loaded_once, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page", **given(page.stem)}  # an example goes on from those above it
    for example in PYTHON[page]:
        code = compile("\n" * (example.line - 1) + example.code, str(example), "exec", dont_inherit=True)
        if not example.reason:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(code, names)  # noqa: S102  # our own pages
            assert printed.getvalue() == example.printed, example


def test_most_examples_run():
    found = [example for examples in PYTHON.values() for example in examples]
    assert len(found) >= 40
    assert sum(not example.reason for example in found) >= 0.75 * len(found)
    assert {example.page for example in found if example.reason} <= {"ray.md", "steering.md", "telemetry.md"}


def test_data_in_the_pages_can_be_read():
    for fences in of_kind("yaml", "json").values():
        for fence in fences:
            if fence.kind == "yaml":
                assert all(yaml.safe_load_all(fence.code)), fence
            else:
                json.loads(fence.code)
