"""scikit-learn's classifiers over columns of numbers, logged with `mlflow.sklearn`."""

from functools import partial

import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_selection import SelectKBest
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, TunedThresholdClassifierCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import BernoulliNB, GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, LinearSVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

from runners.artefacts.card import Task
from tests.frameworks.conftest import Try
from tests.frameworks.samples import FLAGS, FLOAT_GAPS, FLOATS, GAPS, MEASURED, NUMBERS
from tests.frameworks.tried_model import TriedModel, fitted


def logistic() -> LogisticRegression:
    return LogisticRegression(max_iter=1000)


def tree() -> DecisionTreeClassifier:
    return DecisionTreeClassifier(max_depth=4, random_state=0)


def forest() -> RandomForestClassifier:
    return RandomForestClassifier(10, max_depth=6, random_state=0)


def histogram() -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(max_iter=10, random_state=0)


def scaled(estimator: object) -> Pipeline:
    return make_pipeline(StandardScaler(), estimator)


def filled(estimator: object) -> Pipeline:
    return make_pipeline(SimpleImputer(), StandardScaler(), estimator)


def members() -> list[tuple[str, object]]:
    return [("line", logistic()), ("tree", tree())]


def boosted() -> XGBClassifier:
    return XGBClassifier(n_estimators=8, max_depth=4, n_jobs=1)


model = partial(TriedModel, "sklearn")
BINARY, MULTICLASS = Task.BINARY, Task.MULTICLASS
NEITHER = "neither a regressor nor a classifier with probabilities or a decision function"
NET = {"hidden_layer_sizes": (8,), "max_iter": 100, "random_state": 0}
MODELS = (
    model("LogisticRegression", NUMBERS, BINARY, fitted(logistic(), "two")),
    model("LogisticRegression of texts", NUMBERS, BINARY, fitted(logistic(), "yes")),
    model("LogisticRegression of three", NUMBERS, MULTICLASS, fitted(logistic(), "sizes")),
    model("LogisticRegression", FLAGS, BINARY, fitted(logistic(), "two")),
    model("LogisticRegression behind a scaler", NUMBERS, BINARY, fitted(scaled(logistic()), "two")),
    model("LogisticRegression behind PolynomialFeatures", NUMBERS, BINARY,
          fitted(make_pipeline(StandardScaler(), PolynomialFeatures(), logistic()), "two")),
    model("LogisticRegression behind SelectKBest", NUMBERS, MULTICLASS,
          fitted(make_pipeline(SelectKBest(k=2), logistic()), "three")),
    model("LogisticRegression behind KBinsDiscretizer", NUMBERS, BINARY,
          fitted(make_pipeline(KBinsDiscretizer(4, quantile_method="averaged_inverted_cdf"), logistic()), "two")),
    model("LogisticRegression behind SimpleImputer", GAPS, BINARY, fitted(filled(logistic()), "two")),
    model("LogisticRegression behind KNNImputer", MEASURED, BINARY,
          fitted(make_pipeline(KNNImputer(), logistic()), "two")),
    model("LogisticRegression behind KNNImputer, by distance", MEASURED, MULTICLASS,
          fitted(make_pipeline(StandardScaler(), KNNImputer(weights="distance"), logistic()), "three")),
    model("LogisticRegression behind KNNImputer", GAPS, "are equally far from each other",
          fitted(make_pipeline(KNNImputer(), logistic()), "two")),
    model("SGDClassifier, log_loss", NUMBERS, BINARY,
          fitted(scaled(SGDClassifier(loss="log_loss", random_state=0)), "two")),
    model("DecisionTreeClassifier", NUMBERS, BINARY, fitted(tree(), "two")),
    model("DecisionTreeClassifier of three", NUMBERS, MULTICLASS, fitted(tree(), "sizes")),
    model("DecisionTreeClassifier", FLAGS, BINARY, fitted(tree(), "yes")),
    model("RandomForestClassifier", NUMBERS, BINARY, fitted(forest(), "two")),
    model("RandomForestClassifier of three", NUMBERS, MULTICLASS, fitted(forest(), "sizes")),
    model("RandomForestClassifier", GAPS, BINARY, fitted(forest(), "two")),
    model("RandomForestClassifier behind SimpleImputer", GAPS, MULTICLASS,
          fitted(make_pipeline(SimpleImputer(strategy="median"), forest()), "three")),
    model("ExtraTreesClassifier", NUMBERS, MULTICLASS,
          fitted(ExtraTreesClassifier(10, max_depth=6, random_state=0), "three")),
    model("BaggingClassifier", NUMBERS, BINARY, fitted(BaggingClassifier(tree(), 5, random_state=0), "two")),
    model("AdaBoostClassifier", NUMBERS, BINARY, fitted(AdaBoostClassifier(n_estimators=5, random_state=0), "two")),
    model("GradientBoostingClassifier", NUMBERS, BINARY,
          fitted(GradientBoostingClassifier(n_estimators=10, random_state=0), "yes")),
    model("GradientBoostingClassifier of three", NUMBERS, MULTICLASS,
          fitted(GradientBoostingClassifier(n_estimators=10, random_state=0), "three")),
    model("HistGradientBoostingClassifier", NUMBERS, BINARY, fitted(histogram(), "two")),
    model("HistGradientBoostingClassifier of three", NUMBERS, MULTICLASS, fitted(histogram(), "sizes")),
    model("HistGradientBoostingClassifier", FLOATS, BINARY, fitted(histogram(), "two")),
    model("HistGradientBoostingClassifier of three", FLOATS, MULTICLASS, fitted(histogram(), "sizes")),
    model("HistGradientBoostingClassifier", GAPS, BINARY, fitted(histogram(), "two")),
    model("HistGradientBoostingClassifier", FLOAT_GAPS, BINARY, fitted(histogram(), "two")),
    model("HistGradientBoostingClassifier of three", FLOAT_GAPS, MULTICLASS, fitted(histogram(), "three")),
    model("MLPClassifier behind a scaler", NUMBERS, BINARY, fitted(scaled(MLPClassifier(**NET)), "two")),
    model("MLPClassifier of three", NUMBERS, MULTICLASS, fitted(scaled(MLPClassifier(**NET)), "three")),
    model("GaussianNB", NUMBERS, MULTICLASS, fitted(GaussianNB(), "three")),
    model("BernoulliNB", FLAGS, BINARY, fitted(BernoulliNB(binarize=10), "two")),
    model("LinearDiscriminantAnalysis", NUMBERS, MULTICLASS, fitted(LinearDiscriminantAnalysis(), "three")),
    model("QuadraticDiscriminantAnalysis", NUMBERS, BINARY, fitted(QuadraticDiscriminantAnalysis(), "two")),
    model("GaussianProcessClassifier", NUMBERS, "Its GaussianProcessClassifier has no conversion to ONNX",
          fitted(scaled(GaussianProcessClassifier()), "two")),
    model("KNeighborsClassifier", FLOATS, BINARY, fitted(KNeighborsClassifier(), "two")),
    model("KNeighborsClassifier", NUMBERS, BINARY, fitted(KNeighborsClassifier(), "two")),
    model("OneVsRestClassifier", NUMBERS, MULTICLASS, fitted(OneVsRestClassifier(logistic()), "three")),
    model("VotingClassifier, soft", NUMBERS, BINARY, fitted(VotingClassifier(members(), voting="soft"), "two")),
    model("StackingClassifier", NUMBERS, BINARY, fitted(StackingClassifier(members(), cv=2), "two")),
    model("CalibratedClassifierCV", NUMBERS, BINARY, fitted(CalibratedClassifierCV(tree(), cv=2), "two")),
    model("CalibratedClassifierCV, isotonic", NUMBERS, BINARY,
          fitted(CalibratedClassifierCV(tree(), cv=2, method="isotonic"), "two")),
    model("FixedThresholdClassifier", NUMBERS, BINARY,
          fitted(FixedThresholdClassifier(logistic(), threshold=0.3, response_method="predict_proba"), "two")),
    model("TunedThresholdClassifierCV", NUMBERS, BINARY,
          fitted(TunedThresholdClassifierCV(logistic(), response_method="predict_proba", cv=2), "two")),
    model("GridSearchCV of a pipeline", NUMBERS, BINARY,
          fitted(GridSearchCV(scaled(logistic()), {"logisticregression__C": [0.1, 1.0]}, cv=2), "two")),
    model("XGBClassifier behind a scaler", NUMBERS, BINARY, fitted(scaled(boosted()), "two")),
    model("GridSearchCV of XGBClassifier", NUMBERS, BINARY,
          fitted(GridSearchCV(boosted(), {"max_depth": [2, 3]}, cv=2), "two")),
    model("CalibratedClassifierCV of XGBClassifier", NUMBERS, BINARY,
          fitted(CalibratedClassifierCV(boosted(), cv=2), "two")),
    model("CalibratedClassifierCV of SVC", NUMBERS, BINARY,
          fitted(scaled(CalibratedClassifierCV(SVC(), cv=2)), "two")),
    model("SVC with probabilities", NUMBERS, "its labels do not follow from its scores, as the probabilities of "
          "SVC(probability=True) are fitted apart from them: take SVC(), or CalibratedClassifierCV(SVC())",
          fitted(scaled(SVC(probability=True, random_state=0)), "two")),
    model("SGDClassifier, modified_huber of three", NUMBERS,
          "as modified_huber gives several classes the same probability: take loss='log_loss'",
          fitted(scaled(SGDClassifier(loss="modified_huber", random_state=0)), "three")),
    model("SVC", NUMBERS, Task.BINARY_MARGIN, fitted(scaled(SVC()), "yes")),
    model("SVC of three", NUMBERS, "decides between 3 classes by votes", fitted(scaled(SVC()), "three")),
    model("LinearSVC", NUMBERS, Task.BINARY_MARGIN, fitted(scaled(LinearSVC()), "two")),
    model("LinearSVC of three", NUMBERS, Task.MULTICLASS_MARGIN, fitted(scaled(LinearSVC()), "sizes")),
    model("RidgeClassifier", NUMBERS, Task.BINARY_MARGIN, fitted(RidgeClassifier(), "two")),
    model("VotingClassifier, hard", NUMBERS, NEITHER, fitted(VotingClassifier(members()), "two")),
    model("IsolationForest", NUMBERS, Task.ANOMALY, fitted(IsolationForest(n_estimators=10, random_state=0), "two")),
    model("OneClassSVM", NUMBERS, Task.ANOMALY, fitted(scaled(OneClassSVM(nu=0.1)), "two")),
)  # fmt: skip


@pytest.mark.parametrize("tried", MODELS, ids=str)
def test_a_model_is_served_as_it_answers_or_refused(tried: TriedModel, try_out: Try) -> None:
    try_out(tried)
