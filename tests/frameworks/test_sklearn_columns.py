"""scikit-learn's pipelines over columns of numbers and texts, and over one text, logged with `mlflow.sklearn`."""

from functools import partial
from typing import Any

import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder
from sklearn.svm import LinearSVC

from runners.artefacts.card import Task
from tests.frameworks.conftest import Try
from tests.frameworks.samples import COLUMNS, MIXED, TEXTS
from tests.frameworks.tried_model import TriedModel, fitted

NUMBERS, WORDS = ["age", "fare"], ["sex", "port", "deck"]


def columns(encoder: Any, estimator: Any, numbers: Any = None) -> Pipeline:
    """Numbers are filled and scaled unless something else is said, and texts encoded."""
    numbers = make_pipeline(SimpleImputer(), StandardScaler()) if numbers is None else numbers
    return make_pipeline(ColumnTransformer([("numbers", numbers, NUMBERS), ("texts", encoder, WORDS)]), estimator)


def known(**parameters: Any) -> OneHotEncoder:
    return OneHotEncoder(handle_unknown="ignore", **parameters)


def filled(encoder: Any) -> Pipeline:
    return make_pipeline(SimpleImputer(strategy="most_frequent"), encoder)


def logistic() -> LogisticRegression:
    return LogisticRegression(max_iter=1000)


def ordinal() -> OrdinalEncoder:
    return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)


def words(vectorizer: Any, estimator: Any = None) -> Pipeline:
    return make_pipeline(vectorizer, logistic() if estimator is None else estimator)


model = partial(TriedModel, "sklearn")
with_unknown = partial(model, takes_unknown=True)
BINARY, MULTICLASS, REGRESSION = Task.BINARY, Task.MULTICLASS, Task.REGRESSION
TREES = {"n_estimators": 10, "random_state": 0}
MODELS = (
    model("OneHotEncoder, LogisticRegression", COLUMNS, BINARY,
          fitted(columns(OneHotEncoder(), logistic(), StandardScaler()), "two")),
    model("OneHotEncoder, LogisticRegression", MIXED, BINARY, fitted(columns(OneHotEncoder(), logistic()), "yes")),
    with_unknown("OneHotEncoder(ignore), LogisticRegression", COLUMNS, BINARY,
                 fitted(columns(known(), logistic(), StandardScaler()), "two")),
    with_unknown("OneHotEncoder(ignore), LogisticRegression", MIXED, BINARY,
                 fitted(columns(known(), logistic()), "yes")),
    with_unknown("OneHotEncoder(ignore), LogisticRegression of three", MIXED, MULTICLASS,
                 fitted(columns(known(), logistic()), "sizes")),
    with_unknown("SimpleImputer, OneHotEncoder(ignore), LogisticRegression", MIXED, BINARY,
                 fitted(columns(filled(known()), logistic()), "two")),
    with_unknown("OneHotEncoder(max_categories), LogisticRegression", MIXED, BINARY,
                 fitted(columns(OneHotEncoder(max_categories=2, handle_unknown="infrequent_if_exist"), logistic()),
                        "two")),
    with_unknown("OneHotEncoder(ignore), Ridge", MIXED, REGRESSION, fitted(columns(known(), Ridge()), "value")),
    with_unknown("OneHotEncoder(ignore), GradientBoostingClassifier", MIXED, BINARY,
                 fitted(columns(known(), GradientBoostingClassifier(**TREES), SimpleImputer()), "two")),
    with_unknown("OneHotEncoder(ignore), RandomForestClassifier of three", MIXED, MULTICLASS,
                 fitted(columns(known(), RandomForestClassifier(**TREES), SimpleImputer()), "sizes")),
    with_unknown("OrdinalEncoder(-1), RandomForestRegressor", MIXED, REGRESSION,
                 fitted(columns(ordinal(), RandomForestRegressor(**TREES), SimpleImputer()), "value")),
    with_unknown("OrdinalEncoder(-1), RandomForestClassifier", MIXED, BINARY,
                 fitted(columns(ordinal(), RandomForestClassifier(**TREES), SimpleImputer()), "two")),
    with_unknown("TargetEncoder, Ridge", MIXED, REGRESSION,
                 fitted(columns(TargetEncoder(random_state=0), Ridge()), "value")),
    with_unknown("TargetEncoder, LogisticRegression", MIXED, BINARY,
                 fitted(columns(TargetEncoder(random_state=0), logistic()), "two")),
    with_unknown("GridSearchCV of OneHotEncoder(ignore), LogisticRegression", MIXED, BINARY,
                 fitted(GridSearchCV(columns(known(), logistic()), {"logisticregression__C": [0.1, 1]}, cv=2), "two")),
    with_unknown("OneHotEncoder(ignore) in a pipeline, GradientBoostingClassifier behind a scaler", MIXED,
                 BINARY, fitted(columns(known(), GradientBoostingClassifier(**TREES)), "two")),
    with_unknown("OneHotEncoder(ignore), HistGradientBoostingClassifier", MIXED, BINARY,
                 fitted(columns(known(sparse_output=False), HistGradientBoostingClassifier(max_iter=5)), "two")),
    model("CountVectorizer, MultinomialNB", TEXTS, BINARY, fitted(words(CountVectorizer(), MultinomialNB()), "two")),
    model("TfidfVectorizer, LogisticRegression", TEXTS, BINARY, fitted(words(TfidfVectorizer()), "yes")),
    model("TfidfVectorizer of words and pairs, LogisticRegression of three", TEXTS, MULTICLASS,
          fitted(words(TfidfVectorizer(ngram_range=(1, 2))), "sizes")),
    model("TfidfVectorizer with stop words, LogisticRegression", TEXTS, BINARY,
          fitted(words(TfidfVectorizer(stop_words="english")), "two")),
    model("TfidfVectorizer, RandomForestClassifier", TEXTS, BINARY,
          fitted(words(TfidfVectorizer(), RandomForestClassifier(**TREES)), "two")),
    model("TfidfVectorizer, Ridge", TEXTS, REGRESSION, fitted(words(TfidfVectorizer(), Ridge()), "value")),
    model("TfidfVectorizer(sublinear_tf)", TEXTS, "sublinear_tf=True, which has no conversion to ONNX",
          fitted(words(TfidfVectorizer(sublinear_tf=True)), "two")),
    model("TfidfVectorizer(strip_accents)", TEXTS, "strip_accents='unicode', which has no conversion to ONNX",
          fitted(words(TfidfVectorizer(strip_accents="unicode")), "two")),
    model("TfidfVectorizer(char_wb)", TEXTS, "analyzer='char_wb', which has no conversion to ONNX",
          fitted(words(TfidfVectorizer(analyzer="char_wb")), "two")),
    model("TfidfVectorizer, LinearSVC", TEXTS, Task.BINARY_MARGIN,
          fitted(words(TfidfVectorizer(), LinearSVC()), "two")),
)  # fmt: skip


@pytest.mark.parametrize("tried", MODELS, ids=str)
def test_a_model_is_served_as_it_answers_or_refused(tried: TriedModel, try_out: Try) -> None:
    try_out(tried)
