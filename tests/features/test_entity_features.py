"""Columns of an answer, cut into entities."""

import pytest

from shokado.features.entity_features import Lack, features_of
from shokado.features.feature_wire import FeatureAnswer, FeatureColumn, decode_answer, encode

ANSWER = FeatureAnswer(
    [
        FeatureColumn("age", [39, None], [True, False], [100.0, 0.0], [150.0, 50.0]),
        FeatureColumn("length", [12, 7], [True, True]),
    ]
)


def test_each_entity_has_its_own_values() -> None:
    ann, bob = features_of(decode_answer(encode(ANSWER)), 2)
    assert ann.values_at(149) == {"age": 39, "length": 12}
    assert bob.values_at(149) == {"age": Lack.MISSING, "length": 7}


def test_what_is_older_than_it_may_be_is_stale() -> None:
    ann, _ = features_of(ANSWER, 2)
    assert ann.values_at(150) == {"age": Lack.STALE, "length": 12}


def test_without_features_there_are_entities_all_the_same() -> None:
    assert [one.values_at(0) for one in features_of(FeatureAnswer([]), 3)] == [{}, {}, {}]


@pytest.mark.parametrize(
    "column",
    [
        FeatureColumn("age", [1], [True, True]),
        FeatureColumn("age", [1, 2], [True]),
        FeatureColumn("age", [1, 2], [True, True], [1.0]),
        FeatureColumn("age", [1, 2], [True, True], [1.0, 1.0], [1.0]),
    ],
)
def test_columns_of_another_length_are_refused(column: FeatureColumn) -> None:
    with pytest.raises(ValueError, match="'age' has not one value for each of 2 entities"):
        features_of(FeatureAnswer([column]), 2)
