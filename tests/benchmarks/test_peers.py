"""The table beside other tools: what its lines say, and how a run goes on."""

import json

import pytest

from benchmarks.__main__ import main
from benchmarks.peers import key_of, tables
from benchmarks.questions import DATA

NAMES = ("qa", "bm25")


def lines(machine="CPU", **evidence):
    """Ten questions of MuSiQue at one share, by method."""
    return [
        {
            **{"method": name, "set": "MuSiQue", "question": str(n), "share": "15%", "machine": machine},
            **{"evidence": value, "touched": 0.5, "tokens": 14, "tokens_in": 100},
            **({"cold_ms": 9.0, "warm_ms": 2.0, "bytes": 3.0} if n == 1 else {}),
        }
        for name, values in evidence.items()
        for n, value in enumerate(values)
    ]


def test_methods_are_compared_question_by_question():
    made = lines(bm25=[0.0] * 10, qa=[1.0] * 9 + [0.0])
    kept, gains, touched, tokens, costs = tables(made)
    assert list(kept.rows) == ["qa", "bm25"]
    assert kept.rows["qa"] == {"MuSiQue 15%": pytest.approx(0.9)}
    low, high = kept.bounds["qa"]["MuSiQue 15%"]
    assert low < 0.9 < high <= 1
    assert "0.900 [0.70, 1.00]" in str(kept)
    assert list(gains.rows) == ["bm25"]
    assert gains.rows["bm25"]["MuSiQue 15%"] == pytest.approx(0.9)
    # 9 questions won, none lost: 2 of 2^9 signs are as far from 0.
    assert gains.bounds["bm25"]["MuSiQue 15%"][2] == pytest.approx(2 / 2**9, abs=3e-3)
    assert touched.rows["qa"] == {"MuSiQue 15%": 0.5}
    assert tokens.rows["bm25"] == {"MuSiQue 15%": pytest.approx(0.14)}
    assert costs.rows["bm25"] == {"cold ms, CPU": 9.0, "warm ms, CPU": 2.0, "bytes a token": 3.0}


def test_machines_have_times_of_their_own_and_a_method_counts_once():
    both = lines("CPU", qa=[0.0, 0.0]) + lines("H100", qa=[1.0, 1.0])
    kept, _, _, _, costs = tables(both)
    assert kept.rows["qa"]["MuSiQue 15%"] == 1.0
    assert set(costs.rows["qa"]) == {"cold ms, CPU", "warm ms, CPU", "cold ms, H100", "warm ms, H100", "bytes a token"}


def test_what_was_asked_less_often_is_named():
    kept = tables(lines(qa=[1.0] * 4, bm25=[1.0] * 2))[0]
    assert kept.notes == ["Of some questions only: bm25."]


def test_a_run_goes_on_where_its_file_ends(tmp_path, capsys):
    if not DATA.is_dir():
        pytest.skip("the labelled questions are not beside the project")
    file = tmp_path / "peers.jsonl"
    arguments = ["peers", "--limit", "2", "--sets", "MuSiQue", "--timed", "1", "--results", str(file), "--only"]
    main([*arguments, "first-k"])
    whole = file.read_text()
    rows = [json.loads(line) for line in whole.splitlines()]
    assert len({key_of(row) for row in rows}) == len(rows) == 6
    assert all(row["tokens"] <= int(float(row["share"][:-1]) / 100 * row["tokens_in"]) for row in rows)
    assert [row["share"] for row in rows if "cold_ms" in row] == ["5%"]
    # Cut off in the middle of its last line.
    file.write_text(whole[:-30])
    main([*arguments, "first-k", "random"])
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert len({key_of(row) for row in rows}) == len(rows) == 12
    assert rows[0] == json.loads(whole.splitlines()[0])
    shown = capsys.readouterr().out
    assert "| random |" in shown
    before = file.read_text()
    main([*arguments[:-1], "--report"])
    assert file.read_text() == before
