"""Rows of a reference out of real files: each is counted as a server would read it, or the file is refused in words."""

import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from runners.artefacts.card import Card
from shokado.lifecycle.errors import ReferenceRefused
from shokado.lifecycle.importing import reference_rows
from shokado.lifecycle.importing.reference_rows import RowSampler, SampledRows, open_table, read_sample, table_of
from tests.support.cards import TEXT, make_card

NAN, INF = math.nan, math.inf
CARD = make_card(
    features=[{"name": "width"}, {"name": "count", "type": "integer"}, {"name": "new", "type": "boolean"}],
    examples={"rows": [[1.0, 2.0, 0.0]], "scores": [0.25]},
)
TEXTS = make_card(**TEXT)
Write = Callable[..., Path]


@pytest.fixture
def csv(tmp_path: Path) -> Write:
    def write(text: str, name: str = "rows.csv", **options: Any) -> Path:
        path = tmp_path / name
        path.write_text(text, **options)
        return path

    return write


@pytest.fixture
def parquet(tmp_path: Path) -> Write:
    def write(columns: Any) -> Path:
        path = tmp_path / "rows.parquet"
        pd.DataFrame(columns).to_parquet(path)
        return path

    return write


def sample(path: Path, card: Card = CARD, max_rows: int | None = None) -> SampledRows:
    return read_sample(open_table(path, card), card, max_rows)


def refusal(path: Path, card: Card = CARD) -> str:
    with pytest.raises(ReferenceRefused) as refused:
        sample(path, card)
    return str(refused.value)


def test_columns_are_found_by_name_and_others_ignored(csv: Write) -> None:
    found = sample(csv("bought,count,new,width\n1,3,true,0.1\n0,4,False,1e3\n", encoding="utf-8-sig"))
    expected = np.array([[0.1, 3, 1], [1000, 4, 0]], dtype=np.float32)
    np.testing.assert_array_equal(found.rows, expected)
    assert found.rows.dtype == np.float32
    assert (found.of, found.ignored) == (2, ("bought",))


def test_missing_and_infinite_numbers_stay_what_they_are(csv: Write) -> None:
    found = sample(csv("width,count,new\n,3,true\nNA,inf,\n-inf,1e39,0\n1,2,1\n"))
    expected = [[NAN, 3, 1], [NAN, INF, NAN], [-INF, INF, 0], [1, 2, 1]]
    np.testing.assert_array_equal(found.rows, np.array(expected, dtype=np.float32))


def test_parquet_has_types_of_its_own(parquet: Write) -> None:
    columns = {
        "width": [Decimal("0.5"), None, Decimal(2)],
        "count": pd.Series([2**60, None, 3], dtype="Int64"),
        "new": pd.Series([True, None, False], dtype="boolean"),
        "id": ["a", "b", "c"],
    }
    found = sample(parquet(columns))
    expected = [[0.5, 2**60, 1], [NAN, NAN, NAN], [2, 3, 0]]
    np.testing.assert_array_equal(found.rows, np.array(expected, dtype=np.float32))
    assert found.ignored == ("id",)


def test_a_column_that_was_an_index_is_found(parquet: Write) -> None:
    frame = pd.DataFrame({"width": [1.0], "count": [2], "new": [True]}).set_index("count")
    np.testing.assert_array_equal(sample(parquet(frame)).rows, [[1, 2, 1]])


def test_texts_stay_as_they_are(csv: Write, parquet: Write) -> None:
    found = sample(csv('label,message\n1,NA\n0,""\n1,"1,5"\n'), TEXTS)
    assert found.rows.tolist() == [["NA"], [""], ["1,5"]]
    assert found.rows.dtype == object
    assert sample(parquet({"message": ["a", None]}), TEXTS).rows.tolist() == [["a"], [None]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("width,count,new\n", "has no rows"),
        (
            "width,new,label\n1,1,1\n",
            "lacks the column 'count' of the model; it has the columns 'width', 'new', 'label'",
        ),
        (
            "width;count;new\n1;2;1\n",
            "lacks the columns 'width', 'count', 'new' of the model; it has the column 'width;",
        ),
        ("width,count,new,width\n1,2,1,3\n", "has the column 'width' twice"),
        ("width,count,new\n1,2,1\n1,2,1,4\n", "cannot be read: Error tokenizing data"),
        ("width,count,new\n1,2,1,4\n1,2,1,4\n", "cannot be read: Length of header or names does not match"),
        ("width,count,new\n1,2,1\n2,many,1\n", "row 1, feature 'count': the text 'many' where a number belongs"),
        ("width,count,new\n1,2,1\ntrue,2,1\n", "row 1, feature 'width': true where a number belongs"),
        ("width,count,new\ntrue,2,1\n", "row 0, feature 'width': true where a number belongs"),
        ("width,count,new\n1,2,yes\n", "row 0, feature 'new': the text 'yes' where a number belongs"),
    ],
)
def test_what_is_wrong_with_a_csv_file_is_said(text: str, said: str, csv: Write) -> None:
    path = csv(text)
    found = refusal(path)
    assert found.startswith(str(path))
    assert said in found


def test_bytes_that_are_no_text_are_refused(csv: Write) -> None:
    path = csv("width,count,new\n1,2,é\n", encoding="latin-1")
    assert "cannot be read: 'utf-8' codec" in refusal(path)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (pd.Timestamp("2026-01-31"), "a Timestamp where a number belongs"),
        ([1.0], "a list where a number belongs"),
        (b"1", "a bytes where a number belongs"),
        (True, "true where a number belongs"),
    ],
    ids=str,
)
def test_a_parquet_column_of_another_type_is_refused(value: Any, said: str, parquet: Write) -> None:
    found = refusal(parquet({"width": [1.0], "count": [value], "new": [True]}))
    assert f"row 0, feature 'count': {said}" in found


def test_numbers_are_no_texts(parquet: Write) -> None:
    assert "feature 'message': the number 1 where a text belongs" in refusal(parquet({"message": [1.0]}), TEXTS)


def test_a_file_that_is_none_is_refused(tmp_path: Path, csv: Write) -> None:
    assert refusal(tmp_path / "gone.csv") == f"There is no file {tmp_path / 'gone.csv'}."
    (tmp_path / "folder.parquet").mkdir()
    assert "There is no file" in refusal(tmp_path / "folder.parquet")
    assert "is neither .csv nor .parquet" in refusal(csv("", "rows.json"))
    assert "cannot be read" in refusal(csv("PAR1 and no more", "rows.parquet"))


def test_a_large_file_is_read_whole_and_a_sample_kept(parquet: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_rows, "READ_ROWS", 700)
    numbers = np.arange(10_000, dtype=np.float64)
    path = parquet({"width": numbers, "count": numbers, "new": numbers % 2 == 0})
    found = sample(path, max_rows=1000)
    assert (found.rows.shape, found.of) == ((1000, 3), 10_000)
    assert len(np.unique(found.rows[:, 0])) == 1000
    np.testing.assert_array_equal(found.rows[:, 1] % 2 == 0, found.rows[:, 2] == 1)
    # Drawn from everywhere: the mean of 1,000 of them is within five of its deviations.
    assert abs(found.rows[:, 0].mean() - numbers.mean()) < 5 * numbers.std() / np.sqrt(1000)
    monkeypatch.setattr(reference_rows, "READ_ROWS", 512)
    np.testing.assert_array_equal(sample(path, max_rows=1000).rows, found.rows)


def test_a_wrong_value_is_found_in_rows_that_are_not_kept(csv: Write) -> None:
    path = csv("width,count,new\n" + "1,2,1\n" * 5000 + "1,?,1\n")
    with pytest.raises(ReferenceRefused, match=r"row 5000, feature 'count': the text '\?'"):
        sample(path, max_rows=10)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[1.0, 2.0, True], [3, None, False]], [[1, 2, 1], [3, NAN, 0]]),
        (np.array([1.0, 2.0, 1.0]), [[1, 2, 1]]),
        (np.array([[10**400, 2, 1]], dtype=object), [[INF, 2, 1]]),
    ],
)
def test_an_array_has_the_order_of_the_features(values: Any, expected: Any) -> None:
    found = read_sample(table_of("example", values, CARD), CARD)
    np.testing.assert_array_equal(found.rows, np.array(expected, dtype=np.float32))


def test_columns_of_a_frame_may_be_called_by_numbers() -> None:
    card = make_card(features=[{"name": "0"}, {"name": "1"}])
    found = read_sample(table_of("example", pd.DataFrame([[1.0, 2.0]]), card), card)
    np.testing.assert_array_equal(found.rows, [[1, 2]])


@pytest.mark.parametrize("values", [np.zeros((2, 4)), np.zeros((2, 3, 1)), {"width": 1.0}, "text", 5, [[1], [2, 3]]])
def test_an_array_of_another_shape_is_refused(values: Any) -> None:
    with pytest.raises(ReferenceRefused):
        read_sample(table_of("example", values, CARD), CARD)


@pytest.mark.parametrize("at_once", [1, 7, 2500])
def test_a_sample_that_becomes_smaller_is_the_smaller_sample(at_once: int) -> None:
    """Also where rows come one by one, of which parts are joined on the way."""
    rows = np.arange(5000.0, dtype=np.float32).reshape(-1, 1)
    small, shrunk = RowSampler(100), RowSampler(2000)
    for at in range(0, len(rows), at_once):
        if at >= 2500:
            shrunk.keep_at_most(100)
        for sampler in (small, shrunk):
            sampler.add(rows[at : at + at_once])
    assert small.seen == shrunk.seen == 5000
    assert len(small.drawn()) == 100
    np.testing.assert_array_equal(small.drawn(), shrunk.drawn())
