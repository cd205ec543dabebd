"""Models of labels without probabilities: their scores and labels are those of the framework, or they are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest, StackingClassifier, VotingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC, OneClassSVM

from configuration.settings import EngineChoice
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import ABOVE_ZERO, Task
from runners.artefacts.scores import as_model_predicts, labels_of
from runners.engines.engine import example_rows, open_engine
from runners.runner import check_examples
from shokado.lifecycle.errors import UnsupportedModel, VerificationFailed
from shokado.lifecycle.importing import conversion, decisions, verification, version
from shokado.lifecycle.importing.registry import LoadedModel
from shokado.lifecycle.importing.version import ImportOrder, import_version
from tests.support.invocations import ours, theirs

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RANDOM = np.random.default_rng(21)


def drawn(rows: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "visits": RANDOM.integers(0, 9, rows).astype(np.float32),
            "spent": RANDOM.uniform(0, 50, rows).astype(np.float32),
            "age": RANDOM.normal(40, 10, rows).astype(np.float32),
        }
    )


FRAME, HELD_OUT = drawn(300), drawn(300)
VALUE = (FRAME["visits"] + FRAME["spent"] / 5 + RANDOM.normal(size=300)).to_numpy()
YES = np.where(VALUE > 9, "yes", "no")
THREE = np.array([2, 5, 9])[np.digitize(VALUE, [7, 11])]
MODELS: dict[str, tuple[Task, Callable[[], Any]]] = {
    "two classes": (Task.BINARY_MARGIN, lambda: make_pipeline(StandardScaler(), LinearSVC()).fit(FRAME, YES)),
    "three classes": (
        Task.MULTICLASS_MARGIN,
        lambda: GridSearchCV(make_pipeline(StandardScaler(), SGDClassifier()), {}, cv=2).fit(FRAME, THREE),
    ),
    "kernel": (Task.BINARY_MARGIN, lambda: make_pipeline(StandardScaler(), SVC()).fit(FRAME, YES)),
    "one against the rest": (
        Task.MULTICLASS_MARGIN,
        lambda: make_pipeline(StandardScaler(), OneVsRestClassifier(SVC())).fit(FRAME, THREE),
    ),
    "isolation forest": (
        Task.ANOMALY,
        lambda: IsolationForest(n_estimators=20, max_features=2, contamination=0.1, random_state=0).fit(FRAME),
    ),
    "one class": (Task.ANOMALY, lambda: make_pipeline(StandardScaler(), OneClassSVM(nu=0.1)).fit(FRAME)),
    "neighbours": (Task.ANOMALY, lambda: LocalOutlierFactor(novelty=True).fit(FRAME)),
    "clusters": (Task.MULTICLASS_MARGIN, lambda: KMeans(4, n_init=1, random_state=0).fit(FRAME)),
    "two clusters": (
        Task.BINARY_MARGIN,
        lambda: make_pipeline(StandardScaler(), KMeans(2, n_init=1, random_state=0)).fit(FRAME),
    ),
}
"""`tests/frameworks/test_outputs.py` has more of them."""


def source_of(model: Any, frame: pd.DataFrame = FRAME) -> LoadedModel:
    signature = mlflow.models.infer_signature(frame)
    return LoadedModel(model, "models:/x/1", "", "sklearn", "sklearn", signature, frame[:5], {}, {})


def stored(model: Any, folder: Path, frame: pd.DataFrame = FRAME) -> Artefact:
    source = source_of(model, frame)
    description = conversion.describe(source)
    kinds = conversion.convert(source.model, description, folder)
    verified = verification.verify(source, description, folder, kinds, 1e-4)
    card = version._card(ImportOrder("models:/x/1", "v1"), source, description, folder, verified)
    return Artefact("v1", "x:v1", folder, card)


def own_scores(model: Any, rows: pd.DataFrame) -> NDArray[Any]:
    """The framework's own, where it has a decision function."""
    return np.asarray(decisions.scores_of(model, rows))


@pytest.mark.parametrize("kind", MODELS)
def test_labels_and_scores_are_the_frameworks(kind: str, tmp_path: Path) -> None:
    task, make = MODELS[kind]
    model = make()
    artefact = stored(model, tmp_path)
    card = artefact.card
    assert (card.task, card.format) == (task, 3)
    engine = open_engine(tmp_path, card, EngineChoice.AUTO)
    check_examples(engine.predict(example_rows(card)), card, tmp_path)
    scores, wanted = engine.predict(HELD_OUT.to_numpy("f4")), own_scores(model, HELD_OUT)
    assert scores.shape == wanted.shape
    np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-4 * max(1, wanted.std()))
    labels = np.asarray(model.predict(HELD_OUT)).tolist()
    assert len(set(labels)) > 1
    assert labels_of(card, scores.tolist()) == labels
    assert as_model_predicts(card, scores) == labels


def test_a_clusterings_scores_are_differences_of_squared_distances() -> None:
    several, two = MODELS["clusters"][1](), MODELS["two clusters"][1]()
    squared = several.transform(HELD_OUT) ** 2
    wanted = squared.mean(axis=1, keepdims=True) - squared
    np.testing.assert_allclose(decisions.scores_of(several, HELD_OUT), wanted, rtol=1e-4, atol=1e-2)
    squared = two.transform(HELD_OUT) ** 2
    np.testing.assert_allclose(decisions.scores_of(two, HELD_OUT), squared[:, 0] - squared[:, 1], rtol=1e-4, atol=1e-4)


def test_the_second_class_begins_where_the_frameworks_does() -> None:
    """Of a decision of exactly 0."""
    line = LinearSVC().fit(FRAME, YES)
    line.coef_, line.intercept_ = np.zeros((1, 3)), np.zeros(1)
    forest = MODELS["isolation forest"][1]()
    forest.offset_ = forest.score_samples(HELD_OUT)[0]
    for model, second in ((line, "yes"), (forest, 1)):
        (score,) = model.decision_function(HELD_OUT[:1])
        assert score == 0
        assert (model.predict(HELD_OUT[:1])[0] == second) == (score >= decisions.positive_from(model))
    assert (decisions.positive_from(line), decisions.positive_from(forest)) == (ABOVE_ZERO, 0.0)


TEXTS = [f"{'win cash now' if number % 3 else 'see you at lunch'} {number}" for number in range(60)]


def test_a_text_is_told_from_others_as_with_mlflow(log_model: Callable[..., str], own_store: Path) -> None:
    model = make_pipeline(TfidfVectorizer(), LinearSVC()).fit(TEXTS, np.arange(60) % 3 > 0)
    example = pd.DataFrame({"message": TEXTS[:5]})
    uri = log_model(
        "sklearn", model, signature=mlflow.models.infer_signature(example), serialization_format="cloudpickle"
    )
    artefact = import_version(ImportOrder(uri, "v1", model="stranger")).artefact
    assert (artefact.card.task, artefact.card.classes) == (Task.BINARY_MARGIN, (0, 1))
    engine = open_engine(artefact.folder, artefact.card, EngineChoice.AUTO)
    scores = engine.predict(np.array(TEXTS, dtype=object)[:, None])
    np.testing.assert_allclose(scores, model.decision_function(TEXTS), atol=1e-5)
    assert as_model_predicts(artefact.card, scores) == model.predict(TEXTS).tolist()


def test_anomalies_are_answered_as_with_mlflow(log_model: Callable[..., str], own_store: Path) -> None:
    model = MODELS["isolation forest"][1]()
    uri = log_model(
        "sklearn", model, signature=mlflow.models.infer_signature(FRAME), input_example=FRAME[:5],
        serialization_format="cloudpickle",
    )  # fmt: skip
    artefact = import_version(ImportOrder(uri, "v1", model="stranger")).artefact
    body = {"dataframe_split": HELD_OUT.to_dict(orient="split")}
    assert ours(artefact, body) == theirs(uri, body)
    assert set(ours(artefact, body)["predictions"]) == {-1, 1}


def shifted(model: Any, folder: Path) -> None:
    """Verify a file whose last constant is a little more."""
    source = source_of(model)
    description = conversion.describe(source)
    kinds = conversion.convert(source.model, description, folder)
    graph = onnx.load(folder / "model.onnx")
    node = next(node for node in graph.graph.node if node.op_type == "LinearRegressor")
    intercepts = next(item for item in node.attribute if item.name == "intercepts")
    intercepts.floats[:] = [value + 0.01 for value in intercepts.floats]
    onnx.save(graph, folder / "model.onnx")
    verification.verify(source, description, folder, kinds, 1e-4)


def test_a_shift_of_a_decision_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(VerificationFailed, match=r"differs from the framework's own scores by 0\.01"):
        shifted(LinearSVC().fit(FRAME / 10, YES), tmp_path)


class Contrary(LinearSVC):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier whose labels do not follow from its decision function."""

    def predict(self, rows: Any) -> Any:
        return self.classes_[(self.decision_function(rows) > 1).astype(int)]


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a kernel of several classes": (
        lambda: SVC().fit(FRAME, THREE),
        "decides between 3 classes by votes, which have no conversion to ONNX: take OneVsRestClassifier of it",
    ),
    "a kernel of large numbers": (
        lambda: SVC(kernel="poly", degree=5).fit(FRAME, YES),
        "ONNX adds up its kernel in float32: put a StandardScaler before it",
    ),
    "one cluster": (lambda: KMeans(1, n_init=1).fit(FRAME), "KMeans knows 1 class, so there is nothing to predict"),
    "a stack of decisions": (
        lambda: StackingClassifier([("line", LogisticRegression())], LinearSVC(), cv=2).fit(FRAME, YES),
        "The decision function of StackingClassifier has no conversion to ONNX: take .* CalibratedClassifierCV",
    ),
    "votes": (
        lambda: VotingClassifier([("line", LinearSVC()), ("other", LinearSVC(C=2))]).fit(FRAME, YES),
        "VotingClassifier is neither a regressor nor a classifier with probabilities or a decision function",
    ),
    "known rows alone": (
        lambda: LocalOutlierFactor().fit(FRAME),
        r"LocalOutlierFactor knows the rows alone that it learned: train it with novelty=True",
    ),
    "labels of their own": (lambda: Contrary().fit(FRAME, YES), "its labels do not follow from its scores"),
    "a threshold": (
        lambda: FixedThresholdClassifier(LinearSVC(), threshold=0.5, response_method="decision_function").fit(
            FRAME, YES
        ),
        "FixedThresholdClassifier has a threshold on a decision function, where 0 belongs",
    ),
    "a transformer": (lambda: StandardScaler().fit(FRAME), "StandardScaler is neither a regressor nor a classifier"),
}


@pytest.mark.parametrize(("make", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_exact_is_refused_with_the_reason(
    make: Callable[[], BaseEstimator], said: str, tmp_path: Path
) -> None:
    with pytest.raises((UnsupportedModel, VerificationFailed), match=said):
        stored(make(), tmp_path)


def test_clusters_that_float32_does_not_tell_apart_are_refused(tmp_path: Path) -> None:
    far = (FRAME + 1e6).astype(np.float32)
    with pytest.raises(
        VerificationFailed, match=r"float32 does not tell its scores apart|differs from the framework's"
    ):
        stored(KMeans(5, n_init=1, random_state=0).fit(far), tmp_path, far)
    scaled = make_pipeline(StandardScaler(), KMeans(5, n_init=1, random_state=0)).fit(far)
    assert stored(scaled, tmp_path, far).card.task is Task.MULTICLASS_MARGIN
