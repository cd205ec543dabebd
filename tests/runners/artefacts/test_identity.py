"""The identity of an artefact: what it depends on, what it does not, and that it never changes."""

from typing import Any

import pytest

from runners.artefacts.card import Card, Task
from runners.artefacts.identity import COUNTS, COUNTS_UNLESS_DEFAULT, DOES_NOT_COUNT, identity_of
from tests.support.cards import SEVERAL, card_content, make_card

OTHER_SOURCE = card_content()["source"] | {"uri": "models:/paper/2"}
RECEIPT = {
    "parent": "paper:v1", "parent_digest": "0" * 64, "size_bytes": 3, "parent_size_bytes": 10,
    "times": [{"rows": 1, "us": 2.0, "parent_us": 3.0}], "rows": 2, "rows_from": "nowhere",
    "max_abs_difference": 0.1, "mean_abs_difference": 0.1, "same_labels": 1.0,
    "max_abs_difference_of_examples": 0.1, "max_abs_difference_in_company": 0.0,
}  # fmt: skip
CHANGES: dict[str, dict[str, Any]] = {
    "model": {"model": "other"},
    "task": {"task": Task.MULTICLASS, "classes": [0, 1, 2]},
    "features": {"features": [{"name": "width"}, {"name": "depth"}]},
    "classes": {"classes": ["no", "yes"]},
    "source": {"source": OTHER_SOURCE},
    "files": {"files": {"onnx": {"sha256": "1" * 64, "size_bytes": 10}}},
    "quantization": {"quantization": "int8"},
    "quantized": {"quantized": RECEIPT},
    "positive_from": {"positive_from": 0.5},
    "predicts": {"predicts": "scores"},
    "version": {"version": "v7"},
    "verification": {"verification": {"onnx": {"rows": 1, "max_abs_difference": 0.0, "tolerance": 1.0}}},
    "examples": {"examples": {"rows": [[1.0, 2.0]], "scores": [0.75]}},
    "metrics": {"metrics": {"auc": 1.0}},
    "own_classes": {"own_classes": [False, True]},
    "reference": {"reference": {"sha256": "2" * 64, "size_bytes": 10}},
    "background": {"background": {"sha256": "3" * 64, "size_bytes": 10}},
    "outputs": SEVERAL | {"task": Task.MULTIOUTPUT, "classes": []},
    "asked_by": {"asked_by": "open_inference"},
    "own_outputs": {"own_outputs": {"label": "labels", "probabilities": "probabilities"}},
}
"""A change of each field of a card that can have another value."""


def test_each_field_of_a_card_counts_or_is_named_as_one_that_does_not() -> None:
    lists = [*COUNTS, *COUNTS_UNLESS_DEFAULT, *DOES_NOT_COUNT]
    assert sorted(lists) == sorted(Card.model_fields)
    assert CHANGES.keys() | {"format"} == set(Card.model_fields)


@pytest.mark.parametrize("field", CHANGES)
def test_an_artefact_is_another_one_where_a_field_counts(field: str) -> None:
    changed = make_card(**CHANGES[field])
    assert getattr(changed, field) != getattr(make_card(), field)
    assert (identity_of(changed) == identity_of(make_card())) == (field in DOES_NOT_COUNT)


@pytest.mark.parametrize(
    ("card", "identity"),
    [
        (make_card(), "d36a72b9179414592ce319c470a0b6dfcb07b469d4aa95b37fd3f31ab779a3bd"),
        (make_card(Task.REGRESSION), "4c5d0d432c2912daaa5fdb858433cc9af5f41a8af840e472316800c5aed93546"),
        (
            make_card(positive_from=0.5, predicts="scores"),
            "f94a923f39d07472319ce4ebb385aefbac17ec4e5d4f1a7602b88d7c68c8a84a",
        ),
    ],
)
def test_an_identity_stays_what_it_was(card: Card, identity: str) -> None:
    """Routing states and workers of another release know artefacts by it."""
    assert identity_of(card) == identity
