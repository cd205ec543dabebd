"""scikit-learn's regressors over columns of numbers, logged with `mlflow.sklearn`."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    AdaBoostRegressor,
    BaggingRegressor,
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
    StackingRegressor,
    VotingRegressor,
)
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.impute import SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import (
    BayesianRidge,
    ElasticNet,
    GammaRegressor,
    HuberRegressor,
    Lasso,
    LinearRegression,
    PoissonRegressor,
    QuantileRegressor,
    Ridge,
    SGDRegressor,
    TweedieRegressor,
)
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import SVR, LinearSVR
from sklearn.tree import DecisionTreeRegressor
from xgboost import XGBRegressor

from runners.artefacts.card import Task
from tests.frameworks.conftest import Try
from tests.frameworks.samples import FLAGS, FLOAT_GAPS, FLOATS, GAPS, NUMBERS, ONE
from tests.frameworks.tried_model import TriedModel, fitted


def tree() -> DecisionTreeRegressor:
    return DecisionTreeRegressor(max_depth=5, random_state=0)


def histogram() -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(max_iter=10, random_state=0)


def scaled(estimator: object) -> Pipeline:
    return make_pipeline(StandardScaler(), estimator)


def own_loss(truth: Any, value: Any) -> tuple[Any, Any]:
    return value - truth, np.ones_like(value)


def members() -> list[tuple[str, object]]:
    return [("line", Ridge()), ("tree", tree())]


model = partial(TriedModel, "sklearn")
VALUE = Task.REGRESSION
MODELS = (
    model("LinearRegression", NUMBERS, VALUE, fitted(LinearRegression(), "value")),
    model("LinearRegression", FLAGS, VALUE, fitted(LinearRegression(), "value")),
    model("Ridge", FLOATS, VALUE, fitted(Ridge(), "value")),
    model("Ridge behind MinMaxScaler", NUMBERS, VALUE, fitted(make_pipeline(MinMaxScaler(), Ridge()), "value")),
    model("Ridge behind RobustScaler", NUMBERS, VALUE, fitted(make_pipeline(RobustScaler(), Ridge()), "value")),
    model("Ridge behind PCA", NUMBERS, VALUE, fitted(make_pipeline(StandardScaler(), PCA(2), Ridge()), "value")),
    model("Ridge behind SimpleImputer", GAPS, VALUE,
          fitted(make_pipeline(SimpleImputer(), StandardScaler(), Ridge()), "value")),
    model("Ridge behind SimpleImputer with indicators", GAPS, VALUE,
          fitted(make_pipeline(SimpleImputer(add_indicator=True), Ridge()), "value")),
    model("Lasso", NUMBERS, VALUE, fitted(Lasso(0.1), "value")),
    model("ElasticNet", NUMBERS, VALUE, fitted(ElasticNet(0.1), "value")),
    model("BayesianRidge", NUMBERS, VALUE, fitted(BayesianRidge(), "value")),
    model("HuberRegressor", NUMBERS, VALUE, fitted(scaled(HuberRegressor()), "value")),
    model("QuantileRegressor", NUMBERS, VALUE, fitted(QuantileRegressor(quantile=0.8, alpha=0.01), "value")),
    model("SGDRegressor", NUMBERS, VALUE, fitted(scaled(SGDRegressor(random_state=0)), "value")),
    model("PoissonRegressor", NUMBERS, VALUE, fitted(scaled(PoissonRegressor()), "count")),
    model("GammaRegressor", NUMBERS, VALUE, fitted(scaled(GammaRegressor()), "value")),
    model("TweedieRegressor", NUMBERS, VALUE, fitted(scaled(TweedieRegressor(power=1.5)), "value")),
    model("DecisionTreeRegressor", NUMBERS, VALUE, fitted(tree(), "value")),
    model("RandomForestRegressor", NUMBERS, VALUE, fitted(RandomForestRegressor(10, random_state=0), "value")),
    model("RandomForestRegressor", GAPS, VALUE,
          fitted(RandomForestRegressor(10, random_state=0), "value")),
    model("ExtraTreesRegressor", NUMBERS, VALUE, fitted(ExtraTreesRegressor(10, random_state=0), "value")),
    model("BaggingRegressor", NUMBERS, VALUE, fitted(BaggingRegressor(tree(), 5, random_state=0), "value")),
    model("AdaBoostRegressor", NUMBERS, VALUE, fitted(AdaBoostRegressor(n_estimators=5, random_state=0), "value")),
    model("GradientBoostingRegressor", NUMBERS, VALUE,
          fitted(GradientBoostingRegressor(n_estimators=10, random_state=0), "value")),
    model("GradientBoostingRegressor, quantile", NUMBERS, VALUE,
          fitted(GradientBoostingRegressor(loss="quantile", alpha=0.8, n_estimators=10, random_state=0), "value")),
    model("HistGradientBoostingRegressor", NUMBERS, VALUE, fitted(histogram(), "value")),
    model("HistGradientBoostingRegressor", FLOATS, VALUE, fitted(histogram(), "value")),
    model("HistGradientBoostingRegressor", GAPS, VALUE, fitted(histogram(), "value")),
    model("HistGradientBoostingRegressor", FLOAT_GAPS, VALUE, fitted(histogram(), "value")),
    model("HistGradientBoostingRegressor, poisson", FLOATS, VALUE,
          fitted(HistGradientBoostingRegressor(loss="poisson", max_iter=10, random_state=0), "count")),
    model("MLPRegressor", NUMBERS, VALUE,
          fitted(scaled(MLPRegressor(hidden_layer_sizes=(8,), max_iter=100, random_state=0)), "value")),
    model("KNeighborsRegressor", FLOATS, VALUE, fitted(KNeighborsRegressor(), "value")),
    model("SVR", NUMBERS, VALUE, fitted(scaled(SVR()), "value")),
    model("LinearSVR", NUMBERS, VALUE, fitted(scaled(LinearSVR(random_state=0)), "value")),
    model("GaussianProcessRegressor", NUMBERS, VALUE, fitted(scaled(GaussianProcessRegressor(alpha=1)), "value")),
    model("VotingRegressor", NUMBERS, VALUE, fitted(VotingRegressor(members()), "value")),
    model("StackingRegressor", NUMBERS, VALUE, fitted(StackingRegressor(members(), cv=2), "value")),
    model("XGBRegressor behind SimpleImputer", GAPS, VALUE,
          fitted(make_pipeline(SimpleImputer(), XGBRegressor(n_estimators=8, n_jobs=1)), "value")),
    model("XGBRegressor, a loss of one's own", NUMBERS, "with an objective of its own",
          fitted(XGBRegressor(objective=own_loss, n_estimators=8, n_jobs=1), "value")),
    model("TransformedTargetRegressor", NUMBERS, VALUE,
          fitted(TransformedTargetRegressor(Ridge(), func=np.log, inverse_func=np.exp), "value")),
    model("Ridge behind FunctionTransformer of numpy", NUMBERS, VALUE,
          fitted(make_pipeline(FunctionTransformer(np.abs), Ridge()), "value")),
    model("Ridge behind SplineTransformer", NUMBERS, VALUE,
          fitted(make_pipeline(SplineTransformer(), Ridge()), "value")),
    model("Ridge behind QuantileTransformer", NUMBERS, VALUE,
          fitted(make_pipeline(QuantileTransformer(n_quantiles=50), Ridge()), "value")),
    model("Ridge behind PowerTransformer", NUMBERS, VALUE, fitted(make_pipeline(PowerTransformer(), Ridge()), "value")),
    model("IsotonicRegression", ONE, VALUE, fitted(IsotonicRegression(out_of_bounds="clip"), "value")),
    model("KernelRidge", NUMBERS, VALUE, fitted(scaled(KernelRidge(kernel="rbf")), "value")),
    model("LinearRegression of two values", NUMBERS, Task.MULTIOUTPUT, fitted(LinearRegression(), "pair")),
)  # fmt: skip


@pytest.mark.parametrize("tried", MODELS, ids=str)
def test_a_model_is_served_as_it_answers_or_refused(tried: TriedModel, try_out: Try) -> None:
    try_out(tried)
