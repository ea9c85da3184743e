"""Every example runs, saves tokens, and maps a citation back; each is short."""

import re
import runpy

import pytest

from tests.connectors.conftest import EXAMPLES

NAMES = ["plain", "langchain_chain", "langchain_agent", "llama_index_query_engine"]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs(name, capsys):
    path = EXAMPLES / f"{name}.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60
    runpy.run_path(str(path), run_name="__main__")
    out = capsys.readouterr().out
    saved, total = map(int, re.search(r"tokens saved: (\d+) of (\d+)", out).groups())
    assert 0 < saved < total
    assert re.search(r"cited: .+\[\d+:\d+\] = '.*Ada", out)
