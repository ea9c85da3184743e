"""The conformance test: ours pass all of it, it catches what it is for, and docs/conformance.md tells the truth."""

from pathlib import Path

import pytest

from ctxshaper.connectors.conformance import check_compressor
from tests.connectors.subjects import examine, table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"


@pytest.fixture(scope="module")
def found(pipeline):
    return examine(pipeline)


def test_ours_pass_all_of_it(found):
    for subjects in found.values():
        for name, checks in subjects.items():
            if name.startswith("**"):
                assert all(check.passed for check in checks), (name, checks)


def test_the_page_holds_what_was_found(found):
    text = PAGE.read_text(encoding="utf-8")
    for framework, subjects in found.items():
        assert table(subjects) in text, f"docs/conformance.md is out of date for {framework}:\n{table(subjects)}"


def test_it_catches_what_it_is_for():
    class Bad:
        calls = 0

        def compress_documents(self, documents, query):
            self.calls += 1
            documents[0].metadata["calls"] = {self.calls}
            documents[0].id = None
            return documents[: self.calls % 2 + 1]

        async def acompress_documents(self, documents, query):
            raise NotImplementedError

    failed = {check.name for check in check_compressor(Bad()) if not check.passed}
    assert failed == {
        "Input not mutated",
        "Output shares no metadata with input",
        "Ids kept",
        "Metadata JSON-safe",
        "Empty input gives empty output",
        "Order of calls does not matter",
        "Async equals sync",
        "16 threads give what one gives",
    }
