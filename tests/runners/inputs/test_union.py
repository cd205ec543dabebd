"""The union of versions that differ: which rows are whose, and what is refused for all of them."""

from typing import Any

import numpy as np
import pytest

from configuration.settings import LimitSettings
from runners.inputs.faults import InputFault
from runners.inputs.formats import row_format_of
from runners.inputs.precision import FLOAT32, FLOAT64
from runners.inputs.schema import Feature
from runners.inputs.union import OpenRows, RowForm, UnionRows, format_of_versions, why_contradicting
from tests.support.problems import refused_input

AGE, FARE, ALONE = Feature(name="age"), Feature(name="fare", nullable=True), Feature(name="alone", type="boolean")
WIDE, WHOLE = Feature(name="age", precision="float64"), Feature(name="age", type="integer")
SEX = Feature(name="sex", type="category", levels=("male", "female"))
SEXES = Feature(name="sex", type="category", levels=("female", "male"), other=True)
V1, V2 = (AGE, SEX), (FARE, SEX, AGE)
LIMITS = LimitSettings(max_rows=3)


def union(**versions: tuple[Feature, ...]) -> UnionRows:
    found = format_of_versions(next(iter(versions.values())), versions, LIMITS)
    assert isinstance(found, UnionRows)
    return found


def packed(rows: OpenRows, version: str, *, pinned: bool = False) -> list[list[float]]:
    content, count = rows.packed_for(version, pinned=pinned)
    return np.frombuffer(content, "<f4").reshape(count, -1).tolist()


def fault(rows: OpenRows, version: str, *, pinned: bool = False) -> InputFault:
    with pytest.raises(InputFault) as refused:
        rows.packed_for(version, pinned=pinned)
    return refused.value


def test_versions_that_agree_are_read_as_one() -> None:
    described = Feature(name="age", description="years")
    agreeing = format_of_versions(V1, {"v1": V1, "v2": (described, SEX)}, LIMITS)
    assert type(agreeing) is type(row_format_of(V1))
    assert agreeing.max_rows == 3


@pytest.mark.parametrize(
    "other", [V2, V1[::-1], (AGE, SEXES), (AGE.model_copy(update={"nullable": True}), SEX), (WIDE, SEX), (WHOLE, SEX)],
    ids=["one more", "another order", "other levels", "with gaps", "of float64", "of whole numbers"],
)  # fmt: skip
def test_versions_that_differ_are_a_union_also_when_the_first_is_gone(other: tuple[Feature, ...]) -> None:
    assert isinstance(format_of_versions(V1, {"v1": V1, "v2": other}, LIMITS), UnionRows)
    assert isinstance(format_of_versions(V1, {"v2": other}, LIMITS), UnionRows)


def test_each_version_gets_its_own_columns_and_levels() -> None:
    rows = union(v1=V1, v2=V2, v3=(AGE, SEXES)).pack([{"age": 4, "fare": 1.5, "sex": "female"}] * 2)
    assert packed(rows, "v1") == [[4, 1]] * 2
    assert packed(rows, "v2") == [[1.5, 1, 4]] * 2
    assert packed(rows, "v3") == [[4, 0]] * 2


def test_what_a_row_lacks_is_told_of_the_version_that_needs_it() -> None:
    rows = union(v1=V1, v2=V2).pack([{"age": 4, "sex": "male", "fare": None}, {"age": 4, "sex": "male"}])
    assert packed(rows, "v1") == [[4, 0]] * 2
    found = fault(rows, "v2")
    assert (found.code, found.message) == ("missing_feature", "version v2: row 1 lacks the feature 'fare'")
    assert found.detail == {"row": 1, "feature": "fare", "version": "v2"}
    assert rows.lacking == {"fare": 1}


def test_a_gap_is_no_lack_and_is_refused_where_it_may_not_be() -> None:
    gaps = AGE.model_copy(update={"nullable": True})
    rows = union(v1=(AGE,), v2=(gaps,)).pack([{"age": None}])
    assert np.isnan(packed(rows, "v2")).all()
    assert fault(rows, "v1").message.startswith("version v1: row 0, feature 'age': null where a number belongs")


def test_an_unknown_level_goes_by_the_versions_own_rule() -> None:
    rows = union(v1=(AGE, SEX), v2=(AGE, SEXES)).pack([{"age": 1, "sex": "femal"}])
    assert packed(rows, "v2") == [[1, 2]]
    found = fault(rows, "v1")
    assert (found.code, found.beside) == ("unknown_level", {"nearest": "female", "version": "v1"})


def test_names_that_no_version_knows_are_refused_at_once() -> None:
    with refused_input("row 1 has the unknown feature 'height'; known are age, sex, fare") as refused:
        union(v1=V1, v2=V2).pack([{"age": 1}, {"height": 2}])
    assert refused.value.code == "unknown_feature"


@pytest.mark.parametrize(("rows", "code"), [([], "no_rows"), ([{}] * 4, "too_many_rows")])
def test_the_number_of_rows_is_the_same_for_all(rows: list[Any], code: str) -> None:
    with pytest.raises(InputFault) as refused:
        union(v1=V1, v2=V2).pack(rows)
    assert refused.value.code == code


def test_lists_are_the_first_versions_unless_another_one_is_named() -> None:
    versions = union(v1=V1, v2=V2, v3=V1[::-1], v4=(AGE, SEXES))
    rows = versions.pack([[4, "female"]])
    assert (rows.form, rows.lacking) == (RowForm.LISTS, {"fare": 1})
    assert packed(rows, "v1") == packed(rows, "v1", pinned=True) == [[4, 1]]
    assert packed(rows, "v4") == [[4, 0]], "its features are the same, and levels are texts"
    for version in ("v2", "v3"):
        found = fault(rows, version)
        assert (found.code, found.beside) == ("names_needed", {"version": version})
        assert "than rows without names have here (age, sex); send rows by name" in found.message
    assert packed(versions.pack([["female", 4]]), "v3", pinned=True) == [[1, 4]]
    assert packed(versions.pack([[1.5, "female", 4]]), "v2", pinned=True) == [[1.5, 1, 4]]
    assert fault(rows, "v2", pinned=True).message == "version v2: row 0 has 2 values; the model takes 3"


def test_packed_rows_are_the_first_versions_and_those_that_pack_alike() -> None:
    versions = union(v1=V1, v2=V2, v3=(AGE, SEXES))
    body = np.array([[4, 1]], "<f4").tobytes()
    rows, count = versions.pack_bytes(body)
    assert (rows.form, count) == (RowForm.BARE, 1)
    assert packed(rows, "v1") == [[4, 1]]
    assert {fault(rows, version).code for version in ("v2", "v3")} == {"names_needed"}
    assert packed(rows, "v3", pinned=True) == [[4, 1]]
    assert fault(rows, "v2", pinned=True).code == "wrong_feature_count"


def test_packed_rows_are_for_all_that_mean_the_same_by_them_and_gaps_for_those_that_take_them() -> None:
    others = SEX.model_copy(update={"other": True})
    versions = union(v1=V1, v2=(AGE.model_copy(update={"nullable": True}), others))
    rows, _ = versions.pack_bytes(np.array([[np.nan, 2]], "<f4").tobytes())
    assert fault(rows, "v1").code == "not_finite"
    (row,) = packed(rows, "v2")
    assert np.isnan(row[0])
    assert row[1] == 2


def test_versions_of_two_precisions_read_the_same_rows() -> None:
    versions, row = union(v1=V1, v2=(WIDE, SEX)), {"age": 0.1, "sex": "female"}
    assert (versions.schema.datatype, versions.schema.precision) == ("FP64", FLOAT32)
    for rows in (
        versions.pack([row]),
        versions.pack([[0.1, "female"]]),
        versions.pack_bytes(np.array([[0.1, 1]], "<f8").tobytes(), FLOAT64)[0],
    ):
        assert packed(rows, "v1") == [[float(np.float32(0.1)), 1]]
        content, _ = rows.packed_for("v2", pinned=False)
        assert np.frombuffer(content, "<f8").tolist() == [0.1, 1]


def test_packed_rows_that_do_not_say_their_precision_are_read_in_the_readers_own() -> None:
    versions = union(v1=V1, v2=(WIDE, SEX))
    narrow, wide = (versions.pack_bytes(np.array([[0.5, 1]], kind).tobytes())[0] for kind in ("<f4", "<f8"))
    assert packed(narrow, "v1") == [[0.5, 1]]
    assert {fault(rows, version).code for rows, version in ((narrow, "v2"), (wide, "v2"), (wide, "v1"))} == {
        "names_needed"
    }
    content, count = wide.packed_for("v2", pinned=True)
    assert (np.frombuffer(content, "<f8").tolist(), count) == ([0.5, 1], 1)


def test_whole_numbers_are_looked_at_for_the_version_that_takes_them() -> None:
    rows = union(v1=V1, v2=(WHOLE, SEX)).pack([{"age": 2**24 + 1, "sex": "female"}])
    assert packed(rows, "v1") == [[2**24, 1]]
    assert fault(rows, "v2").code == "not_exact"


def test_what_rows_without_names_are_does_not_change_with_the_versions() -> None:
    """Another version of the same width, in another order, is never given them, not even alone."""
    rows = format_of_versions(V1, {"v2": V1[::-1]}, LIMITS)
    assert isinstance(rows, UnionRows)
    assert fault(rows.pack([["female", 4]]), "v2").code == "names_needed"


def test_a_truth_value_is_taken_by_all_where_one_version_takes_it() -> None:
    number = Feature(name="alone")
    rows = union(v1=(AGE, ALONE), v2=(number, FARE)).pack([{"age": 1, "alone": True, "fare": 2}])
    assert packed(rows, "v1") == [[1, 1]]
    assert packed(rows, "v2") == [[1, 2]]
    refused = union(v1=(AGE, number), v2=(number, FARE)).pack([{"age": 1, "alone": True, "fare": 2}])
    assert fault(refused, "v1").code == "not_a_number"


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        (V1, V2, None),
        (V1, (AGE, SEXES), None),
        ((AGE, ALONE), (AGE, Feature(name="alone", type="integer")), None),
        (V1, (FARE,), "they have no feature in common"),
        (V1, (AGE, Feature(name="sex")), "the feature 'sex' is a category in one and a number in the other"),
        (
            (Feature(name="age", type="text"),), (AGE, FARE),
            "the feature 'age' is a text in one and a number in the other",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_side_by_side(one: Any, other: Any, why: str | None) -> None:
    assert why_contradicting(one, other) == why


def test_who_takes_what_is_told() -> None:
    versions = union(v1=V1, v2=V2)
    assert versions.feature_names == ("age", "sex", "fare")
    assert versions.optional == {"fare"}
    assert versions.takers["fare"] == ("v2",)
    assert versions.note.endswith("Not every version takes fare: v2")
    whole = versions.filled({"age": 1, "sex": "male"})
    assert packed(versions.pack([whole]), "v2") == [[0, 0, 1]]
