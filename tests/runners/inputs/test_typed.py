"""Typed rows: levels of categories and missing values become float32, and all else is refused by row and name."""

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configuration.settings import LimitSettings
from runners.inputs.faults import InputFault
from runners.inputs.formats import row_format_of
from runners.inputs.named_row import MAX_FIELDS
from runners.inputs.schema import Feature
from runners.inputs.typed import TypedRows
from tests.support.cards import make_card

FEATURES = [
    Feature(name="sex", type="category", levels=("male", "female")),
    Feature(name="port", type="category", levels=("S", "", "3"), nullable=True, other=True),
    Feature(name="age", nullable=True),
    Feature(name="alone", type="boolean"),
]
ROWS = row_format_of(FEATURES, LimitSettings(max_rows=100))
NAN = math.nan


def unpacked(packed: bytes | memoryview) -> list[list[float]]:
    found: list[list[float]] = np.frombuffer(packed, "<f4").reshape(-1, len(FEATURES)).tolist()
    return found


@pytest.mark.parametrize(
    ("row", "packed"),
    [
        (["male", "S", 1.5, True], [0, 0, 1.5, 1]),
        (["female", "", 3, 0], [1, 1, 3, 0]),
        (["male", "unheard of", None, False], [0, 3, NAN, 0]),
        ({"alone": 1, "sex": "female", "port": None, "age": -2}, [1, NAN, -2, 1]),
        (["male", "3", NAN, True], [0, 2, NAN, 1]),
        (["male", NAN, 0, True], [0, NAN, 0, 1]),
    ],
)
def test_a_row_is_packed_as_numbers(row: Any, packed: list[float]) -> None:
    np.testing.assert_array_equal(unpacked(ROWS.pack_values([row])), [packed])


@pytest.mark.parametrize(
    ("row", "code", "feature", "says"),
    [
        (["mal", "S", 1, True], "unknown_level", "sex", "'mal' is none of its 2 levels; the nearest is 'male'"),
        (["x", "S", 1, True], "unknown_level", "sex", "known are 'male', 'female'"),
        ([None, "S", 1, True], "not_a_text", "sex", "null where one of its levels belongs.*fill it in"),
        ([0, "S", 1, True], "not_a_text", "sex", "the number 0 where one of its levels belongs, as a text"),
        (["male", 3, 1, True], "not_a_text", "port", "the number 3 where one of its levels belongs"),
        (["male", "S", "1", True], "not_a_number", "age", "send the number itself, without quotes"),
        (["male", "S", True, True], "not_a_number", "age", "true where a number belongs"),
        (["male", "S", 1, None], "not_a_number", "alone", "null where a number belongs; .*fill it in"),
        (["male", "S", 1e39, True], "not_finite", "age", "beyond the range of float32"),
        (["male", "S", math.inf, True], "not_finite", "age", "infinite"),
        ([["male"], "S", 1, True], "not_a_text", "sex", "a list where one of its levels belongs"),
        (["male", "S", 1], "wrong_feature_count", None, "3 values; the model takes 4"),
        ({"sex": "male", "port": "S", "age": 1}, "missing_feature", "alone", "lacks the feature 'alone'"),
        ({"sex": "male", "port": "S", "age": 1, "x": 1}, "unknown_feature", "x", "unknown feature 'x'"),
        ("male", "wrong_type", None, "a list or an object belongs here"),
        (4 * "a", "wrong_type", None, "a list or an object belongs here"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_row_and_feature(
    row: Any, code: str, feature: str | None, says: str
) -> None:
    with pytest.raises(InputFault, match=says) as refused:
        ROWS.pack_values([["male", "S", 1, True], row])
    assert (refused.value.code, refused.value.row, refused.value.feature) == (code, 1, feature)


def test_a_wrong_level_of_many_or_long_ones_is_refused_without_a_search() -> None:
    levels = tuple(f"level {number}" for number in range(5000))
    many = row_format_of([Feature(name="a", type="category", levels=levels), Feature(name="b")])
    with pytest.raises(InputFault, match=r"none of its 5000 levels; known are 'level 0', .*'level 9', \.\."):
        many.pack([["level x", 1]])
    with pytest.raises(InputFault, match="known are 'male', 'female'"):
        ROWS.pack([["male" * 1000, "S", 1, True]])


@pytest.mark.parametrize("numbers", [[0, 3, NAN, 1], [1, NAN, 1e30, 0], [0, 0, -1, 7]])
def test_packed_numbers_are_taken_as_they_are_encoded(numbers: list[float]) -> None:
    packed = np.array([numbers], "<f4")
    assert ROWS.check_bytes(packed.tobytes()) == 1
    np.testing.assert_array_equal(unpacked(ROWS.pack_array(packed.astype(np.float64))), packed)


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ([2, 0, 1, 1], "row 0, feature 'sex': the number 2 is no level's; packed rows have 0 to 1 there"),
        ([0.5, 0, 1, 1], "the number 0.5 is no level's"),
        ([-1, 0, 1, 1], "the number -1 is no level's"),
        ([NAN, 0, 1, 1], "NaN is no level's"),
        ([math.inf, 0, 1, 1], "the number inf is no level's"),
        ([0, 4, 1, 1], "feature 'port': the number 4 is no level's; packed rows have 0 to 3 there"),
        ([0, 0, math.inf, 1], "feature 'age': the value is infinite"),
        ([0, 0, 1, NAN], "feature 'alone': the value is NaN; the model takes no missing values"),
    ],
)
def test_packed_numbers_that_mean_nothing_are_refused(numbers: list[float], says: str) -> None:
    packed = np.array([numbers], "<f4")
    for take in (lambda: ROWS.check_bytes(packed.tobytes()), lambda: ROWS.pack_array(packed)):
        with pytest.raises(InputFault, match=says):
            take()


def test_a_number_of_a_level_is_none_in_json() -> None:
    assert ROWS.pack_json(b"[[0, 0, 1, 1]]") is None
    numbers = row_format_of([Feature(name="a", nullable=True), Feature(name="b")])
    assert isinstance(numbers, TypedRows)
    assert numbers.pack_json(b"[[1, null]]") is None
    assert numbers.pack_json(b"[[1, 2]]") is not None


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["female", "2.5", "S", "true"], ["female", 2.5, "S", True]),
        (["", "", "NaN", "1"], [None, None, None, 1.0]),
        (["NA", "NaN", "", "x"], [None, None, "", "x"]),
        (["male", "1", "S", "0", "more"], ["male", 1.0, "S", 0.0, "more"]),
        (["male"], ["male"]),
    ],
)
def test_cells_of_a_table_are_read_by_their_columns(cells: list[str], values: list[Any]) -> None:
    """An empty text is a level of `port`, so an empty cell is that."""
    assert ROWS.cell_reader(["sex", "age", "port", "alone"])(cells) == values


LEVELS = st.lists(st.text(max_size=20).filter(lambda text: text.isprintable() or not text), min_size=1, unique=True)


@given(LEVELS, st.booleans(), st.booleans(), st.data())
def test_what_is_encoded_is_spelt_as_it_was(
    levels: list[str], nullable: bool, other: bool, data: st.DataObject
) -> None:
    feature = Feature(name="a", type="category", levels=tuple(levels), nullable=nullable, other=other)
    row_format = row_format_of([feature])
    values = data.draw(st.lists(st.sampled_from(levels) | (st.none() if nullable else st.nothing()), min_size=1))
    packed = np.frombuffer(row_format.pack([[value] for value in values]), "<f4")
    assert [row_format.listed([None if np.isnan(number) else number])[0] for number in packed] == values
    assert row_format.check_bytes(packed.tobytes()) == len(values)
    assert row_format.unbatched(row_format.batch([[number] for number in packed.tolist()])) == [
        [None if np.isnan(number) else number] for number in packed.tolist()
    ]
    if other:
        assert row_format.pack([row_format.listed([len(levels)])]) == np.array([len(levels)], "<f4").tobytes()


def test_ten_thousand_levels_are_told_apart() -> None:
    levels = tuple(f"{number} ✓" for number in range(10_000))
    many = row_format_of([Feature(name="a", type="category", levels=levels)], LimitSettings(max_rows=10_000))
    packed = many.pack([[level] for level in levels])
    assert np.frombuffer(packed, "<f4").tolist() == list(range(10_000))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"levels": ("a",)}, "a float has no levels"),
        ({"type": "category", "levels": ("a", "a")}, "levels repeat"),
        ({"type": "category", "other": True}, "only a category with levels has others"),
        ({"type": "text", "nullable": True}, "a text cannot be missing"),
    ],
)
def test_features_that_mean_nothing_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Feature(name="x", **changes)


def test_a_card_keeps_gaps_and_what_is_usual_is_not_written() -> None:
    features = [feature.model_dump() for feature in FEATURES]
    examples = {"rows": [[0, None, None, 1], [1, 3, 2.5, 0]], "scores": [0.5, 0.5]}
    card = make_card(format=3, features=features, examples=examples)
    again = type(card).model_validate_json(card.model_dump_json())
    assert again == card
    np.testing.assert_array_equal(again.row_format.batch(again.examples.rows), [[0, NAN, NAN, 1], [1, 3, 2.5, 0]])
    assert again.row_format.named(again.examples.rows[1]) == {"sex": "female", "port": "other", "age": 2.5, "alone": 0}
    assert Feature(name="a").model_dump() == {"name": "a", "type": "float", "description": ""}
    with pytest.raises(ValueError, match="belong into a card of format 3"):
        make_card(features=features, examples=examples)
    with pytest.raises(ValueError, match="example row 0 has nan for 'sex'"):
        make_card(format=3, features=features, examples=examples | {"rows": [[None, 0, 0, 0], [1, 3, 2.5, 0]]})


WEIGHTY = Feature(name='say "weight"', nullable=True)
"""No field of a struct can be spelt so."""
WIDE = [*FEATURES, *(Feature(name=f"more {number}") for number in range(MAX_FIELDS))]
VALUES = {
    "sex": st.sampled_from(["male", "female"]),
    "port": st.none() | st.text(max_size=5),
    "age": st.none() | st.integers(-(2**20), 2**20) | st.floats(width=32, allow_nan=False, allow_infinity=False),
    "alone": st.booleans() | st.integers(0, 1),
}


@pytest.mark.parametrize("features", [FEATURES, [*FEATURES, WEIGHTY], WIDE], ids=["few", "odd names", "many"])
@given(data=st.data())
def test_rows_as_the_decoder_reads_them_are_packed_as_any_values_are(
    features: list[Feature], data: st.DataObject
) -> None:
    row_format = row_format_of(features)
    numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
    drawn = [
        {feature.name: data.draw(VALUES.get(feature.name, numbers)) for feature in features}
        for _ in range(data.draw(st.integers(1, 3)))
    ]
    by_name = [dict(data.draw(st.permutations(list(row.items())))) for row in drawn]
    for rows in (by_name, [list(row.values()) for row in drawn]):
        read = msgspec.json.decode(json.dumps(rows), type=list[row_format.quick_row_type])  # type: ignore[name-defined]
        assert row_format.pack(read) == row_format.pack_values(rows)


@pytest.mark.parametrize(
    ("row", "code", "feature"),
    [
        ({"sex": "mal", "port": "S", "age": 1, "alone": True}, "unknown_level", "sex"),
        (["male", "S", 1e39, True], "not_finite", "age"),
    ],
)
def test_what_a_decoder_reads_and_nobody_takes_is_named(row: Any, code: str, feature: str) -> None:
    good = ["male", "S", 1, True]
    read = msgspec.json.decode(json.dumps([good, row]), type=list[ROWS.quick_row_type])  # type: ignore[name-defined]
    with pytest.raises(InputFault) as refused:
        ROWS.pack(read)
    assert (refused.value.code, refused.value.row, refused.value.feature) == (code, 1, feature)


@pytest.mark.parametrize(
    "row",
    [
        ["male", "S", True, True],
        ["male", "S", "1", True],
        ["male", 1, 1, True],
        [None, "S", 1, True],
        ["male", "S", 1, None],
        ["male", "S", 1],
        {"sex": "male", "port": "S", "age": 1},
        {"sex": "male", "port": "S", "age": 1, "alone": 1, "more": 1},
    ],
)
def test_a_value_of_another_kind_is_refused_by_the_decoder(row: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps([row]), type=list[ROWS.quick_row_type])  # type: ignore[name-defined]
