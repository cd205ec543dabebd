"""What is served scores and decides as the model does that MLflow itself loads; what would be lost is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost
from numpy.typing import NDArray
from skl2onnx import to_onnx
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, TunedThresholdClassifierCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from xgboost import XGBClassifier, XGBRegressor, XGBRFClassifier

from configuration.settings import EngineChoice
from runners.artefacts import repository
from runners.artefacts.card import Card, FileKind, Task
from runners.artefacts.reference import read_reference
from runners.artefacts.scores import labels_of
from runners.engines.engine import example_rows, open_engine
from runners.inputs.schema import Feature
from runners.runner import check_examples
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing import conversion
from shokado.lifecycle.importing.label_rules import chosen
from shokado.lifecycle.importing.registry import LoadedModel
from shokado.lifecycle.importing.verification import file_scores
from shokado.lifecycle.importing.version import ImportOrder, import_version
from tests.support.invocations import ours, theirs

RANDOM = np.random.default_rng(2)


def customers(rows: int) -> pd.DataFrame:
    """Whole numbers and few of them, so that trees have leaves with as many of one class as of the other."""
    return pd.DataFrame(
        {
            "visits per week": RANDOM.integers(0, 4, rows).astype(float),
            "spent": RANDOM.integers(0, 5, rows) * 12.25,
            "age": RANDOM.normal(40, 10, rows),
        }
    ).astype({"age": "float32"})


FRAME, OTHERS = customers(400), customers(500)
VALUE = FRAME["visits per week"] * 3 + FRAME["spent"] + RANDOM.normal(size=400) * 5
TWO = (VALUE > 35).astype(int)
THREE = pd.cut(VALUE, [-99, 20, 40, 99], labels=["low", "middle", "high"]).astype(str)
YES = np.where(TWO, "yes", "no")
TOSSED = RANDOM.integers(0, 2, 400)
EVEN = FRAME[["spent"]].assign(spent=np.repeat([0.0, 12.25], 200))
EVEN_OR_ONE = np.where(EVEN["spent"] > 0, 1, np.arange(400) % 2)
"""As many of both classes where nothing is spent, and one class elsewhere."""
ABSENT = -999.0


def with_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.mask(np.arange(len(frame) * 3).reshape(-1, 3) % 5 == 0, ABSENT)


def trained_booster(targets: Any, **parameters: Any) -> xgboost.Booster:
    return xgboost.train(parameters, xgboost.DMatrix(FRAME, targets), num_boost_round=10)


COARSE = FRAME.columns[:2]
SKLEARN: dict[str, Callable[[], Any]] = {
    "decision tree": lambda: DecisionTreeClassifier().fit(FRAME[COARSE], TOSSED),
    "tree of three": lambda: DecisionTreeClassifier(max_depth=3).fit(FRAME[COARSE], THREE),
    "forest": lambda: RandomForestClassifier(8, max_depth=3, n_jobs=1).fit(FRAME[COARSE], YES),
    "grown forest": lambda: RandomForestClassifier(20, n_jobs=1).fit(FRAME, TOSSED),
    "grown forest of three": lambda: ExtraTreesClassifier(6, bootstrap=True, n_jobs=1).fit(FRAME, TOSSED + TWO),
    "scaled forest": lambda: make_pipeline(StandardScaler(), RandomForestClassifier(8, n_jobs=1)).fit(FRAME, TWO),
    "scaled histogram's values": lambda: make_pipeline(
        RobustScaler(), MinMaxScaler(), HistGradientBoostingRegressor(max_iter=8)
    ).fit(FRAME, VALUE),
    "scaled tree's values": lambda: make_pipeline(StandardScaler(), DecisionTreeRegressor()).fit(FRAME, VALUE),
    "forest's values": lambda: RandomForestRegressor(8, n_jobs=1).fit(FRAME, VALUE),
    "extra trees": lambda: ExtraTreesRegressor(8, n_jobs=1).fit(FRAME, VALUE),
    "gradient boosting": lambda: GradientBoostingClassifier(n_estimators=8).fit(FRAME, TWO),
    "gradient boosting with ties": lambda: GradientBoostingClassifier(n_estimators=1, init="zero").fit(
        EVEN, EVEN_OR_ONE
    ),
    "histogram": lambda: HistGradientBoostingClassifier(max_iter=8).fit(FRAME, TWO),
    "histogram of three": lambda: HistGradientBoostingClassifier(max_iter=8).fit(FRAME, THREE),
    "histogram's values": lambda: HistGradientBoostingRegressor(max_iter=8).fit(FRAME, VALUE),
    "categories of a histogram": lambda: HistGradientBoostingClassifier(
        max_iter=5, categorical_features=[0], random_state=0
    ).fit(FRAME, TWO),
    "adaboost": lambda: AdaBoostClassifier(n_estimators=4).fit(FRAME, TWO),
    "logistic": lambda: LogisticRegression(max_iter=1000).fit(FRAME, YES),
    "linear": lambda: LinearRegression().fit(FRAME, VALUE),
    "net": lambda: make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=50)).fit(FRAME, TWO),
    "low threshold": lambda: FixedThresholdClassifier(LogisticRegression(max_iter=1000), threshold=0.3).fit(FRAME, YES),
    "threshold of the first class": lambda: FixedThresholdClassifier(
        DecisionTreeClassifier(max_depth=4), threshold=0.75, pos_label=0
    ).fit(FRAME[COARSE], TWO),
    "tuned threshold in a pipeline": lambda: make_pipeline(
        StandardScaler(), TunedThresholdClassifierCV(LogisticRegression(), cv=3, scoring="f1")
    ).fit(FRAME, TWO),
    "vote": lambda: VotingClassifier(
        [("a", LogisticRegression(max_iter=1000)), ("b", DecisionTreeClassifier(max_depth=3)), ("c", "drop")],
        voting="soft",
        weights=[2, 1, 5],
    ).fit(FRAME[COARSE], TWO),
    "grid": lambda: GridSearchCV(DecisionTreeClassifier(), {"max_depth": [2, 3]}, cv=2).fit(FRAME[COARSE], TWO),
    "XGBoost with a number for what is missing": lambda: XGBClassifier(n_estimators=8, missing=ABSENT, n_jobs=1).fit(
        with_gaps(FRAME), TWO
    ),
}
XGBOOST: dict[str, Callable[[], Any]] = {
    "classifier": lambda: XGBClassifier(n_estimators=8, n_jobs=1).fit(FRAME, TWO),
    "classifier with ties": lambda: XGBClassifier(n_estimators=3, base_score=0.5, min_child_weight=0).fit(
        EVEN, EVEN_OR_ONE
    ),
    "classifier of three": lambda: XGBClassifier(n_estimators=8, n_jobs=1).fit(FRAME, THREE.factorize()[0]),
    "forest": lambda: XGBRFClassifier(n_estimators=8, n_jobs=1).fit(FRAME, TWO),
    "values": lambda: XGBRegressor(n_estimators=8, n_jobs=1).fit(FRAME, VALUE),
    "values that are probabilities": lambda: XGBRegressor(n_estimators=8, objective="binary:logistic").fit(FRAME, TWO),
    "booster": lambda: trained_booster(TWO, objective="binary:logistic", base_score=0.3),
    "booster of three": lambda: trained_booster(THREE.factorize()[0], objective="multi:softprob", num_class=3),
}


@pytest.mark.parametrize(
    ("flavor", "make"),
    [(flavor, make) for flavor, models in (("sklearn", SKLEARN), ("xgboost", XGBOOST)) for make in models.values()],
    ids=[*SKLEARN, *(f"XGBoost: {name}" for name in XGBOOST)],
)
def test_what_is_served_is_what_mlflow_gives(
    flavor: str, make: Callable[[], Any], log_model: Callable[..., str], own_store: Path
) -> None:
    model = make()
    names = list(getattr(model, "feature_names_in_", FRAME.columns))
    arguments = {"serialization_format": "cloudpickle"} if flavor == "sklearn" else {}
    rows = OTHERS[names]
    uri = log_model(flavor, model, signature=mlflow.models.infer_signature(rows), input_example=rows[:1], **arguments)
    artefact = import_version(ImportOrder(uri, "v1", model="stranger")).artefact
    card = artefact.card
    if getattr(model, "missing", 0) == ABSENT:
        rows = with_gaps(rows)
    truth = getattr(mlflow, flavor).load_model(uri)
    scores, labels = told_by(truth, rows, card)
    tolerance = max(receipt.tolerance for receipt in card.verification.values())
    for choice in (EngineChoice.ONNXRUNTIME, *([EngineChoice.XGBOOST] if FileKind.UBJ in card.files else [])):
        served = open_engine(artefact.folder, card, choice).predict(rows[list(card.feature_names)].to_numpy("f4"))
        np.testing.assert_allclose(served, scores, rtol=0, atol=tolerance)
        close = np.abs(scores - card.positive_from) < 1e-6 if card.scores_per_row == 1 else np.zeros(len(rows), bool)
        exact = (scores == 0.5) & (served == 0.5) if card.scores_per_row == 1 else ~close
        mine = np.array(labels_of(card, served.tolist()), dtype=object)
        sure = exact | ~close
        if labels is not None:
            assert sure.any()
            assert mine[sure].tolist() == labels[sure].tolist()
    assert card.predicts == ("labels" if labels is not None or card.classes == () else "scores")


def told_by(model: Any, rows: pd.DataFrame, card: Card) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Scores as a server shapes them, and labels where the framework has them."""
    if isinstance(model, xgboost.Booster):
        return model.predict(xgboost.DMatrix(rows)), None
    if not hasattr(model, "predict_proba"):
        return np.asarray(model.predict(rows)), None
    probabilities = model.predict_proba(rows)
    scores = probabilities[:, 1] if card.scores_per_row == 1 else probabilities
    return scores, np.asarray(model.predict(rows), dtype=object)


def test_there_are_ties_among_what_is_compared() -> None:
    for models, name in (
        (SKLEARN, "decision tree"),
        (SKLEARN, "gradient boosting with ties"),
        (XGBOOST, "classifier with ties"),
    ):
        model = models[name]()
        assert (model.predict_proba(OTHERS[model.feature_names_in_])[:, 1] == 0.5).any(), name


@pytest.mark.parametrize("name", ["decision tree", "grown forest", "grown forest of three"])
def test_forests_decide_every_tie_as_scikit_learn_does(name: str, tmp_path: Path) -> None:
    """Ten trees of twenty for each class are a tie in float32 as well."""
    model = SKLEARN[name]()
    rows = OTHERS[list(model.feature_names_in_)]
    source = LoadedModel(model, "models:/x/1", "", "sklearn", "scikit-learn", None, rows[:1], {}, {})
    description = conversion.describe(source)
    conversion.convert(model, description, tmp_path)
    scores = file_scores(FileKind.ONNX, tmp_path / "model.onnx", description, rows.to_numpy("f4"))
    truth = model.predict_proba(rows)
    ordered = np.sort(truth, axis=1)
    assert (ordered[:, -1] == ordered[:, -2]).sum() > 5
    assert chosen(description.task, scores, description.positive_from).tolist() == truth.argmax(axis=1).tolist()
    assert truth.argmax(axis=1).tolist() == model.predict(rows).tolist()


def test_a_file_is_the_same_whatever_order_its_opsets_are_listed_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Machines that import the same model agree by the digests of its files."""
    rows = np.random.default_rng(3).normal(size=(90, 2)).astype(np.float32)
    model = make_pipeline(StandardScaler(), MLPClassifier((3,), max_iter=5, random_state=1)).fit(rows, rows[:, 0] > 0)
    features = tuple(Feature(name=name) for name in "ab")
    description = conversion.ModelDescription(task=Task.BINARY, features=features, classes=(0, 1))
    files: list[bytes] = []
    for step in (1, -1):

        def listed(*given: Any, step: int = step, **named: Any) -> Any:
            graph = to_onnx(*given, **named)
            opsets = list(graph.opset_import)[::step]
            assert len(opsets) == 2
            del graph.opset_import[:]
            graph.opset_import.extend(opsets)
            return graph

        monkeypatch.setattr(conversion, "to_onnx", listed)
        conversion.convert(model, description, tmp_path)
        files.append((tmp_path / FileKind.ONNX.file_name).read_bytes())
    assert files[0] == files[1]


def test_the_columns_names_decide_and_not_their_order_in_the_signature(
    log_model: Callable[..., str], own_store: Path
) -> None:
    booster, turned = XGBOOST["booster"](), OTHERS[OTHERS.columns[::-1]]
    uri = log_model("xgboost", booster, signature=mlflow.models.infer_signature(turned), input_example=turned[:2])
    artefact = import_version(ImportOrder(uri, "v1", model="stranger")).artefact
    rows = OTHERS[list(artefact.card.feature_names)].to_numpy("f4")
    served = open_engine(artefact.folder, artefact.card, EngineChoice.AUTO).predict(rows)
    np.testing.assert_allclose(served, booster.predict(xgboost.DMatrix(OTHERS)), atol=1e-6)


@pytest.mark.parametrize("flavor", ["xgboost", "sklearn"])
def test_a_signature_that_names_other_columns_is_refused(
    flavor: str, log_model: Callable[..., str], own_store: Path
) -> None:
    model = XGBOOST["booster"]() if flavor == "xgboost" else SKLEARN["linear"]()
    other = OTHERS.rename(columns={"age": "years"})
    uri = log_model(flavor, model, signature=mlflow.models.infer_signature(other))
    with pytest.raises(UnsupportedModel, match=r"says that its columns are .*years.* trained on .*age"):
        import_version(ImportOrder(uri, "v1", model="stranger"))
    assert repository.artefacts() == []


def test_several_labels_a_row_are_served_as_mlflow_gives_them(log_model: Callable[..., str], own_store: Path) -> None:
    """`tests/frameworks/test_labels.py` has all kinds."""
    labels = pd.DataFrame({"loud": TWO, "old": (FRAME["age"] > 40).astype(int)})
    model = RandomForestClassifier(8, n_jobs=1).fit(FRAME, labels.to_numpy())
    signature = mlflow.models.infer_signature(OTHERS, labels)
    uri = log_model("sklearn", model, signature=signature, input_example=OTHERS[:9], serialization_format="cloudpickle")
    artefact = import_version(ImportOrder(uri, "v1", model="stranger")).artefact
    card = artefact.card
    assert (card.task, card.outputs, card.classes, card.format) == (Task.MULTILABEL, ("loud", "old"), (0, 1), 3)
    served = open_engine(artefact.folder, card, EngineChoice.AUTO).predict(OTHERS.to_numpy("f4"))
    wanted = np.column_stack([both[:, 1] for both in model.predict_proba(OTHERS)])
    np.testing.assert_allclose(served, wanted, atol=1e-6)
    check_examples(open_engine(artefact.folder, card, EngineChoice.AUTO).predict(example_rows(card)), card, Path())
    body = {"dataframe_split": OTHERS[:40].to_dict(orient="split")}
    assert ours(artefact, body) == theirs(uri, body)


def test_labels_of_three_classes_a_row_are_refused(log_model: Callable[..., str], own_store: Path) -> None:
    model = RandomForestClassifier(2).fit(FRAME, np.column_stack([TWO, np.arange(len(TWO)) % 3]))
    with pytest.raises(UnsupportedModel, match="Its label 1 has 3 classes, where several labels a row have two"):
        import_version(ImportOrder(log_model("sklearn", model, serialization_format="cloudpickle"), "v1", model="odd"))
    assert repository.artefacts() == []


SEVERAL_VALUES: dict[str, Callable[[Any], Any]] = {
    "a forest": lambda values: RandomForestRegressor(8, n_jobs=1).fit(FRAME, values),
    "a line": lambda values: LinearRegression().fit(FRAME, values),
    "a histogram for each": lambda values: MultiOutputRegressor(HistGradientBoostingRegressor(max_iter=8)).fit(
        FRAME, values
    ),
}
"""`tests/frameworks/test_outputs.py` has all of them."""


@pytest.mark.parametrize("kind", SEVERAL_VALUES)
def test_several_values_a_row_are_served_as_mlflow_gives_them(
    kind: str, log_model: Callable[..., str], own_store: Path
) -> None:
    values = pd.DataFrame({"speed": VALUE, "cost": 3 - 1e5 * FRAME["age"]})
    model = SEVERAL_VALUES[kind](values.to_numpy())
    signature = mlflow.models.infer_signature(OTHERS, values)
    uri = log_model("sklearn", model, signature=signature, input_example=OTHERS[:9], serialization_format="cloudpickle")
    artefact = import_version(ImportOrder(uri, "v1", model="stranger")).artefact
    card = artefact.card
    assert (card.task, card.outputs, card.format) == (Task.MULTIOUTPUT, ("speed", "cost"), 3)
    tolerances = card.verification[FileKind.ONNX].tolerances
    assert tolerances[1] > 1e3 * tolerances[0]
    served = open_engine(artefact.folder, card, EngineChoice.AUTO).predict(OTHERS.to_numpy("f4"))
    assert served.shape == (len(OTHERS), 2)
    assert (np.abs(served - model.predict(OTHERS)) <= tolerances).all()
    check_examples(open_engine(artefact.folder, card, EngineChoice.AUTO).predict(example_rows(card)), card, Path())
    body = {"dataframe_split": OTHERS[:40].to_dict(orient="split")}
    mine, wanted = ours(artefact, body), theirs(uri, body)
    assert [len(row) for row in mine["predictions"]] == [2] * 40
    np.testing.assert_allclose(mine["predictions"], wanted["predictions"], rtol=1e-4)
    reference = read_reference(artefact.folder, card)
    assert reference is not None
    assert len(reference.scores) == 2


def squared_error(truth: NDArray[Any], raw: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    return raw - truth, np.ones_like(raw)


LOST: dict[str, tuple[str, Callable[[], Any], str]] = {
    "an objective of one's own": (
        "sklearn",
        lambda: XGBClassifier(n_estimators=2, objective=squared_error).fit(FRAME, TWO),
        r"an XGBClassifier with an objective of its own \(squared_error\)",
    ),
    "trees of a leaf": (
        "sklearn",
        lambda: XGBClassifier(n_estimators=3, gamma=1e9).fit(FRAME, TWO),
        "trees of a single leaf only",
    ),
    "a threshold on the decision": (
        "sklearn",
        lambda: FixedThresholdClassifier(LogisticRegression(), threshold=1.0, response_method="decision_function").fit(
            FRAME, TWO
        ),
        "give it response_method='predict_proba'",
    ),
}


@pytest.mark.parametrize(("flavor", "make", "said"), LOST.values(), ids=LOST)
def test_what_a_conversion_would_lose_is_refused(
    flavor: str, make: Callable[[], Any], said: str, log_model: Callable[..., str], own_store: Path
) -> None:
    uri = log_model(flavor, make(), serialization_format="cloudpickle")
    with pytest.raises(UnsupportedModel, match=said):
        import_version(ImportOrder(uri, "v1", model="stranger"))
    assert repository.artefacts() == []


def test_what_mlflow_has_lost_already_is_found_in_the_runs_parameters(
    log_model: Callable[..., str], own_store: Path
) -> None:
    model = SKLEARN["XGBoost with a number for what is missing"]()
    uri = log_model("xgboost", model, parameters={"missing": -999, "n_estimators": 8})
    with pytest.raises(UnsupportedModel, match=r"missing=-999, which MLflow's xgboost flavor does not keep"):
        import_version(ImportOrder(uri, "v1", model="stranger"))
