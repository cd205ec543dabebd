"""Whatever XGBoost model MLflow's own flavor logs: what is served of it is what it answers, or it is refused."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import xgboost
from numpy.typing import NDArray
from xgboost import XGBClassifier, XGBRanker, XGBRegressor, XGBRFClassifier, XGBRFRegressor

from configuration.settings import EngineChoice
from runners.artefacts.card import Card, FileKind, Task
from runners.artefacts.scores import as_model_predicts, probabilities_of
from runners.engines.engine import open_engine
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing import booster_graphs, boosters, conversion, verification, version
from shokado.lifecycle.importing.registry import LoadedModel
from shokado.lifecycle.importing.version import ImportOrder, import_version

RANDOM = np.random.default_rng(7)
FRAME, OTHERS = (
    pd.DataFrame(
        {
            "visits": RANDOM.integers(0, 9, 300).astype(np.float32),
            "spent": RANDOM.uniform(0, 50, 300).astype(np.float32),
            "age": RANDOM.normal(40, 10, 300).astype(np.float32),
        }
    )
    for _ in range(2)
)
VALUE = FRAME["visits"] + FRAME["spent"] / 5 + RANDOM.normal(size=300) + 4
TWO = (VALUE > 13).to_numpy().astype(int)
THREE = np.digitize(VALUE, [11, 15])
BOTH = np.column_stack([VALUE, 1e5 * FRAME["age"].abs()])
SHARE = (VALUE / VALUE.max()).clip(0, 1)
GROUPS = np.arange(300) // 10
ABSENT = -999.0


def booster(targets: Any, objective: str, **parameters: Any) -> xgboost.Booster:
    rows = xgboost.DMatrix(FRAME, targets)
    return xgboost.train({"objective": objective, "nthread": 1, "max_depth": 4, **parameters}, rows, 6)


def ranked(objective: str) -> xgboost.Booster:
    rows = xgboost.DMatrix(FRAME, TWO, qid=GROUPS)
    return xgboost.train({"objective": objective, "nthread": 1, "max_depth": 4}, rows, 6)


def censored() -> xgboost.Booster:
    rows = xgboost.DMatrix(FRAME, label_lower_bound=VALUE, label_upper_bound=VALUE.where(TWO == 0, np.inf))
    return xgboost.train({"objective": "survival:aft", "nthread": 1, "max_depth": 4}, rows, 6)


def with_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.mask(np.arange(len(frame) * 3).reshape(-1, 3) % 5 == 0, ABSENT)


SMALL: dict[str, Any] = {"n_estimators": 6, "max_depth": 4, "n_jobs": 1}
LINEAR: dict[str, Any] = {"n_estimators": 6, "n_jobs": 1, "booster": "gblinear"}
DART: dict[str, Any] = {**SMALL, "booster": "dart", "rate_drop": 0.5}
Table = dict[str, Callable[[], Any]]
VALUES: Table = {
    "reg:squarederror": lambda: booster(VALUE, "reg:squarederror"),
    "reg:squaredlogerror": lambda: booster(SHARE, "reg:squaredlogerror", base_score=0.5),
    "reg:pseudohubererror": lambda: booster(VALUE, "reg:pseudohubererror", base_score=13, huber_slope=4),
    "reg:absoluteerror": lambda: XGBRegressor(objective="reg:absoluteerror", **SMALL).fit(FRAME, VALUE),
    "reg:quantileerror": lambda: XGBRegressor(objective="reg:quantileerror", quantile_alpha=0.9, **SMALL).fit(
        FRAME, VALUE
    ),
    "reg:logistic": lambda: XGBRegressor(objective="reg:logistic", **SMALL).fit(FRAME, SHARE),
    "reg:logistic booster": lambda: booster(SHARE, "reg:logistic", base_score=0.3),
    "reg:gamma": lambda: XGBRegressor(objective="reg:gamma", **SMALL).fit(FRAME, VALUE),
    "reg:tweedie": lambda: booster(VALUE, "reg:tweedie"),
    "count:poisson": lambda: XGBRegressor(objective="count:poisson", **SMALL).fit(FRAME, VALUE.round()),
    "binary:logitraw": lambda: booster(TWO, "binary:logitraw", base_score=0.3),
    "rank:pairwise": lambda: ranked("rank:pairwise"),
    "rank:map": lambda: ranked("rank:map"),
    "rank:ndcg": lambda: XGBRanker(objective="rank:ndcg", **SMALL).fit(FRAME, THREE, qid=GROUPS),
    "survival:aft": censored,
    "survival:cox": lambda: booster(VALUE.where(TWO == 0, -VALUE), "survival:cox"),
    "forest": lambda: XGBRFRegressor(**SMALL).fit(FRAME, VALUE),
    "dart": lambda: XGBRegressor(objective="count:poisson", **DART).fit(FRAME, VALUE.round()),
    "linear": lambda: XGBRegressor(**LINEAR).fit(FRAME, VALUE),
    "linear with exp": lambda: booster(VALUE.round(), "count:poisson", booster="gblinear"),
    "early stop": lambda: XGBRegressor(objective="reg:gamma", **SMALL | {"early_stopping_rounds": 2}).fit(
        FRAME, VALUE, eval_set=[(OTHERS, VALUE.iloc[::-1])], verbose=False
    ),
}
SEVERAL: Table = {
    "quantiles": lambda: booster(VALUE, "reg:quantileerror", quantile_alpha=[0.1, 0.5, 0.9]),
    "quantiles in each leaf": lambda: XGBRegressor(
        objective="reg:quantileerror", quantile_alpha=[0.05, 0.95], multi_strategy="multi_output_tree", **SMALL
    ).fit(FRAME, VALUE),
    "several values": lambda: XGBRegressor(**SMALL).fit(FRAME, BOTH),
    "several in each leaf": lambda: booster(BOTH, "reg:squarederror", multi_strategy="multi_output_tree"),
    "several shares": lambda: booster(np.column_stack([SHARE, 1 - SHARE]), "reg:logistic"),
    "several of gamma": lambda: XGBRegressor(objective="reg:gamma", **SMALL).fit(FRAME, BOTH + 1),
    "forest of several": lambda: XGBRFRegressor(**SMALL).fit(FRAME, BOTH),
    "dart of several": lambda: XGBRegressor(**DART).fit(FRAME, BOTH),
    "linear of several": lambda: booster(BOTH, "reg:squarederror", booster="gblinear"),
}
"""Several values a row."""
CLASSES: Table = {
    "binary:logistic": lambda: booster(TWO, "binary:logistic"),
    "binary:hinge": lambda: booster(TWO, "binary:hinge"),
    "binary:hinge classifier": lambda: XGBClassifier(objective="binary:hinge", **SMALL).fit(FRAME, TWO),
    "reg:logistic classifier": lambda: XGBClassifier(objective="reg:logistic", base_score=0.4, **SMALL).fit(FRAME, TWO),
    "multi:softprob": lambda: booster(THREE, "multi:softprob", num_class=3),
    "multi:softmax": lambda: booster(THREE, "multi:softmax", num_class=3),
    "multi:softmax classifier": lambda: XGBClassifier(objective="multi:softmax", **SMALL).fit(FRAME, THREE),
    "forest of two": lambda: XGBRFClassifier(**SMALL).fit(FRAME, TWO),
    "forest of three": lambda: XGBRFClassifier(**SMALL).fit(FRAME, THREE),
    "several trees a round": lambda: booster(THREE, "multi:softprob", num_class=3, num_parallel_tree=2),
    "dart of two": lambda: booster(TWO, "binary:logistic", booster="dart", rate_drop=0.5),
    "dart of three": lambda: XGBClassifier(**DART).fit(FRAME, THREE),
    "linear of two": lambda: XGBClassifier(**LINEAR).fit(FRAME, TWO),
    "linear of three": lambda: booster(THREE, "multi:softmax", num_class=3, booster="gblinear"),
}
FLAGS = np.column_stack([TWO, THREE > 0, FRAME["age"] > 40]).astype(int)
LABELS: Table = {
    "labels": lambda: XGBClassifier(**SMALL).fit(FRAME, FLAGS),
    "labels in each leaf": lambda: XGBClassifier(multi_strategy="multi_output_tree", **SMALL).fit(FRAME, FLAGS),
    "labels of a booster": lambda: booster(FLAGS, "binary:logistic"),
    "labels of a hinge": lambda: XGBClassifier(objective="binary:hinge", **SMALL).fit(FRAME, FLAGS),
    "labels of a hinge booster": lambda: booster(FLAGS, "binary:hinge"),
    "labels of reg:logistic": lambda: XGBClassifier(objective="reg:logistic", **SMALL).fit(FRAME, FLAGS),
    "forest of labels": lambda: XGBRFClassifier(**SMALL).fit(FRAME, FLAGS),
    "dart of labels": lambda: XGBClassifier(**DART).fit(FRAME, FLAGS),
    "linear of labels": lambda: XGBClassifier(**LINEAR).fit(FRAME, FLAGS),
}
"""Several labels a row."""
OF_TASK = {Task.REGRESSION: VALUES, Task.MULTIOUTPUT: SEVERAL, Task.MULTILABEL: LABELS}
WITHOUT_UBJ = {"linear", "linear with exp", *(f"linear of {what}" for what in ("two", "three", "several", "labels"))}


def kept(model: Any, folder: Path) -> tuple[LoadedModel, Any]:
    """The model as MLflow's own flavor brings it back, and what MLflow's server asks."""
    folder /= "model"
    mlflow.xgboost.save_model(
        model, folder, signature=mlflow.models.infer_signature(FRAME), input_example=FRAME[:3], pip_requirements=[]
    )
    loaded = mlflow.xgboost.load_model(folder)
    information = mlflow.models.Model.load(folder)
    source = LoadedModel(
        loaded, "models:/x/1", "", "xgboost", "xgboost", information.signature, FRAME[:3], metrics={}, metadata={}
    )
    return source, mlflow.pyfunc.load_model(folder)


def stored(source: LoadedModel, folder: Path) -> Card:
    """The card of the model's files in that folder, which are verified."""
    description = conversion.describe(source)
    kinds = conversion.convert(source.model, description, folder)
    verified = verification.verify(source, description, folder, kinds, 1e-4)
    return version._card(ImportOrder("models:/x/1", "v1"), source, description, folder, verified)


@pytest.mark.parametrize("kind", [*VALUES, *SEVERAL, *CLASSES, *LABELS])
def test_every_objective_is_served_as_mlflow_answers_it(kind: str, tmp_path: Path) -> None:
    source, theirs = kept((VALUES | SEVERAL | CLASSES | LABELS)[kind](), tmp_path)
    card = stored(source, tmp_path)
    assert kind in OF_TASK.get(card.task, CLASSES)
    wanted = np.asarray(theirs.predict(OTHERS))
    assert len(np.unique(wanted)) > 1
    kinds = {FileKind.ONNX} if kind in WITHOUT_UBJ else {FileKind.ONNX, FileKind.UBJ}
    assert set(card.files) == kinds
    for engine in (EngineChoice.ONNXRUNTIME, EngineChoice.XGBOOST)[: len(kinds)]:
        scores = open_engine(tmp_path, card, engine).predict(OTHERS.to_numpy())
        assert scores.shape == ((len(OTHERS),) if card.scores_per_row == 1 else (len(OTHERS), card.scores_per_row))
        answers: Any = as_model_predicts(card, scores)
        assert [type(answer) for answer in answers] == [type(answer) for answer in wanted.tolist()]
        np.testing.assert_allclose(answers, wanted, rtol=1e-5, atol=1e-6)
        if hasattr(source.model, "predict_proba"):
            np.testing.assert_allclose(probabilities_of(card, scores), source.model.predict_proba(OTHERS), atol=1e-6)


def test_every_objective_of_xgboost_is_among_them() -> None:
    with pytest.raises(xgboost.core.XGBoostError) as raised:
        booster(TWO, "none:such")
    candidates = re.findall(r"Objective candidate: (\S+)", str(raised.value))
    assert len(candidates) >= 20
    assert set(candidates) == set(boosters._LINKS)
    assert set(candidates) - {"reg:linear"} <= {name.split(" ")[0] for name in (*VALUES, *CLASSES)}


def test_labels_of_softmax_come_with_the_probabilities_of_the_same_trees(tmp_path: Path) -> None:
    source, _ = kept(CLASSES["multi:softmax"](), tmp_path)
    card = stored(source, tmp_path)
    margins: NDArray[Any] = source.model.predict(xgboost.DMatrix(OTHERS), output_margin=True).astype(np.float64)
    wanted = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        open_engine(tmp_path, card, EngineChoice.AUTO).predict(OTHERS.to_numpy()), wanted, atol=1e-6
    )
    assert (card.classes, card.own_classes, card.predicts) == ((0, 1, 2), (0.0, 1.0, 2.0), "labels")


def test_several_values_are_named_by_the_signature_the_quantiles_or_their_positions(tmp_path: Path) -> None:
    quantiles, _ = kept(SEVERAL["quantiles"](), tmp_path)
    assert stored(quantiles, tmp_path).outputs == ("quantile_0.1", "quantile_0.5", "quantile_0.9")
    several = dataclasses.replace(quantiles, model=SEVERAL["several values"]())
    assert stored(several, tmp_path).outputs == ("output_0", "output_1")
    named = mlflow.models.infer_signature(FRAME, pd.DataFrame(BOTH, columns=["speed", "cost"]))
    assert stored(dataclasses.replace(several, signature=named), tmp_path).outputs == ("speed", "cost")


def test_gaps_take_the_same_way_for_several_values(tmp_path: Path) -> None:
    """XGBoost's own trees know which side a missing value takes; so must those that are put together here."""
    rows = with_gaps(OTHERS).replace(ABSENT, np.nan).to_numpy()
    for kind in ("several values", "several in each leaf"):
        model = SEVERAL[kind]()
        graph, own = booster_graphs.convert(model, 3)
        assert own is not None
        session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run(None, {"input": rows})[0], own.inplace_predict(rows), rtol=1e-5)


def test_a_linear_model_takes_a_number_for_a_missing_value_as_nothing(tmp_path: Path) -> None:
    model = XGBRegressor(missing=ABSENT, **LINEAR).fit(with_gaps(FRAME), VALUE)
    source, _ = kept(model, tmp_path)
    source.model.missing = ABSENT  # as MLflow's scikit-learn flavor keeps it
    card = stored(source, tmp_path)
    rows = with_gaps(OTHERS)
    served = open_engine(tmp_path, card, EngineChoice.AUTO).predict(rows.to_numpy())
    np.testing.assert_allclose(served, model.predict(rows), rtol=1e-5)


@pytest.mark.parametrize("kind", ["gbtree", "dart", "gblinear"])
def test_a_booster_takes_the_gaps_that_its_signature_says(kind: str, tmp_path: Path) -> None:
    """A Booster is no estimator that could be asked; XGBoost takes a gap in any column."""
    frame, others = (with_gaps(rows).replace(ABSENT, np.nan) for rows in (FRAME, OTHERS))
    parameters = {"objective": "binary:logistic", "nthread": 1, "booster": kind}
    model = xgboost.train(parameters, xgboost.DMatrix(frame, TWO), 6)
    signature = mlflow.models.infer_signature(frame.assign(age=FRAME["age"]))
    source = LoadedModel(model, "models:/x/1", "", "xgboost", "xgboost", signature, frame[:9], metrics={}, metadata={})
    card = stored(source, tmp_path)
    assert [feature.nullable for feature in card.features] == [True, True, False]
    rows = others.assign(age=OTHERS["age"])
    sent = rows.astype(object).where(rows.notna(), None).to_numpy().tolist()
    packed = card.row_format.join([card.row_format.pack(sent)], len(sent))
    served = open_engine(tmp_path, card, EngineChoice.AUTO).predict(packed)
    np.testing.assert_allclose(served, model.predict(xgboost.DMatrix(rows)), rtol=1e-5)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a classifier's margins": (
        lambda: XGBClassifier(objective="binary:logitraw", **SMALL).fit(FRAME, TWO),
        r"binary:logitraw, whose scores are no probabilities: train it with binary:logistic, or log its get_booster",
    ),
    "two of many classes": (
        lambda: booster(TWO, "multi:softprob", num_class=2),
        "for two classes: train it with binary:logistic",
    ),
    "a hinge without a split": (lambda: booster(TWO, "binary:hinge", gamma=1e9), "trees of a single leaf only"),
}


@pytest.mark.parametrize(("make", "said"), REFUSED.values(), ids=REFUSED)
def test_what_would_be_served_wrong_is_refused(make: Callable[[], Any], said: str, tmp_path: Path) -> None:
    source, _ = kept(make(), tmp_path)
    with pytest.raises(UnsupportedModel, match=said):
        stored(source, tmp_path)


def test_an_import_serves_a_rank_score(log_model: Callable[..., str], own_store: Path) -> None:
    model = VALUES["rank:ndcg"]()
    uri = log_model("xgboost", model, signature=mlflow.models.infer_signature(FRAME), input_example=FRAME[:3])
    artefact = import_version(ImportOrder(uri, "v1", model="stranger")).artefact
    served = open_engine(artefact.folder, artefact.card, EngineChoice.AUTO).predict(OTHERS.to_numpy())
    np.testing.assert_allclose(served, model.predict(OTHERS), rtol=1e-5, atol=1e-6)
