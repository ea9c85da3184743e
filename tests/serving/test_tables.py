"""Passages and requests from columns: of Ray Data, pandas, Spark."""

import numpy as np
import pandas as pd
import pytest

from ctxshaper.errors import InvalidInputError
from ctxshaper.serving.tables import passages_of, requests_of, rows_of


def objects(*values):
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


BATCH = {
    "text": objects("One.", "Two."),
    "id": np.array([7, 8]),
    "title": objects("First", None),
    "score": np.array([0.5, np.nan]),
    "page": np.array([1, 2], dtype=np.int32),
}


@pytest.mark.parametrize("batch", [BATCH, pd.DataFrame(BATCH), pd.DataFrame(BATCH, index=[5, 3])])
def test_rows_are_what_lines_of_json_are(batch):
    one, two = passages_of(batch)
    assert (one.source, one.id, one.title, one.score, one.metadata["page"]) == ("One.", "7", "First", 0.5, 1)
    assert (two.source, two.id, two.title, two.score, two.metadata["page"]) == ("Two.", "8", "", None, 2)
    assert type(one.metadata["page"]) is int


def test_requests_hold_texts_or_objects():
    passages = objects(objects("a", {"text": "b", "id": None, "title": "B"}), ["c"])
    first, second = requests_of({"query": objects("Who?", "What?"), "passages": passages})
    assert first[0] == "Who?"
    assert [(p.source, p.title, p.id, p.rank) for p in first[1]] == [("a", "", None, 0), ("b", "B", None, 1)]
    assert [p.source for p in second[1]] == ["c"]


def test_an_empty_batch_has_no_rows():
    assert rows_of({}) == rows_of({"text": objects()}) == []


@pytest.mark.parametrize(
    ("read", "batch", "said"),
    [
        (passages_of, {"txt": objects("a")}, "row 0 of a batch: not a passage"),
        (passages_of, {"text": objects("a", None)}, "row 1 of a batch: not a passage"),
        (
            requests_of,
            {"query": objects("q")},
            r"needs query \(a text\) and passages \(a list\), but has query \(str\)",
        ),
        (requests_of, {"query": objects("q"), "passages": objects(["a", 3])}, "passage 1: not a passage"),
        (rows_of, {"a": [1], "b": [1, 2]}, "differ in length"),
    ],
)
def test_mistakes_say_where(read, batch, said):
    with pytest.raises(InvalidInputError, match=said):
        read(batch)
