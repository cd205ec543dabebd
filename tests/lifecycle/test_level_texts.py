"""The texts of a category's numbers are those that a server packs as these numbers."""

import numpy as np
import pytest

from runners.inputs.columns import Category
from runners.inputs.schema import Feature
from shokado.lifecycle.importing.level_texts import spelt, spelt_other


@pytest.mark.parametrize("levels", [("red", "green"), ("other", "other_")])
def test_what_is_spelt_is_packed_as_the_same_numbers(levels: tuple[str, ...]) -> None:
    feature = Feature(name="colour", type="category", levels=levels, nullable=True, other=True)
    numbers = np.array([1, 0, np.nan, 2, 1], dtype=np.float32)
    texts = spelt(feature, numbers)
    column = Category(feature.name, feature.nullable, feature.levels, feature.other)
    np.testing.assert_array_equal([column.encode(text) for text in texts], numbers)


def test_a_number_of_no_level_is_another_text_and_a_gap_what_the_training_had() -> None:
    feature = Feature(name="colour", type="category", levels=("red", "green"))
    texts = spelt(feature, np.array([-1.0, 9.0, np.nan]), gap="none")
    assert texts.tolist() == ["red", spelt_other(feature), "none"]
    assert spelt_other(feature) not in feature.levels
