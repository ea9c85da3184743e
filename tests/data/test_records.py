"""Logs and tables of values are cut at their records, and prose is not taken for either."""

import random

import pytest

from ctxshaper.data.records import record_cuts
from ctxshaper.text.segments import blocks, sentences

LOG = """2026-03-01 12:00:01 INFO server started on port 8080
2026-03-01 12:00:05 ERROR request failed
Traceback (most recent call last):
  File "app.py", line 3, in handle
    raise ValueError("no such user: ada")
ValueError: no such user: ada
2026-03-01 12:00:09 INFO request served in 3 ms. Cache was cold.
2026-03-01 12:00:10 WARN disk is 91% full
"""
SYSLOG = "\n".join(f"Mar  {day} 04:05:06 host sshd[{day}]: accepted key for user{day}" for day in range(1, 8))
ACCESS = "\n".join(f'10.0.0.{n} - - [01/Mar/2026:10:00:0{n}] "GET /a/{n} HTTP/1.1" 200' for n in range(6))
TABLE = 'name,city,born\n"Moreau, Ada",Lyon,1931\n"Okafor\nBen",Lagos,1950\nLi Wei,Chengdu,1962\n'


def pieces(text):
    spans = sentences(text)
    assert "".join(text[span.start : span.end] for span in spans) == text
    return [text[span.start : span.end] for span in spans]


def test_a_log_is_cut_at_its_records_and_a_stack_trace_stays_with_its_line():
    found = pieces(LOG)
    assert len(found) == 4
    assert found[1].startswith("2026-03-01 12:00:05 ERROR")
    assert found[1].endswith("no such user: ada\n")
    assert len(pieces(SYSLOG)) == 7
    assert len(pieces(ACCESS)) == 6
    assert [span.start for span in blocks(LOG)] == [span.start for span in sentences(LOG)]


def test_a_row_is_one_piece_with_what_it_quotes():
    assert pieces(TABLE) == [
        "name,city,born\n",
        '"Moreau, Ada",Lyon,1931\n',
        '"Okafor\nBen",Lagos,1950\n',
        "Li Wei,Chengdu,1962\n",
    ]
    assert len(pieces(TABLE.replace(",", ";"))) == 4
    assert len(pieces("a\tb\n1\t2\n3\t4")) == 3


@pytest.mark.parametrize(
    "text",
    [
        "One line, with commas, and more.",
        "First line, of prose, it wraps\nand goes on, here, and there.\nIt ends.",
        "| a | b | c |\n|---|---|---|\n| 1 | 2 | 3 |\n",
        "# Title\n\nOn 2026-03-01 12:00 it began.\n\nIt ended, they say, later.\n",
        "1931 was a year.\n1932 was another.\n1933 came next.\n",
        "",
    ],
)
def test_prose_is_not_taken_for_records(text):
    assert record_cuts(text) is None


def test_any_text_is_tiled():
    draw = random.Random(5)
    for _ in range(300):
        text = "".join(
            draw.choices(["a,b,c\n", '"', "\n", "2026-01-01 00:00:00 INFO x\n", "  at y\n", "\r\n", "é", "\t"], k=12)
        )
        cuts = record_cuts(text)
        if cuts is not None:
            assert cuts == sorted(set(cuts))
            assert cuts[-1] == len(text)
        pieces(text)


@pytest.mark.parametrize(
    "text",
    ["0\t\n\t\n\t", "\t\n0\t1\n\t\n2\t3\n4\t5\n", " \n\n2024-05-01 a\n2024-05-01 b\n \n2024-05-01 c\n"],
)
def test_a_row_of_white_space_is_no_record(text):
    parts = [text[span.start : span.end] for span in sentences(text)]
    assert "".join(parts) == text
    assert all(part.strip() for part in parts)
