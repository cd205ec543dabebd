"""Segments of replayed rows: each row is in one, and numbers in bins with about as many rows each."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configuration.log_settings import LogSettings
from runners.artefacts.card import Card
from shokado.lifecycle.errors import ReplayRefused
from shokado.lifecycle.replaying.logged_calls import LoggedCall, calls_in
from shokado.lifecycle.replaying.replay_order import ReplayOrder
from shokado.lifecycle.replaying.row_segments import BINS, MISSING, MOST_VALUES, NOT_TAKEN, OTHERS, segments_by
from shokado.request_log.log_writer import LogWriter
from tests.request_log.records import encoded, request_of
from tests.support.paper_log import KINDS, PaperLog, paper_card

ALL = ReplayOrder(0.0, 2e9)


def logged(folder: Path, card: Card, rows: list[list[Any]], settings: LogSettings | None = None) -> list[LoggedCall]:
    PaperLog(folder).write(card, rows, [0.5] * len(rows), settings=settings)
    return list(calls_in(folder, ALL))


def counts(feature: str, calls: list[LoggedCall]) -> dict[str, int]:
    found = segments_by(feature, calls)
    assert len(found.of_rows) == len(calls)
    return {name: int((found.of_rows == at).sum()) for at, name in enumerate(found.names)}


def test_numbers_are_in_bins_of_as_many_rows(tmp_path: Path) -> None:
    widths = np.random.default_rng(1).exponential(size=1000)
    found = counts("width", logged(tmp_path, paper_card(features=["width"]), [[width] for width in widths]))
    assert len(found) == BINS
    assert all(190 <= rows <= 210 for rows in found.values())
    lows = [float(name.split(" to ")[0]) for name in found]
    assert lows == sorted(lows)


def test_bounds_that_lie_close_have_as_many_digits_as_tell_them_apart(tmp_path: Path) -> None:
    rows = [[1_000_000.0 + at / 8] for at in range(100)]
    found = counts("width", logged(tmp_path, paper_card(features=["width"]), rows))
    assert len(found) == BINS
    assert sum(found.values()) == 100


def test_few_values_are_a_segment_each(tmp_path: Path) -> None:
    rows = [[at % 3, (None, 0, 1)[at % 3], at % 2] for at in range(60)]
    card = paper_card(features=["width", "city", "member"])
    calls = logged(tmp_path, card, rows)
    assert counts("width", calls) == {"0": 20, "1": 20, "2": 20}
    assert counts("city", calls) == {MISSING: 20, "Bern": 20, "Basel": 20}
    assert counts("member", calls) == {"0": 30, "1": 30}


def test_values_that_lie_close_stay_apart(tmp_path: Path) -> None:
    card = paper_card(features=["age"])
    calls = logged(tmp_path, card, [[1_000_000 + at % 2] for at in range(10)])
    assert counts("age", calls) == {"1000000": 5, "1000001": 5}


def test_of_many_levels_the_rest_is_one(tmp_path: Path) -> None:
    levels = [f"city-{number}" for number in range(30)]
    card = paper_card(features=[KINDS["city"] | {"levels": levels}])
    found = counts("city", logged(tmp_path, card, [[level] for level in range(30) for _ in range(level + 1)]))
    assert list(found) == [*levels[: -MOST_VALUES - 1 : -1], OTHERS]
    assert found[OTHERS] == sum(range(1, 31 - MOST_VALUES))


def test_texts_are_told_apart_by_their_length(tmp_path: Path) -> None:
    card = paper_card(features=[{"name": "message", "type": "text"}], examples={"rows": ["hi"], "scores": [0.5]})
    writer = LogWriter(LogSettings(share=1), tmp_path, "w", bytes(32))
    writer.write(encoded(request_of(card, ["a", "bb", "cc"], [0.5] * 3)), {1: card})
    writer.end_segment()
    found = segments_by("message", list(calls_in(tmp_path, ALL)))
    assert (found.names, found.of_rows.tolist()) == (("1", "2"), [0, 1, 1])


def test_what_a_version_does_not_take_is_a_segment_of_its_own(tmp_path: Path) -> None:
    log = PaperLog(tmp_path)
    log.write(paper_card(features=["width", "city"]), [[1, 0]] * 4, [0.5] * 4)
    log.write(paper_card("v2", features=["width"]), [[1]] * 3, [0.5] * 3)
    assert counts("city", list(calls_in(tmp_path, ALL))) == {"Bern": 4, NOT_TAKEN: 3}


def test_what_is_dropped_cannot_tell_rows_apart(tmp_path: Path) -> None:
    calls = logged(tmp_path, paper_card(), [[1, 0, 40]] * 4, LogSettings(share=1, drop=("city",), hash=("age",)))
    with pytest.raises(ReplayRefused, match="drops city"):
        segments_by("city", calls)
    assert len(counts("age", calls)) == 1
    with pytest.raises(ReplayRefused, match="takes ages; the nearest is age"):
        segments_by("ages", calls)
    with pytest.raises(ReplayRefused, match="known are age, city, width"):
        segments_by("zip", calls)
