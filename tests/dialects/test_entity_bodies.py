"""Bodies that name entities: what is read of them, what becomes of them, and whom a fault is of."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from configuration.feature_settings import FeatureSettings
from configuration.settings import LimitSettings
from runners.inputs.formats import row_format_of
from runners.inputs.rows import RowReader
from runners.inputs.schema import Feature
from runners.inputs.union import format_of_versions
from shokado.dialects.entity_bodies import EntityBody, EntityReader, Filling
from shokado.dialects.problem import Problem, problem_of
from shokado.features.entity_features import EntityFeatures, Lack

FEATURES = [
    Feature(name="age"),
    Feature(name="income", nullable=True),
    Feature(name="city", type="category", levels=("Bern",)),
]
FORMAT = row_format_of(FEATURES, LimitSettings(max_rows=4))
TYPES = {"customer_id": "integer", "amount": "number", "text": "text", "new": "boolean"}
ANN = EntityFeatures(("age", "income", "city"), (39, None, "Bern"), (True, True, True), (None, None, None))
NOBODY = EntityFeatures(("age", "income", "city"), (None, None, None), (False, False, False), (None, None, None))
KNOWN = frozenset(("age", "income", "city"))


def settings(**changes: Any) -> FeatureSettings:
    return FeatureSettings.model_validate({"url": "http://127.0.0.1:6570", "entities": TYPES, **changes})


def read(content: Any, field: str = "instances", row_format: RowReader = FORMAT) -> EntityBody | None:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return EntityReader(settings(), field, 20).read(body, row_format)


def refusal(content: Any, field: str = "instances") -> Problem:
    with pytest.raises(Exception) as refused:  # what it is a problem of is looked at
        read(content, field)
    return problem_of(refused.value)


def filled(
    body: EntityBody | None,
    found: Sequence[EntityFeatures | None],
    known: frozenset[str] | None = KNOWN,
    **changes: Any,
) -> Any:
    assert body is not None
    filling = Filling(settings(**changes), FORMAT)
    return json.loads(body.filled(found, lambda _: known, filling, now=100.0))


@pytest.mark.parametrize(
    "content",
    [
        {"instances": [{"age": 1}]},
        {"instances": [{"city": '"entities"'}]},
        {"instances": [{"entities": 1}]},
        b'{"entities": ',
        b'["entities"]',
        b'"entities"',
        b'{"entities": NaN}',
        b'{"entities": "\xff"}',
        b"[" * 100_000 + b'"entities"',
    ],
)
def test_what_names_no_entities_or_cannot_be_read_is_its_dialects(content: Any) -> None:
    assert read(content) is None


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ({"entities": [{"customer_id": 1}, {"customer_id": 2}]}, [{}, {}]),
        ({"entities": {"customer_id": 1}}, [{}]),
        ({"entities": {"customer_id": 1}, "instances": [{"age": 1}, {}]}, [{"age": 1}, {}]),
        ({"entities": [{"customer_id": 1}], "instances": [{"age": 1}], "version": "v2"}, [{"age": 1}]),
    ],
)
def test_a_row_for_each_entity_or_one_entity_for_all_rows(content: Any, rows: list[Any]) -> None:
    body = read(content)
    assert body is not None
    assert [entity["customer_id"] for entity in body.entities] == [1, 2, 1][: len(rows)] or len(body.entities) == len(
        rows
    )
    whole = filled(body, [ANN] * len(rows))
    assert whole["instances"] == [{"age": 39, "income": None, "city": "Bern"} | row for row in rows]
    assert whole.keys() == ({*content} - {"entities"}) | {"instances"}


def test_a_body_of_one_row_has_one_entity() -> None:
    assert filled(read({"entities": {"customer_id": 1}}, "features"), [ANN])["features"]["age"] == 39
    given = read({"entities": {"customer_id": 1}, "features": {"age": 5}, "unit": "u"}, "features")
    assert filled(given, [ANN]) == {"features": {"age": 5, "income": None, "city": "Bern"}, "unit": "u"}
    assert refusal({"entities": [{"customer_id": 1}]}, "features").code == "wrong_type"


def test_what_a_row_has_is_not_looked_up() -> None:
    """Not even where it is null, which may be what the client knows."""
    body = read({"entities": {"customer_id": 1}, "instances": [{"age": 5, "income": 7, "city": None}]})
    assert filled(body, [ANN])["instances"] == [{"age": 5, "income": 7, "city": None}]


def test_names_come_in_the_configured_order_and_numbers_as_they_are_stored() -> None:
    body = read({"entities": {"new": True, "text": "a", "amount": 3, "customer_id": -(2**63)}})
    assert body is not None
    assert list(body.entities[0].items()) == [("customer_id", -(2**63)), ("amount", 3.0), ("text", "a"), ("new", True)]
    assert isinstance(body.entities[0]["amount"], float)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ({"entities": 1}, "wrong_type"),
        ({"entities": [1]}, "wrong_type"),
        ({"entities": [{}]}, "wrong_type"),
        ({"entities": {"customer": 1}}, "unknown_entity"),
        ({"entities": {"customer_id": "1"}}, "wrong_type"),
        ({"entities": {"customer_id": 1.0}}, "wrong_type"),
        ({"entities": {"customer_id": True}}, "wrong_type"),
        ({"entities": {"customer_id": None}}, "wrong_type"),
        ({"entities": {"customer_id": 2**63}}, "wrong_type"),
        ({"entities": {"customer_id": [1]}}, "wrong_type"),
        ({"entities": {"amount": 10**400}}, "wrong_type"),
        ({"entities": {"amount": True}}, "wrong_type"),
        ({"entities": {"text": 1}}, "wrong_type"),
        ({"entities": {"text": "x" * 21}}, "text_too_long"),
        ({"entities": {"new": 1}}, "wrong_type"),
        ({"entities": {"customer_id": 1}, "instances": {"age": 1}}, "wrong_type"),
        ({"entities": {"customer_id": 1}, "instances": [[1, 2, "Bern"]]}, "names_needed"),
        ({"entities": {"customer_id": 1}, "instances": ["Bern"]}, "names_needed"),
        ({"entities": [{"customer_id": 1}], "instances": [{}, {}]}, "wrong_shape"),
        ({"entities": [{"customer_id": 1}] * 5}, "too_many_rows"),
        ({"entities": {"customer_id": 1}, "instances": [{}] * 5}, "too_many_rows"),
        ({"entities": {"customer_id": 1}, "instances": [{}] * 200_000}, "too_many_rows"),
    ],
)
def test_a_bad_entity_is_a_problem(content: Any, code: str) -> None:
    assert refusal(content).code == code


def test_the_row_and_the_name_are_told() -> None:
    problem = refusal({"entities": [{"customer_id": 1}, {"customer_id": "x"}]})
    assert problem.message == "row 1: the entity 'customer_id' is the text 'x'; an integer belongs here"
    assert problem.detail == {"row": 1, "entity": "customer_id"}
    assert problem.status == 422


def test_all_rows_of_one_entity_stick_to_it() -> None:
    one, two = ({"customer_id": number, "text": "a"} for number in (1, 2))
    for entities, unit in (([one, one], "1"), ([one, two], ""), ([one, {"text": "a"}], ""), ([], "")):
        body = read({"entities": entities})
        assert body is not None
        assert (body.unit_of("customer_id"), body.unit_of(None)) == (unit, "")


MISSING = {"city": Lack.MISSING}


@pytest.mark.parametrize(
    ("found", "changes", "row"),
    [
        # What is stored as null is null where that may be, and missing elsewhere.
        (ANN, {}, {"age": 39, "income": None, "city": "Bern"}),
        (NOBODY, {}, {}),
        (NOBODY, {"when_missing": "default"}, {"income": None}),
        (NOBODY, {"when_missing": "default", "defaults": {"age": 40, "city": "Bern", "income": 1.5}},
         {"age": 40, "city": "Bern", "income": 1.5}),
        (NOBODY, {"when_unavailable": "default", "defaults": {"age": 40}}, {}),
        (None, {}, {}),
        (None, {"when_unavailable": "default", "defaults": {"age": 40}}, {"age": 40, "income": None}),
        (None, {"when_missing": "default", "defaults": {"age": 40}}, {}),
    ],
)  # fmt: skip
def test_the_policy_says_what_becomes_of_what_is_missing(
    found: EntityFeatures | None, changes: dict[str, Any], row: dict[str, Any]
) -> None:
    assert filled(read({"entities": {"customer_id": 1}}), [found], **changes)["instances"] == [row]


def test_what_is_missing_is_told_with_whether_it_has_a_default() -> None:
    body, told = read({"entities": {"customer_id": 1}}), set()
    assert body is not None
    filling = Filling(settings(when_missing="default", defaults={"age": 1}), FORMAT)
    stale = EntityFeatures(("age", "city"), (39, "Bern"), (True, True), (99.0, 101.0))
    body.filled([stale], lambda _: KNOWN, filling, 100.0, lambda *lack: told.add(lack))
    assert told == {("age", Lack.STALE, True), ("income", Lack.MISSING, True)}


def test_while_nobody_knows_what_the_transformer_has_only_what_is_configured_is_a_default() -> None:
    body = {"entities": {"customer_id": 1}}
    assert filled(read(body), [None], None, when_unavailable="default", defaults={"age": 1})["instances"] == [
        {"age": 1}
    ]
    given = filled(read(body), [None], None, when_unavailable="default", defaults={"income": None})
    assert given["instances"] == [{"income": None}]


def test_a_feature_that_the_transformer_does_not_have_is_the_clients() -> None:
    body = read({"entities": {"customer_id": 1}})
    assert filled(body, [None], frozenset(("age",)), when_unavailable="default")["instances"] == [{}]
    assert body is not None
    lacking = Problem("missing_feature", "row 0 lacks the feature 'income'", {"row": 0, "feature": "income"})
    assert body.blamed(lacking) is lacking


@pytest.mark.parametrize(
    ("found", "name", "code", "message"),
    [
        (NOBODY, "age", "feature_missing", "row 1: the feature store has no 'age' of customer_id=2, text=abc"),
        (
            None,
            "age",
            "features_unavailable",
            "row 1: the feature 'age' of customer_id=2, text=abc could not be looked up",
        ),
        (EntityFeatures(("age",), (1,), (True,), (50.0,)), "age", "feature_missing", "is older than it may be"),
        (
            ANN,
            "city",
            "feature_unfit",
            "row 1: what was looked up as 'city' of customer_id=2, text=abc is not taken: words",
        ),
    ],
)
def test_who_is_at_fault_is_told_with_the_entity_and_the_feature(
    found: EntityFeatures | None, name: str, code: str, message: str
) -> None:
    body = read({"entities": [{"customer_id": 1}, {"customer_id": 2, "text": "abc"}], "instances": [{}, {"income": 1}]})
    filled(body, [ANN, found])
    assert body is not None
    problem = body.blamed(Problem("missing_feature", "words", {"row": 1, "feature": name, "version": "v2"}))
    assert (problem.status, problem.code) == (424, code)
    assert message in problem.message
    assert problem.detail == {"row": 1, "feature": name, "version": "v2", "entity": {"customer_id": 2, "text": "abc"}}
    given = Problem("not_finite", "words", {"row": 1, "feature": "income"})
    assert body.blamed(given) is given, "what the client gave is the client's"


def test_a_long_text_is_repeated_in_part() -> None:
    reader = EntityReader(settings(), "instances", 1000)
    body = reader.read(json.dumps({"entities": {"text": "x" * 500}}).encode(), FORMAT)
    assert body is not None
    body.filled([NOBODY], lambda _: KNOWN, Filling(settings(), FORMAT), 0.0)
    problem = body.blamed(Problem("missing_feature", "words", {"row": 0, "feature": "age"}))
    assert problem.detail["entity"] == {"text": "x" * 60 + ".."}


def test_where_versions_differ_each_takes_its_own() -> None:
    union = format_of_versions(FEATURES[:2], {"v1": FEATURES[:2], "v2": FEATURES}, LimitSettings())
    body = read({"entities": {"customer_id": 1}}, row_format=union)
    assert body is not None
    filling = Filling(settings(when_missing="default"), union)
    nobody = EntityFeatures(("age", "income", "city"), (1, None, None), (True, False, False), (None, None, None))
    whole = json.loads(body.filled([nobody], lambda _: KNOWN, filling, 0.0))
    assert whole["instances"] == [{"age": 1, "income": None}], "v1 takes no city, and can answer"


def test_numbers_of_any_length_stay_as_they_were_sent() -> None:
    body = read(b'{"entities": {"customer_id": 1}, "instances": [{"age": 123456789012345678901234567890}]}')
    assert filled(body, [ANN])["instances"][0]["age"] == 123456789012345678901234567890
