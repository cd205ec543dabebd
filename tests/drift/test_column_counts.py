"""One array has the counts of all columns, each in its reference's bins; what is beyond the bounds is named."""

import numpy as np
import pytest

from runners.artefacts.reference import Distribution, Numbers, ReferenceProfile
from shokado.drift.column_counts import ColumnCounts, rows_of
from tests.drift.references import TYPED, typed_reference, typed_rows
from tests.support.cards import make_card

RANDOM = np.random.default_rng(7)
REFERENCE = typed_reference(RANDOM)
COLUMNS = ColumnCounts(make_card(**TYPED), REFERENCE, "digest", 100)


def test_rows_are_counted_as_the_reference_was() -> None:
    rows, scores = typed_rows(500, RANDOM), RANDOM.random(500).astype(np.float32)
    counts = COLUMNS.count(COLUMNS.kept(rows), scores, 4_000)
    assert rows_of(counts) == (4_000, 500)
    for at, column in enumerate(COLUMNS.features):
        assert counts[column.cells].tolist() == REFERENCE.features[column.name].bins.count(rows[:, at]).tolist()
    (score,) = COLUMNS.scores
    assert counts[score.cells].tolist() == REFERENCE.scores[0].bins.count(scores).tolist()
    assert counts.sum() == 4_000 + 500 + 3 * 500, "each row is in one cell of each column"


def test_missing_other_and_unknown_values_have_cells_of_their_own() -> None:
    rows = np.array([[np.nan, 2], [0, 2], [0, np.nan]], dtype=np.float32)
    counts = COLUMNS.count(rows, np.array([0.5, 0.5, 0.5]), 3)
    width, port = COLUMNS.features
    assert counts[width.cells][-1] == 1
    assert counts[port.cells].tolist() == [0, 0, 2, 1]
    assert port.unknown is not None
    assert counts[port.unknown] == 2
    assert (COLUMNS.refused("port"), COLUMNS.refused("width"), COLUMNS.refused("age")) == (port.unknown + 1, None, None)
    assert counts.sum() == 3 + 3 + 9 + 2


def test_columns_beyond_the_bound_are_named_and_not_counted() -> None:
    narrow = ColumnCounts(make_card(**TYPED), REFERENCE, "digest", 1)
    assert [column.name for column in narrow.columns] == ["width", "score"]
    assert narrow.not_watched == ("port",)
    rows = typed_rows(10, RANDOM)
    kept = narrow.kept(rows)
    assert kept.shape == (10, 1)
    assert not np.shares_memory(kept, rows), "what is not watched need not stay in memory"
    assert narrow.count(kept, np.zeros(10, dtype=np.float32), 10).sum() == 10 + 10 + 20


@pytest.mark.parametrize(("digest", "max_features"), [("other", 100), ("digest", 1)])
def test_other_references_and_other_columns_are_other_bins(digest: str, max_features: int) -> None:
    assert ColumnCounts(make_card(**TYPED), REFERENCE, digest, max_features).bins != COLUMNS.bins
    assert ColumnCounts(make_card(**TYPED), REFERENCE, "digest", 100).bins == COLUMNS.bins


def test_texts_are_counted_by_their_lengths() -> None:
    features = [{"name": "age"}, {"name": "note", "type": "text"}]
    examples = {"rows": [[1.0, "a"], [2.0, "bc"]], "scores": [0.25, 0.1]}
    ages = Distribution.of(Numbers(lowest=0, bounds=(1, 2)), np.array([1.0, 2.0]))
    notes = Distribution.of(Numbers(of="characters", lowest=0, bounds=(1, 2)), np.array(["a", "bc"], dtype=object))
    content = REFERENCE.model_dump() | {"features": {"age": ages, "note": notes}, "rows": 2, "scored_rows": 2}
    content["scores"] = (Distribution.of(Numbers(lowest=0, bounds=(1,)), np.array([0.0, 0.1])),)
    columns = ColumnCounts(
        make_card(format=3, features=features, examples=examples),
        ReferenceProfile.model_validate(content),
        "digest",
        100,
    )
    rows = np.array([[1.5, "abc"], [2.0, ""], [9.0, "ü"]], dtype=object)
    kept = columns.kept(rows)
    assert kept.tolist() == [[1.5, 3], [2, 0], [9, 1]]
    counts = columns.count(kept, np.zeros(3, dtype=np.float32), 3)
    age, note = columns.features
    # below | two bins | above | infinite | missing
    assert counts[age.cells].tolist() == [0, 0, 2, 1, 0, 0]
    assert counts[note.cells].tolist() == [0, 2, 0, 1, 0, 0]
