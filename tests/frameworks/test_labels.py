"""Several labels a row: served as the framework answers them, in every dialect, or refused; and quantized."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import mlflow
import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import TunedThresholdClassifierCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

from configuration.settings import EngineChoice
from runners.artefacts.card import Task
from runners.artefacts.scores import as_model_predicts
from runners.engines.engine import example_rows, likely_rows, open_engine
from runners.runner import check_examples
from shokado.client import Client
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing import registry
from shokado.lifecycle.importing.version import ImportOrder, import_version
from shokado.lifecycle.quantizing.calibration_rows import DEALT_ROWS
from shokado.lifecycle.quantizing.quantize_order import Limits, Method, QuantizeOrder
from shokado.lifecycle.quantizing.quantized_version import quantize_version
from shokado.transports.grpc import open_inference_pb2 as messages
from tests.frameworks.boosted import logged, scored
from tests.frameworks.test_outputs import FRAME, HELD_OUT, VALUE, served, stored, trained_and_served
from tests.support import http
from tests.support.server import Server, free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:Label .* is present in all training examples"
)
LABELS = np.column_stack([VALUE > 9, FRAME["age"] > 40, VALUE + FRAME["age"] > 52]).astype(int)
CONSTANT = LABELS * [1, 0, 1]
"""The second label is 0 in every row."""


def logistic() -> LogisticRegression:
    return LogisticRegression(max_iter=1000)


def forest() -> RandomForestClassifier:
    return RandomForestClassifier(10, random_state=0, n_jobs=1)


SERVED: dict[str, tuple[Callable[[], Any], Any]] = {
    "truth values": (forest, LABELS.astype(bool)),
    "numbers with a point": (lambda: MultiOutputClassifier(logistic()), LABELS.astype(float)),
    "texts": (lambda: DecisionTreeClassifier(max_depth=5), np.array(["no", "yes"])[LABELS]),
    "other numbers": (lambda: ClassifierChain(logistic()), 3 * LABELS - 1),
    "sparse": (lambda: OneVsRestClassifier(logistic()), csr_matrix(LABELS)),
    "a label that no row has, of a forest": (forest, CONSTANT),
    "a label that all rows have, of a tree": (lambda: DecisionTreeClassifier(max_depth=5), 1 - CONSTANT),
    "a label that no row has, one against the rest": (lambda: OneVsRestClassifier(logistic()), CONSTANT),
    "a label that all rows have, of a forest for each": (lambda: MultiOutputClassifier(forest()), 1 - CONSTANT),
    "a label that all rows have, without probabilities": (lambda: OneVsRestClassifier(LinearSVC()), 1 - CONSTANT),
    "boosting, whose ties have the label": (
        lambda: MultiOutputClassifier(GradientBoostingClassifier(n_estimators=4, random_state=0)), LABELS
    ),
    "one against the rest of boosting, whose ties have not": (
        lambda: OneVsRestClassifier(GradientBoostingClassifier(n_estimators=4, random_state=0)), LABELS
    ),
    "a chain by decisions": (
        lambda: ClassifierChain(logistic(), chain_method="decision_function", order=[1, 2, 0]), LABELS
    ),
    "a chain of XGBoost": (lambda: ClassifierChain(XGBClassifier(n_estimators=4, n_jobs=1)), LABELS),
    "many": (forest, np.tile(LABELS, 10)),
}  # fmt: skip


@pytest.mark.parametrize("kind", SERVED)
def test_labels_are_those_of_the_framework(kind: str, tmp_path: Path) -> None:
    make, labels = SERVED[kind]
    model = make().fit(FRAME, labels)
    card = stored(model, tmp_path)
    predicted = model.predict(HELD_OUT)
    predicted = predicted.toarray() if hasattr(predicted, "toarray") else np.asarray(predicted)
    assert card.scores_per_row == predicted.shape[1]
    answers: Any = as_model_predicts(card, served(card, tmp_path, HELD_OUT))
    assert answers == predicted.tolist()
    assert {type(label) for row in answers for label in row} == {type(label) for label in predicted.ravel().tolist()}


THREE = np.column_stack([np.digitize(VALUE, [7, 11]), LABELS[:, 0]])
REFUSED: dict[str, tuple[Callable[[], Any], Any, str]] = {
    "three classes": (forest, THREE, "Its label 0 has 3 classes"),
    "different classes": (forest, np.column_stack([LABELS[:, 0], LABELS[:, 1] + 1]), r"classes \[1, 2\] and another"),
    "nothing to tell": (forest, np.zeros_like(LABELS), "the same class in all rows"),
    "thresholds of their own": (
        lambda: MultiOutputClassifier(
            TunedThresholdClassifierCV(logistic(), response_method="predict_proba", cv=2, random_state=0)
        ),
        LABELS,
        "have thresholds of their own",
    ),
    "decisions alone": (lambda: MultiOutputClassifier(SGDClassifier()), LABELS, "take OneVsRestClassifier"),
    "a chain by logarithms": (
        lambda: ClassifierChain(logistic(), chain_method="predict_log_proba"), LABELS, "which has no conversion"
    ),
    "a chain of trees by probabilities": (
        lambda: ClassifierChain(forest(), chain_method="predict_proba"), LABELS, "take a linear model in its place"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_be_served_wrong_is_refused(kind: str, tmp_path: Path) -> None:
    make, labels, said = REFUSED[kind]
    with pytest.raises(UnsupportedModel, match=said):
        stored(make().fit(FRAME, labels), tmp_path)


def test_tables_of_probabilities_are_refused_and_one_table_is_served(registry_home: Path) -> None:
    """What MLflow's server gives of a model that was logged so."""
    arguments = {"serialization_format": "cloudpickle", "pyfunc_predict_fn": "predict_proba"}
    with pytest.raises(UnsupportedModel, match="gives a list of tables: log it without"):
        import_version(ImportOrder(logged("sklearn", forest().fit(FRAME, LABELS), FRAME, **arguments), "t1", "labels"))
    model = OneVsRestClassifier(logistic()).fit(FRAME, LABELS)
    uri = logged("sklearn", model, FRAME, **arguments)
    artefact = import_version(ImportOrder(uri, "t2", "labels")).artefact
    with registry.session():
        theirs = mlflow.pyfunc.load_model(uri).predict(HELD_OUT)
    answers: Any = as_model_predicts(artefact.card, scored(artefact, HELD_OUT))
    np.testing.assert_allclose(answers, theirs, atol=1e-5)


# Quantized versions of several values and labels.

LARGE = np.column_stack([VALUE, 3e4 - 1e3 * VALUE, np.full(300, 7.5)])
NETS: dict[Task, tuple[Any, Any]] = {
    Task.MULTIOUTPUT: (MLPRegressor(hidden_layer_sizes=(256, 256), max_iter=20, random_state=1), LARGE / [1, 1e3, 1]),
    Task.MULTILABEL: (MLPClassifier((256, 256), max_iter=8, random_state=1), LABELS),
}


@pytest.mark.parametrize("task", NETS)
def test_a_network_of_several_is_quantized_and_each_measured_by_its_own_spread(task: Task, registry_home: Path) -> None:
    net, targets = NETS[task]
    model = make_pipeline(StandardScaler(), net).fit(FRAME, targets)
    uri = logged("sklearn", model, FRAME, serialization_format="cloudpickle")
    parent = import_version(ImportOrder(uri, f"v-{task}", "quantized")).artefact
    assert parent.card.task is task
    own = open_engine(parent.folder, parent.card, EngineChoice.AUTO)
    for method in Method:
        order = QuantizeOrder(parent.tag, f"v-{task}-{method.value}", method, force=method is not Method.INT8)
        quantized = quantize_version(order).artefact
        card, receipt = quantized.card, quantized.card.quantized
        assert receipt is not None
        assert receipt.times_smaller > (1.8 if method is Method.FLOAT16 else 3)
        assert (card.task, card.outputs, card.classes) == (task, parent.card.outputs, parent.card.classes)
        engine = open_engine(quantized.folder, card, EngineChoice.AUTO)
        check_examples(engine.predict(example_rows(card)), card, quantized.folder)
        before, after = (one.predict(HELD_OUT.to_numpy("f4")) for one in (own, engine))
        unit = np.where(before.std(axis=0) > 0.1, before.std(axis=0), 1.0) if task is Task.MULTIOUTPUT else 1.0
        differs = (np.abs(after - before).mean(axis=0) / unit).max()
        # One scale for a batch is refused for what it does, which the processor has a say in.
        assert (differs < Limits.tolerance) or method is Method.INT8_DYNAMIC
        if task is Task.MULTILABEL:
            rows = np.vstack([example_rows(card), likely_rows(card, DEALT_ROWS)])
            labels = [one.predict(rows) >= card.positive_from for one in (own, engine)]
            assert receipt.same_labels == pytest.approx((labels[0] == labels[1]).all(axis=1).mean())


# A server of two versions, asked in every dialect.

PROGRAM = """
import json, sys
import mlflow, numpy as np, pandas as pd
from sklearn.ensemble import RandomForestClassifier
from xgboost import XGBClassifier

random = np.random.default_rng(0)
frame = pd.DataFrame(random.normal(size=(400, 3)).astype("f4"), columns=["width", "depth", "age"])
labels = pd.DataFrame({"loud": frame["width"] > 0, "old": frame["age"] > 0.5, "fast": frame["width"] > frame["depth"]})
labels = labels.astype(int)
own = {"rows": frame.tail(20).to_numpy().astype(float).tolist()}
for version, model, flavor in (
    ("v1", XGBClassifier(n_estimators=10, n_jobs=1), "xgboost"),
    ("v2", RandomForestClassifier(10, random_state=0, n_jobs=1), "sklearn"),
):
    model.fit(frame, labels)
    getattr(mlflow, flavor).log_model(
        model, name="machine", registered_model_name="machine", input_example=frame.head(10), pip_requirements=[],
        signature=mlflow.models.infer_signature(frame, labels),
        **({"serialization_format": "cloudpickle"} if flavor == "sklearn" else {}),
    )
    scores = model.predict_proba(frame.tail(20))
    scores = np.column_stack([both[:, 1] for both in scores]) if isinstance(scores, list) else scores
    own[version] = {"scores": scores.tolist(), "labels": model.predict(frame.tail(20)).tolist()}
json.dump(own, open(sys.argv[1], "w"))
"""
CONFIGURATION = """
model: machine
versions: {v1: {}, v2: {}}
environments:
  production: {active: v1, weights: {v1: 1}, shadow: v2}
grpc: {port: %d}
"""
NAMES = ["loud", "old", "fast"]


class Machine:
    """The server, held-out rows, and what each version's framework says of them."""

    def __init__(self, server: Server, grpc_port: int, content: dict[str, Any]) -> None:
        self.server, self.grpc_port, self.rows = server, grpc_port, content["rows"]
        self.own: dict[str, Any] = {version: content[version] for version in ("v1", "v2")}

    def ask(self, path: str, body: Any, status: int = 200, **how: Any) -> Any:
        answer = http.post(f"{self.server.url}{path}", json=body, timeout=20, **how)
        assert answer.status_code == status, answer.text
        return answer.json()

    def same(self, scores: Any, labels: Any, version: str = "v1") -> None:
        np.testing.assert_allclose(scores, self.own[version]["scores"], atol=1e-5)
        assert labels == self.own[version]["labels"]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    port = free_port()
    with trained_and_served(tmp_path_factory.mktemp("machine"), PROGRAM, CONFIGURATION % port) as (server, content):
        yield Machine(server, port, content)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_native_answers_are_lists_of_probabilities_and_labels(machine: Machine, version: str) -> None:
    answer = machine.ask("/v1/models/predict", {"instances": machine.rows, "version": version})
    machine.same(answer["predictions"], answer["classes"], version)


def test_single_rows_and_batches_have_lists_and_counts(machine: Machine) -> None:
    alone = [machine.ask("/predict", {"features": row}) for row in machine.rows]
    machine.same([one["prediction"] for one in alone], [one["prediction_class"] for one in alone])
    assert not any("confidence" in one for one in alone)
    batch = machine.ask("/batch_predict", {"instances": machine.rows})
    rows = batch["predictions"]
    machine.same([one["prediction"] for one in rows], [one["prediction_class"] for one in rows])
    counts = np.sum(machine.own["v1"]["labels"], axis=0).tolist()
    assert batch["class_counts"] == dict(zip(NAMES, counts, strict=True))


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_mlflow_answers_labels_as_predict_does_and_probabilities_where_asked(machine: Machine, version: str) -> None:
    body = {"dataframe_split": {"columns": ["width", "depth", "age"], "data": machine.rows}}
    pinned: dict[str, Any] = {"headers": {"X-Model-Version": version}}
    labels = machine.ask("/invocations", body, **pinned)["predictions"]
    assert str(labels) == str(machine.own[version]["labels"]), "numbers with a point are such"
    asked = body | {"params": {"predict_method": "predict_proba"}}
    machine.same(machine.ask("/invocations", asked, **pinned)["predictions"], labels, version)
    kserve = machine.ask("/v1/models/machine:predict", {"instances": machine.rows}, **pinned)["predictions"]
    machine.same(kserve, labels, version)


def test_tensors_are_matrices(machine: Machine) -> None:
    flat = np.ravel(machine.rows).tolist()
    tensor = {"name": "input", "datatype": "FP32", "shape": [20, 3], "data": flat}
    scores, labels = machine.ask("/v2/models/machine/infer", {"inputs": [tensor]})["outputs"]
    assert (labels["datatype"], scores["shape"], labels["shape"]) == ("INT64", [20, 3], [20, 3])
    machine.same(np.reshape(scores["data"], [20, 3]), np.reshape(labels["data"], [20, 3]).tolist())
    metadata = http.get(f"{machine.server.url}/v2/models/machine", timeout=20).json()
    assert [output["shape"] for output in metadata["outputs"]] == [[-1, 3], [-1, 3]]
    best = {"name": "predictions", "parameters": {"classification": 1}}
    machine.ask("/v2/models/machine/infer", {"inputs": [tensor], "outputs": [best]}, 400)
    request = messages.ModelInferRequest(model_name="machine")
    request.inputs.add(name="input", datatype="FP32", shape=[20, 3]).contents.fp32_contents.extend(flat)
    with grpc.insecure_channel(f"127.0.0.1:{machine.grpc_port}") as channel:
        ask = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        scores_over, labels_over = ask(request, timeout=20).outputs
    assert list(labels_over.shape) == [20, 3]
    found = np.reshape(list(labels_over.contents.int64_contents), (20, 3)).tolist()
    machine.same(np.reshape(list(scores_over.contents.fp32_contents), (20, 3)), found)


def test_labels_are_joined_and_shadows_and_metrics_count_them(machine: Machine) -> None:
    with Client(machine.server.url) as client:
        made = client.predict(machine.rows)
        machine.same(made.predictions, made.classes)
        signature = client.version("v2").signature
        assert signature is not None
        assert (signature.task, [*signature.outputs], [*signature.classes]) == ("multilabel", NAMES, [0, 1])
        for index, right in enumerate(machine.own["v1"]["labels"][:4]):
            label: Any = dict(zip(NAMES, right, strict=True)) if index % 2 else [1 - right[0], *right[1:]]
            assert client.feedback(made.prediction_id, index=index, label=label).accepted == 1
        refused = machine.ask("/v1/feedback", {"prediction_id": made.prediction_id, "index": 5, "label": 1}, 422)
        assert "a list of 3 labels (0, 1), or an object of them: loud, old, fast" in refused["error"]["message"]

        def compared() -> bool:
            return machine.server.metric("shokado_shadow_rows_total", version="v1") > 0

        wait_until(compared, 10)
        told = client.metrics("v1")
        assert told.quality is not None
        assert told.quality.accuracy is not None
        assert (told.quality.accuracy.value, told.quality.accuracy.observations) == (0.5, 4)
        outputs = told.since_start.predictions.outputs
        assert set(outputs) == set(NAMES)
        assert all(bucket.up_to is not None and bucket.up_to <= 1 for bucket in outputs["loud"])


def test_examples_of_the_description_are_answered(machine: Machine) -> None:
    described = http.get(f"{machine.server.url}/openapi.json", timeout=20).json()
    examples = described["paths"]["/v1/models/predict"]["post"]["requestBody"]["content"]["application/json"][
        "examples"
    ]
    for example in examples.values():
        answer = machine.ask("/v1/models/predict", example["value"])
        assert all(len(row) == 3 for row in answer["classes"])
