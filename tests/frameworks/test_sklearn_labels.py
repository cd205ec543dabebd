"""scikit-learn's models of several labels a row, and its chains, logged with `mlflow.sklearn`."""

from functools import partial

import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, RegressorChain
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

from runners.artefacts.card import Task
from tests.frameworks.conftest import Try
from tests.frameworks.samples import COLUMNS, FLAGS, FLOATS, GAPS, NUMBERS, TEXTS
from tests.frameworks.tried_model import TriedModel, fitted

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def scaled(estimator: object) -> Pipeline:
    return make_pipeline(StandardScaler(), estimator)


def logistic() -> LogisticRegression:
    return LogisticRegression(max_iter=1000)


def forest() -> RandomForestClassifier:
    return RandomForestClassifier(10, max_depth=6, random_state=0)


def encoded(estimator: object) -> Pipeline:
    texts = OneHotEncoder(handle_unknown="ignore")
    return make_pipeline(make_column_transformer((texts, ["sex", "port", "deck"]), remainder="passthrough"), estimator)


def of_texts(estimator: object) -> Pipeline:
    return make_pipeline(TfidfVectorizer(), estimator)


model = partial(TriedModel, "sklearn")
LABELS, MARGINS = Task.MULTILABEL, Task.MULTILABEL_MARGIN
MODELS = (
    model("RandomForestClassifier of labels", NUMBERS, LABELS, fitted(forest(), "flags")),
    model("RandomForestClassifier of labels", GAPS, LABELS, fitted(forest(), "flags")),
    model("RandomForestClassifier of labels in texts", FLAGS, LABELS, fitted(forest(), "flags_in_words")),
    model("RandomForestClassifier of labels behind SimpleImputer", GAPS, LABELS,
          fitted(make_pipeline(SimpleImputer(), forest()), "flags")),
    model("OneHotEncoder(ignore), RandomForestClassifier of labels", COLUMNS, LABELS,
          fitted(encoded(forest()), "flags"), takes_unknown=True),
    model("ExtraTreesClassifier of labels behind a scaler", NUMBERS, LABELS,
          fitted(scaled(ExtraTreesClassifier(10, max_depth=6, random_state=0)), "flags")),
    model("DecisionTreeClassifier of labels", FLOATS, LABELS,
          fitted(DecisionTreeClassifier(max_depth=5, random_state=0), "flags")),
    model("KNeighborsClassifier of labels", FLOATS, LABELS, fitted(KNeighborsClassifier(), "flags")),
    model("MLPClassifier of labels", NUMBERS, LABELS,
          fitted(scaled(MLPClassifier((8,), max_iter=100, random_state=0)), "flags")),
    model("GridSearchCV of RandomForestClassifier of labels", NUMBERS, LABELS,
          fitted(GridSearchCV(forest(), {"max_depth": [3, 5]}, cv=2), "flags")),
    model("MultiOutputClassifier", NUMBERS, LABELS, fitted(MultiOutputClassifier(logistic()), "flags")),
    model("MultiOutputClassifier of labels in texts", NUMBERS, LABELS,
          fitted(scaled(MultiOutputClassifier(logistic())), "flags_in_words")),
    model("MultiOutputClassifier of GradientBoostingClassifier", NUMBERS, LABELS,
          fitted(MultiOutputClassifier(GradientBoostingClassifier(n_estimators=8, random_state=0)), "flags")),
    model("MultiOutputClassifier of HistGradientBoostingClassifier", GAPS, LABELS,
          fitted(MultiOutputClassifier(HistGradientBoostingClassifier(max_iter=8, random_state=0)), "flags")),
    model("MultiOutputClassifier of XGBClassifier", NUMBERS, LABELS,
          fitted(MultiOutputClassifier(XGBClassifier(n_estimators=8, n_jobs=1)), "flags")),
    model("MultiOutputClassifier of LinearSVC", NUMBERS, "take OneVsRestClassifier in its place",
          fitted(MultiOutputClassifier(LinearSVC()), "flags")),
    model("OneHotEncoder(ignore), MultiOutputClassifier", COLUMNS, LABELS,
          fitted(encoded(MultiOutputClassifier(logistic())), "flags"), takes_unknown=True),
    model("OneVsRestClassifier of labels", NUMBERS, LABELS, fitted(OneVsRestClassifier(logistic()), "flags")),
    model("OneVsRestClassifier of LinearSVC of labels", NUMBERS, MARGINS,
          fitted(scaled(OneVsRestClassifier(LinearSVC())), "flags")),
    model("RidgeClassifier of labels", NUMBERS, MARGINS, fitted(RidgeClassifier(), "flags")),
    model("TfidfVectorizer, OneVsRestClassifier of labels", TEXTS, LABELS,
          fitted(of_texts(OneVsRestClassifier(logistic())), "flags")),
    model("TfidfVectorizer, OneVsRestClassifier of LinearSVC of labels", TEXTS, MARGINS,
          fitted(of_texts(OneVsRestClassifier(LinearSVC())), "flags")),
    model("TfidfVectorizer, MultiOutputClassifier", TEXTS, LABELS,
          fitted(of_texts(MultiOutputClassifier(logistic())), "flags_in_words")),
    model("TfidfVectorizer, ClassifierChain", TEXTS, LABELS, fitted(of_texts(ClassifierChain(logistic())), "flags")),
    model("TfidfVectorizer, RandomForestClassifier of labels", TEXTS,
          "stands behind steps that change numbers", fitted(of_texts(forest()), "flags")),
    model("ClassifierChain", NUMBERS, LABELS, fitted(ClassifierChain(logistic(), order=[1, 0]), "flags")),
    model("ClassifierChain behind a scaler", NUMBERS, LABELS, fitted(scaled(ClassifierChain(logistic())), "flags")),
    model("ClassifierChain of RandomForestClassifier", NUMBERS, LABELS, fitted(ClassifierChain(forest()), "flags")),
    model("ClassifierChain, predict_proba", NUMBERS, LABELS,
          fitted(ClassifierChain(logistic(), chain_method="predict_proba"), "flags")),
    model("RegressorChain", NUMBERS, Task.MULTIOUTPUT, fitted(RegressorChain(Ridge(), order=[1, 0]), "pair")),
    model("RegressorChain of SVR behind a scaler", NUMBERS, Task.MULTIOUTPUT,
          fitted(scaled(RegressorChain(SVR())), "pair")),
    model("RegressorChain of RandomForestRegressor", NUMBERS, "take a linear model in its place",
          fitted(RegressorChain(RandomForestRegressor(10, random_state=0)), "pair")),
    model("RandomForestRegressor of two values", GAPS, Task.MULTIOUTPUT,
          fitted(RandomForestRegressor(10, random_state=0), "pair")),
)  # fmt: skip


@pytest.mark.parametrize("tried", MODELS, ids=str)
def test_a_model_is_served_as_it_answers_or_refused(tried: TriedModel, try_out: Try) -> None:
    try_out(tried)
