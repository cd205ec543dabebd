"""Levels of rows: which one a row has, what an id carries of it, and when that means nothing any more."""

import math
from typing import Any

import numpy as np
import pytest

from configuration.segment_settings import MAX_LEVELS, SegmentSettings
from runners.artefacts.card import Card
from shokado.dispatch.reason import Reason
from shokado.dispatch.request import Origin, Prediction
from shokado.experiments.prediction_id import MAX_CARRIED_ROWS, MAX_CHARACTERS, PredictionIds
from shokado.experiments.row_levels import MISSING, OTHERS, RowLevels, SealedLevels, levels_of, row_levels
from shokado.experiments.segment_counts import Segmenting
from tests.support.cards import make_card

FEATURES: list[dict[str, Any]] = [
    {"name": "width"},
    {"name": "region", "type": "category", "levels": ["north", "south", "west"], "nullable": True, "other": True},
    {"name": "sold", "type": "boolean"},
    {"name": "grade", "type": "integer"},
]
ROW = [1.0, 0.0, 1.0, 3.0]


def card_of(features: Any = FEATURES, row: Any = ROW) -> Card:
    return make_card(format=3, features=features, examples={"rows": [row], "scores": [0.25]})


def finder(features: Any, card: Card | None = None) -> RowLevels:
    found = row_levels(SegmentSettings(features=features), card or card_of())
    assert found is not None
    return found


def said(found: RowLevels, card: Card, *rows: Any) -> list[list[str]]:
    packed = card.row_format.pack(list(rows))
    codes = found.codes(packed, len(rows))
    sealed = SealedLevels(found.digest, len(found.features), codes)
    return [[*found.said(sealed, row).values()] for row in range(len(rows))]


def test_a_row_has_a_level_of_each_feature() -> None:
    card = card_of()
    found = finder({"sold": {}, "region": {}, "width": {"cuts": [0.7, 2]}})
    assert [levels.feature for levels in found.features] == ["width", "region", "sold"], "in the order of the columns"
    assert said(found, card, [0.7, "north", True, 1], [2, None, False, 1], [0.69, "east", 1, 1]) == [
        ["0.7 to below 2", "north", "true"],
        ["2 and above", MISSING, "false"],
        ["below 0.7", OTHERS, "true"],
    ]


def test_named_levels_are_told_apart_and_the_others_are_one() -> None:
    found = finder({"region": {"levels": ["west", "north"]}, "grade": {"levels": [1, 3]}})
    assert said(found, card_of(), *([0, region, 0, grade] for region, grade in (("west", 3), ("south", 2)))) == [
        ["west", "3"],
        [OTHERS, OTHERS],
    ]


def test_of_many_levels_the_first_are_told_apart() -> None:
    levels = [f"level {number}" for number in range(1000)]
    card = card_of([{"name": "city", "type": "category", "levels": levels}, {"name": "width"}], [0.0, 1.0])
    found = finder({"city": {}}, card)
    assert len(found.features[0].names) == MAX_LEVELS + 2
    assert said(found, card, ["level 19", 1], ["level 20", 1]) == [["level 19"], [OTHERS]]


def test_rows_of_texts_beside_columns_have_levels_as_well() -> None:
    features = [{"name": "title", "type": "text"}, *FEATURES[:2]]
    card = card_of(features, ["a", 1.0, 0.0])
    assert said(finder({"region": {}, "title": {}}, card), card, ["x", 1, "south"], ["", 2, None]) == [
        ["south"],
        [MISSING],
    ]


def test_missing_numbers_have_a_level_of_their_own() -> None:
    card = card_of([{"name": "age", "nullable": True}, {"name": "width"}], [1.0, 1.0])
    assert said(finder({"age": {"cuts": [30]}}, card), card, [None, 1], [30, 1]) == [[MISSING], ["30 and above"]]


@pytest.mark.parametrize("features", [{"width": {}}, {"unknown": {}}, {"region": {"cuts": [1]}}, {}])
def test_what_has_no_levels_is_not_told_apart(features: Any) -> None:
    assert row_levels(SegmentSettings(features=features), card_of()) is None


def test_an_unknown_feature_has_the_levels_that_are_named() -> None:
    settings = SegmentSettings.model_validate({"features": {"sex": {"levels": ["f", "m"]}, "age": {"cuts": [3]}}})
    levels = levels_of(settings, card_of(), "sex")
    assert levels is not None
    assert [levels.level_of(value) for value in ("f", "x", None, 1)] == ["f", OTHERS, MISSING, OTHERS]
    assert levels_of(settings, card_of(), "age") is None


def test_levels_under_other_settings_are_others() -> None:
    card = card_of()
    first, second = finder({"region": {}}), finder({"region": {"levels": ["south", "north", "west"]}})
    assert first.features[0].key != second.features[0].key
    codes = first.codes(card.row_format.pack([ROW_OF_JSON]), 1)
    assert second.said(SealedLevels(first.digest, 1, codes), 0) == {}
    assert first.said(SealedLevels(first.digest, 1, codes), 0) != {}
    assert first.said(SealedLevels(first.digest, 1, codes), 1) == {}, "there is no such row"


ROW_OF_JSON = [1.0, "north", True, 3]


def ids(settings: Any, **more: Any) -> PredictionIds:
    return PredictionIds(bytes(32), math.inf, levels=Segmenting(SegmentSettings(features=settings)).of, **more)


def predicted(card: Card, rows: list[Any], version: str = "v1", environment: str = "production") -> Prediction:
    origin = Origin(version, environment, 1, card)
    scores = np.linspace(0, 1, len(rows), dtype=np.float32)
    packed = card.row_format.pack(rows)
    return Prediction(packed, len(rows), lambda _: None, scores=scores, origin=origin, reason=Reason.SPLIT)


@pytest.mark.parametrize("rows", [1, 2, MAX_CARRIED_ROWS, MAX_CARRIED_ROWS + 1, 100])
def test_an_id_carries_the_levels_of_the_first_rows(rows: int) -> None:
    card = card_of()
    sealing = ids({"region": {}, "sold": {}})
    wanted = [["north", "south", "west"][number % 3] for number in range(rows)]
    made = sealing.make(predicted(card, [[1, region, True, 1] for region in wanted]))
    origin = sealing.read(made)
    found = finder({"region": {}, "sold": {}})
    assert origin.levels is not None
    assert [[*found.said(origin.levels, row).values()] for row in range(min(rows, MAX_CARRIED_ROWS))] == [
        [region, "true"] for region in wanted[:MAX_CARRIED_ROWS]
    ]
    assert len(origin.outcomes) == min(rows, MAX_CARRIED_ROWS)
    assert origin.outcomes == tuple(np.linspace(0, 1, rows, dtype=np.float32)[:MAX_CARRIED_ROWS].tolist())
    assert ids({}).read(made) == origin, "whoever has segments off reads it as well"


def test_an_id_without_segments_is_as_it_was() -> None:
    card = card_of()
    both: tuple[Any, Any] = ({}, {"region": {}})
    plain, segmented = (ids(of, clock=lambda: 1e9).make(predicted(card, [ROW_OF_JSON])) for of in both)
    assert ids({}).read(plain).levels is None
    assert len(segmented) - len(plain) == 8, "six bytes more"


def test_the_longest_id_is_read() -> None:
    card = card_of()
    name = "x" * 63
    sealing = ids({feature["name"]: {"levels": ["1"]} for feature in FEATURES})
    made = sealing.make(predicted(card, [ROW_OF_JSON] * 40, name, name))
    assert len(made) < MAX_CHARACTERS
    assert sealing.read(made).version == name
