"""scikit-learn's further steps and models over columns of numbers, logged with `mlflow.sklearn`.

What each gives, to float64's digits, is tried in `tests/lifecycle/test_stand_ins.py` and `test_built_models.py`.
"""

from functools import partial

import numpy as np
import pytest
from sklearn.covariance import EllipticEnvelope
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import FastICA, KernelPCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_selection import (
    RFE,
    RFECV,
    SelectFromModel,
    SelectKBest,
    SequentialFeatureSelector,
    VarianceThreshold,
)
from sklearn.impute import SimpleImputer
from sklearn.impute._iterative import IterativeImputer
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.linear_model import (
    LogisticRegression,
    Perceptron,
    RANSACRegressor,
    Ridge,
    SGDClassifier,
    SGDOneClassSVM,
    TheilSenRegressor,
)
from sklearn.naive_bayes import ComplementNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestCentroid
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    Normalizer,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import SVC

from runners.artefacts.card import Task
from tests.frameworks.conftest import Try
from tests.frameworks.samples import FLOATS, GAPS, NUMBERS
from tests.frameworks.tried_model import TriedModel, fitted


def logistic(*steps: object, **settings: object) -> Pipeline:
    return make_pipeline(*steps, LogisticRegression(max_iter=1000, **settings))


def ridge(*steps: object) -> Pipeline:
    return make_pipeline(*steps, Ridge())


def scaled(*steps: object) -> Pipeline:
    return make_pipeline(StandardScaler(), *steps)


model = partial(TriedModel, "sklearn")
BINARY, MULTICLASS, VALUE, MARGIN = Task.BINARY, Task.MULTICLASS, Task.REGRESSION, Task.BINARY_MARGIN
MODELS = (
    # gaps
    model("LogisticRegression behind IterativeImputer", GAPS, BINARY,
          fitted(logistic(IterativeImputer(random_state=0)), "two")),
    model("Ridge behind IterativeImputer behind a scaler", GAPS, VALUE,
          fitted(ridge(StandardScaler(), IterativeImputer(random_state=0, max_iter=4)), "value")),
    model("LogisticRegression behind SimpleImputer behind PowerTransformer", GAPS, BINARY,
          fitted(logistic(PowerTransformer(), SimpleImputer()), "two")),
    # curves, powers, bins
    model("LogisticRegression behind SplineTransformer, linear beyond", NUMBERS, BINARY,
          fitted(logistic(SplineTransformer(extrapolation="linear", knots="quantile")), "two")),
    model("LogisticRegression behind SplineTransformer, periodic", NUMBERS, MULTICLASS,
          fitted(logistic(SplineTransformer(extrapolation="periodic")), "three")),
    model("LogisticRegression behind QuantileTransformer, normal", NUMBERS, BINARY,
          fitted(logistic(QuantileTransformer(n_quantiles=50, output_distribution="normal")), "two")),
    model("LogisticRegression behind KBinsDiscretizer, uniform", NUMBERS, BINARY,
          fitted(logistic(KBinsDiscretizer(5, strategy="uniform", encode="onehot-dense")), "two")),
    model("LogisticRegression behind KBinsDiscretizer, kmeans", NUMBERS, BINARY,
          fitted(logistic(KBinsDiscretizer(5, strategy="kmeans")), "two")),
    model("Ridge behind MaxAbsScaler", NUMBERS, VALUE, fitted(ridge(MaxAbsScaler()), "value")),
    model("LogisticRegression behind Normalizer", NUMBERS, BINARY, fitted(logistic(Normalizer()), "two")),
    model("LogisticRegression behind Normalizer, max", NUMBERS, BINARY, fitted(logistic(Normalizer("max")), "two")),
    model("LogisticRegression behind FunctionTransformer, sin", NUMBERS, BINARY,
          fitted(logistic(make_union(FunctionTransformer(np.sin), StandardScaler())), "two")),
    model("LogisticRegression behind FunctionTransformer, cbrt", NUMBERS, "which is Python code",
          fitted(logistic(FunctionTransformer(np.cbrt)), "two")),
    # columns
    model("LogisticRegression behind a union", NUMBERS, BINARY,
          fitted(logistic(make_union(PolynomialFeatures(2), KBinsDiscretizer(4), SelectKBest(k=1)),
                          StandardScaler(with_mean=False)), "two")),
    model("LogisticRegression behind SelectFromModel", NUMBERS, BINARY,
          fitted(logistic(VarianceThreshold(), SelectFromModel(RandomForestClassifier(9, random_state=0))), "two")),
    model("LogisticRegression behind SequentialFeatureSelector", NUMBERS, BINARY,
          fitted(logistic(SequentialFeatureSelector(LogisticRegression(max_iter=1000), n_features_to_select=2, cv=2)),
                 "two")),
    model("RFE of LogisticRegression", NUMBERS, BINARY,
          fitted(RFE(LogisticRegression(max_iter=1000), n_features_to_select=2), "two")),
    model("RFECV of RandomForestClassifier", NUMBERS, BINARY,
          fitted(RFECV(RandomForestClassifier(9, max_depth=4, random_state=0), cv=2), "two")),
    # components and kernels
    model("LogisticRegression behind TruncatedSVD", NUMBERS, BINARY,
          fitted(logistic(StandardScaler(), TruncatedSVD(2)), "two")),
    model("LogisticRegression behind FastICA", NUMBERS, BINARY,
          fitted(logistic(StandardScaler(), FastICA(2, random_state=0)), "two")),
    model("LogisticRegression behind KernelPCA", NUMBERS, BINARY,
          fitted(logistic(StandardScaler(), KernelPCA(2, kernel="rbf")), "two")),
    model("LogisticRegression behind LinearDiscriminantAnalysis", NUMBERS, MULTICLASS,
          fitted(logistic(LinearDiscriminantAnalysis()), "three")),
    model("LogisticRegression behind Nystroem", NUMBERS, BINARY,
          fitted(logistic(StandardScaler(), Nystroem(n_components=20, random_state=0)), "two")),
    model("LogisticRegression behind RBFSampler", NUMBERS, BINARY,
          fitted(logistic(StandardScaler(), RBFSampler(random_state=0)), "two")),
    model("SGDOneClassSVM behind Nystroem", NUMBERS, Task.ANOMALY,
          fitted(scaled(Nystroem(n_components=20, random_state=0), SGDOneClassSVM(random_state=0)), "two")),
    model("EllipticEnvelope", NUMBERS, Task.ANOMALY, fitted(EllipticEnvelope(random_state=0), "two")),
    # models
    model("LinearDiscriminantAnalysis of texts", NUMBERS, BINARY, fitted(LinearDiscriminantAnalysis(), "yes")),
    model("NearestCentroid", NUMBERS, "take a LinearDiscriminantAnalysis, whose labels follow from its probabilities",
          fitted(scaled(NearestCentroid()), "three")),
    model("KNeighborsClassifier by distance", FLOATS, MULTICLASS,
          fitted(KNeighborsClassifier(weights="distance"), "three")),
    model("KNeighborsRegressor by distance, behind a scaler", FLOATS, VALUE,
          fitted(scaled(KNeighborsRegressor(weights="distance")), "value")),
    model("ComplementNB", FLOATS, MULTICLASS,
          fitted(make_pipeline(FunctionTransformer(np.abs), ComplementNB()), "three")),
    model("SGDClassifier, modified_huber", NUMBERS, BINARY,
          fitted(scaled(SGDClassifier(loss="modified_huber", random_state=0)), "two")),
    model("SGDClassifier, hinge", NUMBERS, MARGIN, fitted(scaled(SGDClassifier(random_state=0)), "two")),
    model("Perceptron", NUMBERS, MARGIN, fitted(scaled(Perceptron()), "two")),
    model("LogisticRegression, class_weight", NUMBERS, BINARY, fitted(logistic(class_weight="balanced"), "two")),
    model("RandomForestClassifier, class_weight", NUMBERS, MULTICLASS,
          fitted(RandomForestClassifier(9, class_weight={0: 1, 1: 3, 2: 9}, random_state=0), "three")),
    model("HistGradientBoostingClassifier, class_weight", NUMBERS, BINARY,
          fitted(HistGradientBoostingClassifier(max_iter=9, class_weight="balanced", random_state=0), "two")),
    model("SVC, class_weight", NUMBERS, MARGIN, fitted(scaled(SVC(class_weight="balanced")), "two")),
    model("TheilSenRegressor", NUMBERS, VALUE, fitted(scaled(TheilSenRegressor(random_state=0)), "value")),
    model("RANSACRegressor", NUMBERS, VALUE, fitted(RANSACRegressor(random_state=0), "value")),
    model("PLSRegression", NUMBERS, VALUE, fitted(PLSRegression(2), "value")),
    model("MLPRegressor, poisson", NUMBERS, VALUE,
          fitted(scaled(MLPRegressor(loss="poisson", hidden_layer_sizes=(8,), max_iter=60, random_state=0)), "count")),
    model("DummyClassifier", NUMBERS, MULTICLASS, fitted(DummyClassifier(), "three")),
    model("DummyRegressor", NUMBERS, VALUE, fitted(DummyRegressor(), "value")),
)  # fmt: skip


@pytest.mark.parametrize("tried", MODELS, ids=str)
def test_a_model_is_served_as_it_answers_or_refused(tried: TriedModel, try_out: Try) -> None:
    try_out(tried)
