"""The data sets that the example models learn from: a name goes in, named float32 columns and targets come out.

Nothing is downloaded: `customers` and the messages of `spam`, which are texts, are generated from a seed, the others
are the copies that scikit-learn carries.
The same name gives the same arrays, split in the same way, on every machine; an import relies on that when it
verifies a model over the test rows of the data set that the model says it was trained on.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runners.artefacts.card import Task
from runners.inputs.formats import row_format_of
from runners.inputs.rows import RowFormat
from runners.inputs.schema import Feature
from shokado.lifecycle.errors import UnknownDataSet
from shokado.lifecycle.messages import generate_messages

CUSTOMERS_ROWS = 20_000
CUSTOMERS_SEED = 20_240_501
SPAM_ROWS = 6_000
SPAM_SEED = 20_240_502
SPLIT_SEED = 7
TEST_SHARE = 0.2
"""Part of the rows that training never sees, and figures of quality come from."""

Rows = NDArray[Any]
"""float32 [N, features], or str (dtype object) [N, 1] where the feature is a text."""
Targets = NDArray[np.int64] | NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Part:
    """Rows and what is to be predicted for them.

    Attributes:
        rows: columns in the order of `DataSet.features`.
        targets: int64 [N], index into `DataSet.classes`; float32 [N] for regression.
    """

    rows: Rows
    targets: Targets


@dataclass(frozen=True, eq=False)
class DataSet:
    """A prediction problem with its training part (80 %) and its test part (20 %)."""

    name: str
    task: Task
    features: tuple[Feature, ...]
    classes: tuple[int | str, ...]
    train: Part
    test: Part

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)

    @property
    def row_format(self) -> RowFormat:
        return row_format_of(self.features)


def check_name(name: str) -> str:
    """The name itself. Raises `UnknownDataSet`, which lists the names."""
    if name not in _LOADERS:
        raise UnknownDataSet(f"There is no data set {name!r}; there are {', '.join(NAMES)}.")
    return name


def load(name: str) -> DataSet:
    """The data set of that name. Raises `UnknownDataSet`, which lists the names."""
    return _LOADERS[check_name(name)]()


CUSTOMERS_FEATURES = (
    Feature(name="age", type="integer", description="years, 18 to 85"),
    Feature(name="income", type="integer", description="yearly income, dollars"),
    Feature(name="credit_score", type="integer", description="300 to 850"),
    Feature(name="num_purchases", type="integer", description="purchases in the last 12 months"),
    Feature(name="account_age_days", type="integer", description="days since the account was opened, up to 3650"),
    Feature(name="avg_transaction", type="float", description="mean value of a purchase, dollars"),
    Feature(name="num_returns", type="integer", description="purchases of the last 12 months that were sent back"),
    Feature(name="is_premium", type="boolean", description="1: member of the premium programme"),
    Feature(name="region", type="category", description="0 north, 1 south, 2 east, 3 west, 4 overseas"),
    Feature(
        name="category_preference",
        type="category",
        description="0 home, 1 fashion, 2 electronics, 3 food, 4 sports, 5 toys, 6 books, 7 garden",
    ),
)


def generate_customers(rows: int, seed: int) -> tuple[Rows, NDArray[np.int64]]:
    """Customers of a shop, and whether each accepts the next offer (1) or not (0).

    With z ~ N(0, 1) drawn once per customer and s(x) = 1 / (1 + exp(-x)), the columns are

        age                  N(42, 13), whole years in 18..85
        region               0..4 with shares .30 .25 .20 .15 .10
        category_preference  0..7 with shares .22 .18 .15 .13 .11 .09 .07 .05
        income               exp(N(ln 52000 + .008 (age - 42), .45^2)), its noise being z
        credit_score         N(680 + 30 z + .6 (age - 42), 60^2), whole in 300..850
        account_age_days     Exponential(900), at most 3650
        is_premium           Bernoulli(s(-1.2 + .8 z + account_age_days / 1500))
        num_purchases        Poisson(Gamma(2, scale 2 + 2 is_premium) (.4 + account_age_days / 1500))
        avg_transaction      exp(N(3.6 + .35 z, .5^2)), cents
        num_returns          Binomial(num_purchases, Beta(1.5, 10))

    and with c = (credit_score - 680) / 75, w = ln(income / 52000) / .45, q = num_returns / max(num_purchases, 1) the
    log-odds of the target are 1.25 times

        -2.0 + .8 c + .5 w + .9 ln(1 + num_purchases) - 4 q - .0018 (age - 45)^2 + (.4, .1, -.2, -.5, .3)[region]
        + 1.2 is_premium tanh((account_age_days - 700) / 500)
        - .9 c [avg_transaction > 60]
        + .8 [w > 0] (1 if region + category_preference is even, else -1)

    The three last lines are interactions, which trees find more easily; the first is smooth, which suits a net. The
    target is a draw, so the true log-odds themselves reach an AUC of .89 only; about 28 % of the customers accept.

    Returns:
        float32 [rows, 10] in the order of `CUSTOMERS_FEATURES`, and int64 [rows].
    """
    random = np.random.default_rng(seed)
    age = np.clip(np.rint(random.normal(42, 13, rows)), 18, 85)
    region = random.choice(5, rows, p=[0.30, 0.25, 0.20, 0.15, 0.10])
    preference = random.choice(8, rows, p=[0.22, 0.18, 0.15, 0.13, 0.11, 0.09, 0.07, 0.05])
    z = random.normal(0, 1, rows)
    income = np.rint(np.exp(np.log(52_000) + 0.008 * (age - 42) + 0.45 * z))
    credit = np.clip(np.rint(680 + 30 * z + 0.6 * (age - 42) + random.normal(0, 60, rows)), 300, 850)
    days = np.rint(np.minimum(random.exponential(900, rows), 3650))
    premium = random.random(rows) < _sigmoid(-1.2 + 0.8 * z + days / 1500)
    purchases = random.poisson(random.gamma(2.0, 2.0 + 2.0 * premium) * (0.4 + days / 1500))
    transaction = np.round(np.exp(3.6 + 0.35 * z + random.normal(0, 0.5, rows)), 2)
    returns = random.binomial(purchases, random.beta(1.5, 10, rows))

    c = (credit - 680) / 75
    w = np.log(income / 52_000) / 0.45
    log_odds = 1.25 * (
        -2.0
        + 0.8 * c
        + 0.5 * w
        + 0.9 * np.log1p(purchases)
        - 4.0 * returns / np.maximum(purchases, 1)
        - 0.0018 * (age - 45) ** 2
        + np.array([0.4, 0.1, -0.2, -0.5, 0.3])[region]
        + 1.2 * premium * np.tanh((days - 700) / 500)
        - 0.9 * c * (transaction > 60)
        + 0.8 * (w > 0) * np.where((region + preference) % 2 == 0, 1, -1)
    )
    accepts = random.random(rows) < _sigmoid(log_odds)
    columns = (age, income, credit, purchases, days, transaction, returns, premium, region, preference)
    return np.column_stack(columns).astype(np.float32), accepts.astype(np.int64)


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-x))


def _customers() -> DataSet:
    train, test = _split(*generate_customers(CUSTOMERS_ROWS, CUSTOMERS_SEED), stratified=True)
    return DataSet("customers", Task.BINARY, CUSTOMERS_FEATURES, (0, 1), train, test)


SPAM_FEATURES = (Feature(name="email_content", type="text", description="the message, without its header"),)


def _spam() -> DataSet:
    train, test = _split(*generate_messages(SPAM_ROWS, SPAM_SEED), stratified=True)
    return DataSet("spam", Task.BINARY, SPAM_FEATURES, ("ham", "spam"), train, test)


def _from_sklearn(name: str, loader: str, task: Task) -> DataSet:
    from sklearn import datasets

    bunch: Any = getattr(datasets, loader)()
    features = tuple(_feature(str(column)) for column in bunch.feature_names)
    rows = np.ascontiguousarray(bunch.data, dtype=np.float32)
    regression = task is Task.REGRESSION
    classes = () if regression else tuple(str(label) for label in bunch.target_names)
    targets = bunch.target.astype(np.float32 if regression else np.int64)
    train, test = _split(rows, targets, stratified=not regression)
    return DataSet(name, task, features, classes, train, test)


def _feature(column: str) -> Feature:
    """`sepal length (cm)` becomes `sepal_length_cm`: a name that is also an identifier in the clients' languages."""
    return Feature(name=re.sub(r"\W+", "_", column).strip("_"), description=column)


def _split(rows: Rows, targets: Targets, *, stratified: bool) -> tuple[Part, Part]:
    from sklearn.model_selection import train_test_split

    train_rows, test_rows, train_targets, test_targets = train_test_split(
        rows, targets, test_size=TEST_SHARE, random_state=SPLIT_SEED, stratify=targets if stratified else None
    )
    return Part(train_rows, train_targets), Part(test_rows, test_targets)


_LOADERS: Mapping[str, Callable[[], DataSet]] = MappingProxyType(
    {
        "customers": _customers,
        "iris": lambda: _from_sklearn("iris", "load_iris", Task.MULTICLASS),
        "breast_cancer": lambda: _from_sklearn("breast_cancer", "load_breast_cancer", Task.BINARY),
        "diabetes": lambda: _from_sklearn("diabetes", "load_diabetes", Task.REGRESSION),
        "spam": _spam,
    }
)
NAMES = tuple(_LOADERS)
