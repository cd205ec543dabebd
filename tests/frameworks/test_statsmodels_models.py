"""Results of statsmodels, logged with `mlflow.statsmodels`."""

from functools import partial
from typing import Any

import mlflow
import numpy as np
import pytest

from runners.artefacts.card import Task
from shokado.lifecycle.errors import CanCarryCode, UnsupportedModel
from shokado.lifecycle.importing import registry
from shokado.lifecycle.importing.registry import Formats
from shokado.lifecycle.importing.version import ImportOrder, import_version
from tests.frameworks.conftest import Try
from tests.frameworks.samples import COLUMNS, FLAGS, NUMBERS, WITH_ONE, Sample
from tests.frameworks.tried_model import LazyPackage, Train, TriedModel

sm, formulas = LazyPackage("statsmodels.api"), LazyPackage("statsmodels.formula.api")


def fit(kind: str, learned: str, **settings: Any) -> Train:
    """The results of a model over the columns as they are."""
    return lambda rows: getattr(sm, kind)(getattr(rows, learned), rows.frame.astype(float), **settings).fit()


def glm(family: str, learned: str, link: str = "", **settings: Any) -> Train:
    def train(rows: Sample) -> Any:
        given = settings | ({"link": getattr(sm.families.links, link)()} if link else {})
        made = getattr(sm.families, family)(**given)
        return sm.GLM(getattr(rows, learned), rows.frame.astype(float), family=made).fit()

    return train


def formula(kind: str, right: str, learned: str) -> Train:
    def train(rows: Sample) -> Any:
        frame = rows.frame.assign(target=getattr(rows, learned))
        return getattr(formulas, kind)(f"target ~ {right}", frame).fit()

    return train


model = partial(TriedModel, "statsmodels")
BINARY, VALUE = Task.BINARY, Task.REGRESSION
MODELS = (
    model("OLS", WITH_ONE, VALUE, fit("OLS", "value")),
    model("OLS", NUMBERS, VALUE, fit("OLS", "value")),
    model("WLS", WITH_ONE, VALUE, fit("WLS", "value", weights=np.linspace(1, 2, 300))),
    model("GLS", WITH_ONE, VALUE, fit("GLS", "value")),
    model("RLM", WITH_ONE, VALUE, fit("RLM", "value")),
    model("QuantReg", WITH_ONE, VALUE, fit("QuantReg", "value")),
    model("Logit", WITH_ONE, BINARY, fit("Logit", "two")),
    model("Probit", WITH_ONE, BINARY, fit("Probit", "two")),
    model("Logit of shares", WITH_ONE, VALUE, fit("Logit", "share")),
    model("Poisson", WITH_ONE, VALUE, fit("Poisson", "count")),
    model("NegativeBinomial", WITH_ONE, VALUE, fit("NegativeBinomial", "count")),
    model("GLM, Gaussian", WITH_ONE, VALUE, glm("Gaussian", "value")),
    model("GLM, Binomial", WITH_ONE, BINARY, glm("Binomial", "two")),
    model("GLM, Binomial, cloglog", WITH_ONE, BINARY, glm("Binomial", "two", "CLogLog")),
    model("GLM, Poisson", WITH_ONE, VALUE, glm("Poisson", "count")),
    model("GLM, Gamma, log", WITH_ONE, VALUE, glm("Gamma", "value", "Log")),
    model("GLM, Tweedie", WITH_ONE, VALUE, glm("Tweedie", "value", var_power=1.5)),
    model("GLM, Binomial, cauchy", WITH_ONE, "GLM with the link Cauchy",
          glm("Binomial", "two", "Cauchy")),
    model("MNLogit", WITH_ONE, "is a MNLogit of statsmodels, which has no conversion", fit("MNLogit", "three")),
    model("ols of a formula", NUMBERS, VALUE, formula("ols", "width + depth * weight", "value")),
    model("logit of a formula", NUMBERS, BINARY, formula("logit", "width + depth + visits - 1", "two")),
    model("poisson of a formula", NUMBERS, VALUE, formula("poisson", "width + depth", "count")),
    model("ols of a formula with a function", NUMBERS, "is no column of numbers",
          formula("ols", "np.sqrt(depth)", "value")),
    model("ols of a formula with categories", COLUMNS, "is no column of numbers",
          formula("ols", "age + C(sex)", "value")),
    model("ols of a formula with truth values", FLAGS, "is no column of numbers",
          formula("ols", "width + new", "value")),
)  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tried", MODELS, ids=str)
def test_a_model_is_served_as_it_answers_or_refused(tried: TriedModel, try_out: Try) -> None:
    try_out(tried)


def logged(results: Any, frame: Any) -> str:
    with registry.session() as client, mlflow.start_run(experiment_id=registry.open_experiment(client, "lines")) as run:
        mlflow.statsmodels.log_model(results, name="model", input_example=frame, pip_requirements=[])
    return f"runs:/{run.info.run_id}/model"


def test_large_numbers_are_rows_of_float64() -> None:
    frame = WITH_ONE.frame.assign(width=1.7e9 + 60 * WITH_ONE.frame.width, const=1e9)
    uri = logged(sm.OLS(WITH_ONE.value, frame.astype(float)).fit(), frame.head(20))
    card = import_version(ImportOrder(uri, "v1", model="seconds")).artefact.card
    assert card.takes_float64


def test_columns_in_another_order_than_the_training_are_refused() -> None:
    results = sm.OLS(WITH_ONE.value, WITH_ONE.frame.astype(float)).fit()
    uri = logged(results, WITH_ONE.frame[WITH_ONE.frame.columns[::-1]].head(20))
    with pytest.raises(UnsupportedModel, match="in another order, of which statsmodels knows nothing"):
        import_version(ImportOrder(uri, "v1", model="order"))


def test_without_pickle_it_is_refused_before_it_is_read() -> None:
    uri = logged(sm.OLS(WITH_ONE.value, WITH_ONE.frame.astype(float)).fit(), WITH_ONE.frame.head(20))
    with pytest.raises(CanCarryCode, match="stores results as pickle"):
        import_version(ImportOrder(uri, "v1", model="safe", formats=Formats.WITHOUT_CODE))
