"""Passages from files, folders and pipes: nothing lost, nothing twice, nothing invented."""

import gzip
import io
import json
import os
import sys
import threading
import tracemalloc
from types import SimpleNamespace

import pytest

from ctxshaper.data.files import iter_passages, passage_from_json
from ctxshaper.errors import InvalidInputError


def read(*paths):
    """The passages and the warnings."""
    said = []
    return list(iter_passages(paths, said.append)), said


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_unknown_fields_are_kept_as_metadata(tmp_path):
    line = {"text": "t", "id": 7, "title": "T", "score": 0.5, "metadata": {"page": 1, "a": 1}, "page": 2, "tags": ["x"]}
    ((passage,), said) = read(write(tmp_path / "a.jsonl", json.dumps(line)))
    assert (passage.source, passage.id, passage.score, passage.title) == ("t", "7", 0.5, "T")
    assert dict(passage.metadata) == {"page": 2, "a": 1, "tags": ["x"], "title": "T"}
    assert said == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([1, 2], r"not a passage.*\[1, 2\]"),
        (3, "not a passage.*3"),
        (None, "not a passage.*None"),
        ({}, "not a passage"),
        ({"txt": "a", "b": 1}, "got the fields 'txt', 'b'"),
        ({"text": 1}, "text must be a string, but got 1"),
        ({"text": None}, "text must be a string"),
        ({"text": "a", "score": "high"}, "score must be a number or null, but got 'high'"),
        ({"text": "a", "score": True}, "score must be a number"),
        ({"text": "a", "score": 10**400}, "not a passage"),
        ({"text": "a", "id": {}}, "id must be a string or a number"),
        ({"text": "a", "metadata": [1]}, "metadata must be an object"),
    ],
)
def test_what_is_no_passage_is_refused_with_its_line(value, reason, tmp_path):
    path = write(tmp_path / "a.jsonl", '"fine"\n\n' + json.dumps(value))
    with pytest.raises(InvalidInputError, match=rf"a\.jsonl, line 3: .*{reason}"):
        read(path)


def test_a_rank_can_be_given():
    assert passage_from_json("a", "here", 3).rank == 3


def test_offsets_are_the_files_own(tmp_path):
    text = "One.\r\nTwo.\r\n\rThree.\x0cFour.\u2028Five."
    ((passage,), _) = read(write(tmp_path / "a.txt", text))
    assert passage.source == text
    ((marked,), _) = read(write(tmp_path / "b.txt", "\ufeff" + text))
    assert marked.source == text
    assert (marked.id, marked.title) == (str(tmp_path / "b.txt"), "b")


def test_an_encoding_that_is_not_utf8_is_said(tmp_path):
    text = "Le café de la gare a été rénové en 1984.\r\nLes élèves y déjeunent à midi."
    ((passage,), said) = read(write(tmp_path / "a.txt", text.encode("latin-1")))
    assert passage.source == text
    assert passage.metadata["encoding"] == "cp1252"
    assert len(said) == 1
    assert "a.txt is not UTF-8; it is read as cp1252" in said[0]
    with pytest.warns(UserWarning, match="read as cp1252"):
        assert list(iter_passages(tmp_path / "a.txt")) == [passage]


@pytest.mark.parametrize("name", ["a.html", "a.HTM", "a.csv", "a.tsv", "a.log", "a.rst", "a.py", "a.xyz", "README"])
def test_any_text_is_one_passage(name, tmp_path):
    ((passage,), said) = read(write(tmp_path / name, "<p>a,b\n"))
    assert passage.source == "<p>a,b\n"
    assert said == []


@pytest.mark.parametrize(
    ("text", "sources", "said"),
    [
        ('["a", {"text": "b", "x": 1}]', ["a", "b"], 0),
        ("[]", [], 0),
        ('{"text": "a"}', ['{"text": "a"}'], 0),
        ('[{"text": "a"}, {"txt": "b"}]', ['[{"text": "a"}, {"txt": "b"}]'], 0),
        ('{"a": NaN}', ['{"a": NaN}'], 1),
        ('["a",', ['["a",'], 1),
    ],
)
def test_only_a_list_of_passages_is_many(text, sources, said, tmp_path):
    passages, warnings = read(write(tmp_path / "a.json", text))
    assert [passage.source for passage in passages] == sources
    assert len(warnings) == said


def test_gzip_is_unpacked(tmp_path):
    write(tmp_path / "a.jsonl.gz", gzip.compress(b'"a"\n"b"\n'))
    write(tmp_path / "b.txt.gz", gzip.compress(b"c"))
    passages, _ = read(tmp_path)
    assert [(p.source, p.title) for p in passages] == [("a", ""), ("b", ""), ("c", "b")]


def test_a_folder_is_read_in_order_each_file_once(tmp_path):
    write(tmp_path / "b.txt", "b")
    write(tmp_path / "a.md" / "c.txt", "c")
    write(tmp_path / "a.md" / "d" / "e.jsonl", '"e"')
    write(tmp_path / ".hidden" / "x.txt", "x")
    write(tmp_path / "a.md" / ".x.txt", "x")
    (tmp_path / "link.txt").symlink_to(tmp_path / "b.txt")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    passages, said = read(tmp_path, tmp_path / "b.txt", tmp_path / "a.md")
    assert [p.source for p in passages] == ["b", "c", "e"]
    assert said == []


def test_what_is_no_text_is_left_out_of_a_folder_and_said(tmp_path):
    write(tmp_path / "a.txt", "a")
    write(tmp_path / "b.txt", b"\x89PNG\r\n\x00\x00")
    write(tmp_path / "c.pdf", "%PDF-1.7")
    passages, said = read(tmp_path)
    assert [p.source for p in passages] == ["a"]
    assert len(said) == 2
    assert all(line.startswith("left out: ") for line in said)
    with pytest.raises(InvalidInputError, match="NUL"):
        read(tmp_path / "b.txt")
    (tmp_path / "a.txt").unlink()
    with pytest.raises(InvalidInputError, match="holds no file of text"):
        read(tmp_path)


def test_what_cannot_be_unpacked_is_left_out_of_a_folder(tmp_path):
    write(tmp_path / "a.txt", "a")
    write(tmp_path / "b.txt.gz", "no gzip")
    passages, said = read(tmp_path)
    assert [p.source for p in passages] == ["a"]
    assert len(said) == 1
    assert "b.txt.gz cannot be read" in said[0]


def test_a_bad_line_in_a_folder_is_an_error(tmp_path):
    write(tmp_path / "a.jsonl", "[1, 2]")
    with pytest.raises(InvalidInputError, match=r"a\.jsonl, line 1: not a passage"):
        read(tmp_path)


def test_a_path_that_is_not_there_is_said_before_anything_is_read(tmp_path):
    write(tmp_path / "a.txt", "a")
    with pytest.raises(InvalidInputError, match="there is no file or folder"):
        iter_passages([tmp_path / "a.txt", tmp_path / "b.txt"])


def test_an_empty_file_is_said(tmp_path):
    assert read(write(tmp_path / "a.txt", " \n")) == ([], [f"{tmp_path / 'a.txt'} is empty"])


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ('\n{"text": "a"}\r\n"b"\n', ["a", "b"]),
        ('\ufeff"a"\n', ["a"]),
        ('"Grand," he said.\nIt was.', ['"Grand," he said.\nIt was.']),
        ('{\n  "a": 1\n}', ['{\n  "a": 1\n}']),
        ('["a",\n "b"]', ["a", "b"]),
        ("[1] A text.\n", ["[1] A text.\n"]),
        ("Line.\r\n", ["Line.\r\n"]),
    ],
)
def test_standard_input_and_pipes(text, sources, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    passages, said = read("-", "-")
    assert [p.source for p in passages] == sources
    assert said == []
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(text.encode(),))
    writer.start()
    assert [p.source for p in read(pipe)[0]] == sources
    writer.join()


def test_long_json_lines_are_read_in_little_memory(tmp_path):
    path = tmp_path / "a.jsonl"
    line = json.dumps({"text": "x" * 1000}) + "\n"
    with path.open("w") as file:
        for _ in range(20):
            file.write(line * 1000)
    tracemalloc.start()
    try:
        count = sum(1 for _ in iter_passages([path]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert path.stat().st_size > 20_000_000
    assert peak < 1_000_000
