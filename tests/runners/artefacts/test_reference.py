"""A reference: every value is in one cell, counts may be added, and a file that is another one is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError

from runners.artefacts.card import Card, read_card, write_card
from runners.artefacts.integrity import DamagedFile, describe_file
from runners.artefacts.reference import (
    MAX_BINS,
    REFERENCE_FILE,
    DataOrigin,
    Distribution,
    Levels,
    Numbers,
    OriginKind,
    ReferenceProfile,
    read_reference,
    write_reference,
)
from tests.support.cards import make_card

COLUMNS = arrays.arrays(np.float32, st.integers(0, 200), elements=st.floats(width=32))
"""Any float32, NaN and infinities included."""
EDGES = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=MAX_BINS, unique=True).map(sorted)


@given(COLUMNS, EDGES, st.floats(0, 10, width=32))
def test_numbers_are_counted_as_numpy_counts_them(column: Any, bounds: list[float], first: float) -> None:
    bins = Numbers(lowest=bounds[0] - first, bounds=tuple(bounds))
    below, *inside, above, infinite, missing = bins.count(column).tolist()
    finite = column[np.isfinite(column)].astype(np.float64)
    assert (infinite, missing) == (np.isinf(column).sum(), np.isnan(column).sum())
    assert (below, above) == ((finite < bins.lowest).sum(), (finite > bounds[-1]).sum())
    # numpy's bins have their lower end, and these their upper one: of the negated numbers it is the other way round.
    edges = np.unique([-np.float64(bins.lowest), *(-np.float64(bound) for bound in bounds)])
    expected = np.histogram(-finite[(finite >= bins.lowest) & (finite <= bounds[-1])], edges)[0][::-1]
    if bins.lowest == bounds[0]:
        assert inside[0] == (finite == bounds[0]).sum()
        # numpy's last bin has both of its ends.
        inside = [inside[0] + inside[1], *inside[2:]] if len(inside) > 1 else []
    if len(edges) > 1:
        assert inside == expected.tolist()


@given(COLUMNS, EDGES)
def test_levels_are_counted_one_by_one(column: Any, levels: list[float]) -> None:
    *counts, other, missing = Levels(levels=tuple(levels)).count(column).tolist()
    assert counts == [(column == np.float64(level)).sum() for level in levels]
    assert missing == np.isnan(column).sum()
    assert sum(counts) + other + missing == len(column)


@given(st.lists(st.none() | st.text(max_size=20), max_size=50))
def test_texts_are_counted_by_their_length(texts: list[str | None]) -> None:
    column = np.array([*texts, None], dtype=object)[:-1]
    below, short, long, above, infinite, missing = (
        Numbers(of="characters", lowest=1, bounds=(4, 10)).count(column).tolist()
    )
    lengths = [len(text) for text in texts if text is not None]
    assert (below, above) == (sum(length < 1 for length in lengths), sum(length > 10 for length in lengths))
    assert (short, long) == (sum(1 <= x <= 4 for x in lengths), sum(4 < x <= 10 for x in lengths))
    assert (infinite, missing) == (0, texts.count(None))


@given(COLUMNS, COLUMNS, EDGES, st.sampled_from([Numbers, Levels]))
def test_counts_of_parts_add_up_to_those_of_the_whole(one: Any, other: Any, edges: list[float], kind: Any) -> None:
    bins = Numbers(lowest=edges[0], bounds=tuple(edges)) if kind is Numbers else Levels(levels=tuple(edges))
    whole = np.concatenate([one, other])
    counted = bins.count(whole)
    np.testing.assert_array_equal(counted, bins.count(one) + bins.count(other))
    assert (counted.shape, counted.sum()) == ((bins.cells,), len(whole))


def test_a_value_below_the_lowest_by_less_than_float32_tells_is_below() -> None:
    lowest = 1 + 2**-30
    assert Numbers(lowest=lowest, bounds=(2.0,)).count(np.array([1.0], dtype=np.float32)).tolist() == [1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "bins",
    [
        {"kind": "numbers", "lowest": 0, "bounds": []},
        {"kind": "numbers", "lowest": 0, "bounds": [1, 1]},
        {"kind": "numbers", "lowest": 2, "bounds": [1]},
        {"kind": "numbers", "lowest": 0, "bounds": list(range(MAX_BINS + 1))},
        {"kind": "numbers", "lowest": 0, "bounds": ["NaN"]},
        {"kind": "levels", "levels": [2, 1]},
        {"kind": "levels", "levels": []},
        {"kind": "steps", "levels": [1]},
    ],
)
def test_bins_that_make_no_sense_are_refused(bins: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Distribution.model_validate({"bins": bins, "counts": [0] * 5})


def of_two_features(**changes: Any) -> ReferenceProfile:
    """A reference of the card that `make_card` makes."""
    width = Distribution.of(Numbers(lowest=0, bounds=(1, 2)), np.array([0.0, 1.5, np.nan]))
    count = Distribution.of(Levels(levels=(1, 2)), np.array([1.0, 2.0, 7.0]))
    scores = Distribution.of(Numbers(lowest=0, bounds=(0.5, 1)), np.array([0.1, 0.9]))
    content: dict[str, Any] = {
        "origin": DataOrigin(kind=OriginKind.FILE, name="a.csv", rows=9),
        "made_at": "2026-01-31T12:00:00Z",
        "rows": 3,
        "scored_rows": 2,
        "features": {"width": width, "count": count},
        "scores": (scores,),
    }
    return ReferenceProfile.model_validate(content | changes)


def stored(reference: ReferenceProfile, folder: Path) -> Card:
    return make_card(reference=write_reference(reference, folder).model_dump())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    reference = of_two_features()
    assert read_reference(tmp_path, stored(reference, tmp_path)) == reference


def test_an_artefact_from_before_there_were_references_has_none(tmp_path: Path) -> None:
    write_card(make_card(), tmp_path)
    content = json.loads((tmp_path / "card.json").read_text())
    del content["reference"]
    (tmp_path / "card.json").write_text(json.dumps(content))
    assert read_reference(tmp_path, read_card(tmp_path)) is None


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda content: content.replace(b"9", b"8"), lambda _: b""]
)
def test_a_damaged_reference_is_refused_by_name(damage: Any, tmp_path: Path) -> None:
    card, path = stored(of_two_features(), tmp_path), tmp_path / REFERENCE_FILE
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedFile, match=r"reference\.json: not the file that its card describes"):
        read_reference(tmp_path, card)


def test_a_reference_that_is_gone_is_refused_by_name(tmp_path: Path) -> None:
    card = stored(of_two_features(), tmp_path)
    (tmp_path / REFERENCE_FILE).unlink()
    with pytest.raises(DamagedFile, match=r"reference\.json: No such file"):
        read_reference(tmp_path, card)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format: "),
        ({"rows": 4}, "reference: Value error, the counts add up to 3 for 4 rows"),
        ({"scored_rows": 3}, "the counts add up to 2 for 3 rows"),
        ({"origin": {"kind": "file", "name": "a.csv", "rows": 2}}, "more rows than there were"),
        ({"made_at": "2026-01-31T12:00:00"}, "made_at: "),
        ({"surprise": 1}, "surprise: "),
    ],
)
def test_a_reference_that_contradicts_itself_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    content = json.loads(of_two_features().model_dump_json()) | change
    path = tmp_path / REFERENCE_FILE
    path.write_text(json.dumps(content))
    with pytest.raises(DamagedFile) as refused:
        read_reference(tmp_path, make_card(reference=describe_file(path).model_dump()))
    assert str(refused.value).startswith(f"{path}: ")
    assert said in str(refused.value)


def test_a_reference_of_another_model_is_refused(tmp_path: Path) -> None:
    card = stored(of_two_features(), tmp_path)
    renamed = card.model_copy(update={"features": card.features[::-1]})
    with pytest.raises(DamagedFile, match="of other features or scores than its card"):
        read_reference(tmp_path, renamed)


def test_a_feature_takes_some_hundred_bytes(tmp_path: Path) -> None:
    column = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    bounds = tuple(np.unique(np.quantile(column, np.linspace(0, 1, MAX_BINS))).tolist())
    histogram = Distribution.of(Numbers(lowest=bounds[0], bounds=bounds), column)
    assert len(histogram.model_dump_json()) < 1200
