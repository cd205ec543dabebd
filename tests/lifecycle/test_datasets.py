"""The data sets are the same arrays everywhere, and as the docstrings say."""

import hashlib

import numpy as np
import pytest

from runners.artefacts.card import Task
from shokado.lifecycle import datasets
from shokado.lifecycle.errors import UnknownDataSet

SHAPES = {
    "customers": (Task.BINARY, 10, (0, 1), 16_000, 4_000),
    "iris": (Task.MULTICLASS, 4, ("setosa", "versicolor", "virginica"), 120, 30),
    "breast_cancer": (Task.BINARY, 30, ("malignant", "benign"), 455, 114),
    "diabetes": (Task.REGRESSION, 10, (), 353, 89),
    "spam": (Task.BINARY, 1, ("ham", "spam"), 4_800, 1_200),
}


@pytest.mark.parametrize("name", datasets.NAMES)
def test_shape_types_and_classes(name: str) -> None:
    task, features, classes, train_rows, test_rows = SHAPES[name]
    data = datasets.load(name)
    assert (data.name, data.task, data.classes) == (name, task, classes)
    assert data.train.rows.shape == (train_rows, features)
    assert data.test.rows.shape == (test_rows, features)
    assert (data.row_format.text_field is not None) is (name == "spam")
    assert data.train.rows.dtype == data.test.rows.dtype == data.row_format.dtype
    assert data.test.targets.dtype == (np.float32 if task is Task.REGRESSION else np.int64)
    assert len(data.features) == features
    assert all(name.isidentifier() for name in data.feature_names)


@pytest.mark.parametrize("name", datasets.NAMES)
def test_loading_twice_gives_the_same_split(name: str) -> None:
    first, second = datasets.load(name), datasets.load(name)
    np.testing.assert_array_equal(first.test.rows, second.test.rows)
    np.testing.assert_array_equal(first.train.targets, second.train.targets)


@pytest.mark.parametrize("name", ["customers", "iris", "breast_cancer", "spam"])
def test_the_split_keeps_the_shares_of_the_classes(name: str) -> None:
    data = datasets.load(name)
    for label in range(len(data.classes)):
        in_train, in_test = (data.train.targets == label).mean(), (data.test.targets == label).mean()
        assert in_train == pytest.approx(in_test, abs=1 / len(data.test.targets))


def test_customers_are_frozen() -> None:
    """Whoever changes the generator changes what every published figure was measured on: do it knowingly."""
    rows, targets = datasets.generate_customers(datasets.CUSTOMERS_ROWS, datasets.CUSTOMERS_SEED)
    digest = hashlib.sha256(np.ascontiguousarray(rows).tobytes() + targets.tobytes()).hexdigest()
    assert digest == "387b36eefdb76845f56fa763bc613d4f2ec2c1bb88541aeb702acdd419bfa6b8"


def test_customers_look_as_documented() -> None:
    rows, targets = datasets.generate_customers(datasets.CUSTOMERS_ROWS, datasets.CUSTOMERS_SEED)
    column = dict(zip((feature.name for feature in datasets.CUSTOMERS_FEATURES), rows.T, strict=True))
    assert targets.mean() == pytest.approx(0.28, abs=0.01)
    assert column["age"].min() >= 18
    assert column["age"].max() <= 85
    assert column["credit_score"].min() >= 300
    assert column["credit_score"].max() <= 850
    assert np.median(column["income"]) == pytest.approx(52_000, rel=0.02)
    assert column["account_age_days"].max() == 3650
    assert (column["num_returns"] <= column["num_purchases"]).all()
    assert set(np.unique(column["is_premium"])) == {0, 1}
    shares = np.bincount(column["region"].astype(int)) / len(rows)
    np.testing.assert_allclose(shares, [0.30, 0.25, 0.20, 0.15, 0.10], atol=0.01)
    shares = np.bincount(column["category_preference"].astype(int)) / len(rows)
    np.testing.assert_allclose(shares, [0.22, 0.18, 0.15, 0.13, 0.11, 0.09, 0.07, 0.05], atol=0.01)


def test_whole_number_columns_are_whole() -> None:
    data = datasets.load("customers")
    whole = [feature.type != "float" for feature in data.features]
    np.testing.assert_array_equal(data.train.rows[:, whole], np.rint(data.train.rows[:, whole]))


def test_another_seed_gives_other_customers() -> None:
    first, _ = datasets.generate_customers(100, 1)
    second, _ = datasets.generate_customers(100, 2)
    assert not np.array_equal(first, second)


def test_unknown_name_lists_the_names() -> None:
    with pytest.raises(UnknownDataSet, match="customers, iris, breast_cancer, diabetes, spam"):
        datasets.load("titanic")
