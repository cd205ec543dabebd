"""scikit-learn's pipelines over columns of numbers and texts, and over one text, logged with `mlflow.sklearn`."""

from functools import partial
from typing import Any

import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder
from sklearn.svm import LinearSVC

from runners.artefacts.card import Task
from tests.frameworks.conftest import Try
from tests.frameworks.samples import COLUMNS, MIXED, NOTES, TEXTS
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


def noted(note: Any, encoder: Any, estimator: Any) -> Pipeline:
    """A free text beside numbers, which are scaled, and texts that are encoded."""
    branches = [("numbers", StandardScaler(), NUMBERS), ("texts", encoder, WORDS), ("note", note, "note")]
    return make_pipeline(ColumnTransformer(branches), estimator)


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
    model("TfidfVectorizer(sublinear_tf)", TEXTS, BINARY, fitted(words(TfidfVectorizer(sublinear_tf=True)), "two")),
    model("TfidfVectorizer(strip_accents)", TEXTS, BINARY,
          fitted(words(TfidfVectorizer(strip_accents="unicode")), "two")),
    model("TfidfVectorizer(char_wb)", TEXTS, BINARY,
          fitted(words(TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4))), "two")),
    model("CountVectorizer of pairs without stop words, MultinomialNB", TEXTS, BINARY,
          fitted(words(CountVectorizer(stop_words="english", ngram_range=(1, 2)), MultinomialNB()), "two")),
    model("CountVectorizer, TfidfTransformer, MultinomialNB", TEXTS, BINARY,
          fitted(make_pipeline(CountVectorizer(), TfidfTransformer(), MultinomialNB()), "two")),
    model("FeatureUnion of words and characters, Ridge", TEXTS, REGRESSION,
          fitted(words(FeatureUnion([("words", TfidfVectorizer()), ("parts", TfidfVectorizer(analyzer="char_wb"))]),
                       Ridge()), "value")),
    model("TfidfVectorizer(tokenizer)", TEXTS, "tokenizer='split', which is Python code",
          fitted(words(TfidfVectorizer(tokenizer=str.split, token_pattern=None)), "two")),
    model("HashingVectorizer", TEXTS, "hashed columns have no conversion to ONNX",
          fitted(words(HashingVectorizer()), "two")),
    model("TfidfVectorizer, LinearSVC", TEXTS, Task.BINARY_MARGIN,
          fitted(words(TfidfVectorizer(), LinearSVC()), "two")),
    with_unknown("TfidfVectorizer beside OneHotEncoder(ignore), LogisticRegression", NOTES, BINARY,
                 fitted(noted(TfidfVectorizer(), known(), logistic()), "yes")),
    model("TfidfVectorizer beside OneHotEncoder, LogisticRegression of three", NOTES, MULTICLASS,
          fitted(noted(TfidfVectorizer(stop_words="english", ngram_range=(1, 2)), OneHotEncoder(), logistic()),
                 "sizes")),
    with_unknown("CountVectorizer(char_wb) beside TargetEncoder, Ridge", NOTES, REGRESSION,
                 fitted(noted(CountVectorizer(analyzer="char_wb", ngram_range=(2, 3)), TargetEncoder(random_state=0),
                              Ridge()), "value")),
    with_unknown("TfidfVectorizer, TruncatedSVD beside OneHotEncoder(ignore), LinearSVC", NOTES, Task.BINARY_MARGIN,
                 fitted(noted(make_pipeline(TfidfVectorizer(), TruncatedSVD(8, random_state=0)), known(), LinearSVC()),
                        "two")),
    with_unknown("TfidfVectorizer beside OrdinalEncoder(-1) and numbers, RandomForestRegressor", NOTES, REGRESSION,
                 fitted(make_pipeline(
                     ColumnTransformer([("texts", ordinal(), WORDS), ("note", TfidfVectorizer(), "note")],
                                       remainder="passthrough"),
                     RandomForestRegressor(**TREES)), "value")),
    with_unknown("GridSearchCV of TfidfVectorizer beside OneHotEncoder(ignore), LogisticRegression", NOTES, BINARY,
                 fitted(GridSearchCV(noted(TfidfVectorizer(), known(), logistic()),
                                     {"columntransformer__note__sublinear_tf": [True, False]}, cv=2), "two")),
    model("TfidfVectorizer beside StandardScaler, RandomForestClassifier", NOTES,
          "stands behind steps that change numbers",
          fitted(noted(TfidfVectorizer(), known(), RandomForestClassifier(**TREES)), "two")),
    model("a text that a TfidfVectorizer and an encoder take", NOTES, "It gives texts (note) to TfidfVectorizer",
          fitted(make_pipeline(ColumnTransformer([("note", TfidfVectorizer(), "note"), ("all", known(), WORDS),
                                                  ("again", known(), ["note"])]), logistic()), "two")),
)  # fmt: skip


@pytest.mark.parametrize("tried", MODELS, ids=str)
def test_a_model_is_served_as_it_answers_or_refused(tried: TriedModel, try_out: Try) -> None:
    try_out(tried)
