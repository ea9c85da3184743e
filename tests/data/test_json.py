"""JSON is read strictly, and every refusal says where."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxshaper.data.json import json_lines, json_values, parse_json
from ctxshaper.errors import InvalidInputError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_what_json_can_hold_comes_back(value):
    assert parse_json(json.dumps(value), "here") == value
    assert parse_json(b"\xef\xbb\xbf" + json.dumps(value).encode(), "here") == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("NaN", "NaN is no number"),
        ('{"a": -Infinity}', "-Infinity is no number"),
        ("1e999", "out of range"),
        ("9" * 5000, "not JSON"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' stands twice"),
        ('{"a"', "not JSON"),
        ("", "not JSON"),
        (b'"caf\xe9"', "not UTF-8 (byte 0xe9 at 4)"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        ("[" * 101 + "]" * 101, "nested deeper than 100"),
        ('{"a":' * 101 + "1" + "}" * 101, "nested deeper than 100"),
        ("[" * 100_000, "nested deeper than 100"),
        ("[" * 100_000 + "]" * 100_000, "nested deeper than 100"),
    ],
)
def test_what_is_not_strict_json_is_refused(text, reason):
    with pytest.raises(InvalidInputError) as refused:
        parse_json(text, "a.json, line 7")
    assert str(refused.value).startswith("a.json, line 7: ")
    assert reason in str(refused.value)
    assert len(str(refused.value)) < 250


def test_a_hundred_levels_are_enough_for_anyone():
    value = parse_json("[" * 100 + "]" * 100, "here")
    for _ in range(99):
        (value,) = value
    assert value == []


def test_lone_surrogates_are_kept():
    assert parse_json('"a\\ud800"', "here") == "a\ud800"


def test_lines_are_numbered_as_the_file_has_them():
    lines = [b"\n", b'"a\xe2\x80\xa8b"\r\n', b"  \n", b"2\n", b"{\n"]
    values = json_lines(lines, "f")
    assert [next(values), next(values)] == [("f, line 2", "a\u2028b"), ("f, line 4", 2)]
    with pytest.raises(InvalidInputError, match="f, line 5: not JSON"):
        next(values)


@pytest.mark.parametrize(
    ("name", "text", "places"),
    [
        ("a.jsonl", "1\n\n2\n", ["line 1", "line 3"]),
        ("a.json", "[1, 2]", ["entry 1", "entry 2"]),
        ("a.jsonl", "\n [\n1,\n2]", ["entry 1", "entry 2"]),
        ("a.json", '{"a":\n 1}', ["entry 1"]),
        ("a.json", "1\n2\n", ["line 1", "line 2"]),
        ("a.json", "", []),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_list_a_value_or_lines(name, text, places, packed, tmp_path):
    path = tmp_path / (name + ".gz" * packed)
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert [where for where, _ in json_values(path)] == [f"{path}, {place}" for place in places]


def test_a_file_that_cannot_be_unpacked_is_named(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'"a"\n' * 100_000)[:-20])
    with pytest.raises(InvalidInputError, match=r"a\.jsonl\.gz cannot be read"):
        list(json_values(path))
    path.write_bytes(b'"a"\n')
    with pytest.raises(InvalidInputError, match=r"a\.jsonl\.gz cannot be read"):
        list(json_values(path))
