"""What models answer that is not one value or probabilities: served as the framework answers it, in every dialect."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bentoml
import grpc
import mlflow
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor, IsolationForest, RandomForestRegressor
from sklearn.linear_model import (
    ElasticNet,
    LinearRegression,
    MultiTaskLasso,
    PassiveAggressiveClassifier,
    Perceptron,
    Ridge,
    RidgeClassifier,
    RidgeClassifierCV,
    RidgeCV,
    SGDClassifier,
    SGDOneClassSVM,
)
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor, RegressorChain
from sklearn.neighbors import KNeighborsRegressor, LocalOutlierFactor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC, NuSVC, OneClassSVM
from sklearn.tree import DecisionTreeRegressor, ExtraTreeRegressor

from configuration.settings import EngineChoice
from runners.artefacts.card import Card, FileKind, Task
from runners.artefacts.scores import as_model_predicts
from runners.engines.engine import example_rows, open_engine
from runners.runner import check_examples
from shokado.client import Client
from shokado.lifecycle.importing import conversion, verification, version
from shokado.lifecycle.importing.registry import LoadedModel
from shokado.lifecycle.importing.version import ImportOrder
from shokado.transports.grpc import open_inference_pb2 as messages
from tests.support import http
from tests.support.server import ROOT, Server, free_port, serving
from tests.support.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RANDOM = np.random.default_rng(11)
FRAME, HELD_OUT = (
    pd.DataFrame(
        {
            "visits": RANDOM.integers(0, 9, 300).astype(np.float32),
            "spent": RANDOM.uniform(0, 50, 300).astype(np.float32),
            "age": RANDOM.normal(40, 10, 300).astype(np.float32),
        }
    )
    for _ in range(2)
)
VALUE = (FRAME["visits"] + FRAME["spent"] / 5 + RANDOM.normal(size=300)).to_numpy()
BOTH = np.column_stack([VALUE, 3 - 1e5 * FRAME["age"], np.full(300, 7.5)])
"""Values of very different sizes, of which the last is always the same."""


def scaled(model: Any) -> Any:
    return make_pipeline(StandardScaler(), model)


SEVERAL_VALUES: dict[str, Callable[[], Any]] = {
    "LinearRegression": LinearRegression,
    "Ridge": lambda: Ridge(alpha=[1.0, 2.0, 3.0]),
    "RidgeCV": RidgeCV,
    "ElasticNet": ElasticNet,
    "MultiTaskLasso": MultiTaskLasso,
    "DecisionTreeRegressor": lambda: DecisionTreeRegressor(max_depth=6),
    "ExtraTreeRegressor": lambda: ExtraTreeRegressor(max_depth=6),
    "RandomForestRegressor": lambda: RandomForestRegressor(10, n_jobs=1),
    "ExtraTreesRegressor": lambda: ExtraTreesRegressor(10, n_jobs=1),
    "KNeighborsRegressor": lambda: scaled(KNeighborsRegressor(3)),
    "MLPRegressor": lambda: scaled(MLPRegressor(hidden_layer_sizes=(8,), max_iter=300, random_state=0)),
    "forest behind a scaler": lambda: scaled(RandomForestRegressor(10, n_jobs=1)),
    "search": lambda: GridSearchCV(scaled(Ridge()), {"ridge__alpha": [0.1, 1.0]}, cv=2),
    "columns": lambda: make_pipeline(ColumnTransformer([("all", StandardScaler(), [0, 1, 2])]), Ridge()),
    "MultiOutputRegressor of boosting": lambda: MultiOutputRegressor(GradientBoostingRegressor(n_estimators=8)),
    "MultiOutputRegressor of pipelines": lambda: MultiOutputRegressor(scaled(Ridge())),
    "RegressorChain": lambda: RegressorChain(Ridge(), order=[2, 0, 1]),
    "RegressorChain of pipelines behind a scaler": lambda: scaled(RegressorChain(scaled(Ridge()))),
}


def stored(model: Any, folder: Path, frame: pd.DataFrame = FRAME) -> Card:
    """The card of the model's files in that folder, verified as an import does it."""
    source = LoadedModel(
        model, "models:/x/1", "", "sklearn", "sklearn", mlflow.models.infer_signature(frame), frame[:3], {}, {}
    )
    description = conversion.describe(source)
    kinds = conversion.convert(source.model, description, folder)
    verified = verification.verify(source, description, folder, kinds, 1e-4)
    return version._card(ImportOrder("models:/x/1", "v1"), source, description, folder, verified)


def served(card: Card, folder: Path, rows: pd.DataFrame) -> NDArray[np.float32]:
    engine = open_engine(folder, card, EngineChoice.AUTO)
    check_examples(engine.predict(example_rows(card)), card, folder)
    return engine.predict(rows.to_numpy("f4"))


@pytest.mark.parametrize("kind", SEVERAL_VALUES)
def test_several_values_are_those_of_the_framework(kind: str, tmp_path: Path) -> None:
    model = SEVERAL_VALUES[kind]().fit(FRAME, BOTH)
    card = stored(model, tmp_path)
    assert (card.task, card.scores_per_row) == (Task.MULTIOUTPUT, 3)
    scores, wanted = served(card, tmp_path, HELD_OUT), model.predict(HELD_OUT)
    assert (np.abs(scores - wanted) <= np.maximum(card.verification[FileKind.ONNX].tolerances, 1e-5)).all()
    answers: Any = as_model_predicts(card, scores)
    np.testing.assert_allclose(answers, wanted, rtol=1e-4, atol=1e-4)


# Labels without probabilities.

YES = np.where(VALUE > 9, "yes", "no")
THREE = np.array([2, 5, 9])[np.digitize(VALUE, [7, 11])]
DECISIONS: dict[str, tuple[Callable[[], Any], Any]] = {
    "LinearSVC": (LinearSVC, YES),
    "LinearSVC of three": (lambda: scaled(LinearSVC()), THREE),
    "LinearSVC of all at once": (lambda: scaled(LinearSVC(multi_class="crammer_singer")), THREE),
    "LinearSVC of truth values": (lambda: scaled(LinearSVC(fit_intercept=False)), VALUE > 9),
    "SGDClassifier": (lambda: scaled(SGDClassifier()), YES),
    "SGDClassifier of three": (lambda: scaled(SGDClassifier(loss="squared_hinge")), THREE),
    "Perceptron": (lambda: scaled(Perceptron()), YES),
    "PassiveAggressiveClassifier": (lambda: scaled(PassiveAggressiveClassifier()), THREE),
    "RidgeClassifier": (RidgeClassifier, YES),
    "RidgeClassifierCV": (lambda: scaled(RidgeClassifierCV()), THREE),
    "SVC": (lambda: scaled(SVC()), YES),
    "SVC with a line": (lambda: scaled(SVC(kernel="linear")), YES),
    "SVC of a polynomial": (lambda: scaled(SVC(kernel="poly", degree=2, coef0=1.0)), YES),
    "SVC of a sigmoid": (lambda: scaled(SVC(kernel="sigmoid", gamma=0.1)), YES),
    "NuSVC": (lambda: scaled(NuSVC(nu=0.3)), VALUE > 9),
    "one against the rest": (lambda: scaled(OneVsRestClassifier(SVC())), THREE),
    "one line against the rest": (lambda: OneVsRestClassifier(scaled(LinearSVC())), THREE),
    "one against one other": (lambda: scaled(OneVsRestClassifier(Perceptron())), YES),
    "search": (lambda: GridSearchCV(scaled(LinearSVC()), {"linearsvc__C": [0.1, 1.0]}, cv=2), YES),
    "columns": (lambda: make_pipeline(ColumnTransformer([("all", StandardScaler(), [2, 0])]), LinearSVC()), YES),
    "IsolationForest": (lambda: IsolationForest(random_state=0), None),
    "IsolationForest of few": (
        lambda: IsolationForest(n_estimators=7, max_samples=40, contamination=0.2, bootstrap=True, max_features=0.7),
        None,
    ),
    "IsolationForest behind a scaler": (lambda: scaled(IsolationForest(n_estimators=20, contamination=0.1)), None),
    "OneClassSVM": (lambda: scaled(OneClassSVM(nu=0.2)), None),
    "SGDOneClassSVM": (lambda: scaled(SGDOneClassSVM(nu=0.2)), None),
    "LocalOutlierFactor": (lambda: LocalOutlierFactor(novelty=True, contamination=0.1), None),
    "LocalOutlierFactor behind a scaler": (lambda: scaled(LocalOutlierFactor(9, novelty=True)), None),
    "KMeans": (lambda: KMeans(5, n_init=1), None),
    "KMeans of two": (lambda: scaled(KMeans(2, n_init=1)), None),
    "MiniBatchKMeans": (lambda: scaled(MiniBatchKMeans(4, n_init=1)), None),
}


@pytest.mark.parametrize("kind", DECISIONS)
def test_labels_without_probabilities_are_those_of_the_framework(kind: str, tmp_path: Path) -> None:
    make, targets = DECISIONS[kind]
    model = make().fit(FRAME, targets)
    card = stored(model, tmp_path)
    scores, labels = served(card, tmp_path, HELD_OUT), model.predict(HELD_OUT).tolist()
    if hasattr(model, "decision_function"):
        own = model.decision_function(HELD_OUT)
        np.testing.assert_allclose(scores, own, rtol=1e-4, atol=1e-4 * max(1, own.std()))
    assert len(set(labels)) > 1
    assert as_model_predicts(card, scores) == labels


def test_texts_beside_numbers_are_decided_without_probabilities(tmp_path: Path) -> None:
    frame = FRAME.assign(port=RANDOM.choice(["S", "C", "Q"], 300))
    transformer = ColumnTransformer(
        [("n", StandardScaler(), ["age", "spent"]), ("t", OneHotEncoder(handle_unknown="ignore"), ["port"])]
    )
    model = make_pipeline(transformer, LinearSVC()).fit(frame, YES)
    card = stored(model, tmp_path, frame)
    (port,) = (feature for feature in card.features if feature.levels)
    assert port.other
    rows = [{**row, "port": name} for row, name in zip(frame.to_dict("records"), ["S", "Z"] * 20, strict=False)]
    packed = card.row_format.join([card.row_format.pack(rows)], len(rows))
    scores = open_engine(tmp_path, card, EngineChoice.AUTO).predict(packed)
    np.testing.assert_allclose(scores, model.decision_function(pd.DataFrame(rows)), rtol=1e-4, atol=1e-5)


# A server of two versions of a model of several values, asked in every dialect.

PROGRAM = """
import json, sys
import mlflow, numpy as np, pandas as pd
from sklearn.ensemble import RandomForestRegressor
from xgboost import XGBRegressor

random = np.random.default_rng(0)
frame = pd.DataFrame(random.normal(size=(400, 3)).astype("f4"), columns=["width", "depth", "age"])
values = pd.DataFrame({"speed": frame["width"] * 2 + frame["age"], "cost": 1e4 * frame["depth"] + 7})
own = {}
for model, flavor in (
    (XGBRegressor(n_estimators=10, n_jobs=1, multi_strategy="multi_output_tree"), "xgboost"),
    (RandomForestRegressor(10, random_state=0, n_jobs=1), "sklearn"),
):
    model.fit(frame, values)
    getattr(mlflow, flavor).log_model(
        model, name="machine", registered_model_name="machine", input_example=frame.head(10), pip_requirements=[],
        signature=mlflow.models.infer_signature(frame, values),
        **({"serialization_format": "cloudpickle"} if flavor == "sklearn" else {}),
    )
    own[flavor] = np.asarray(model.predict(frame.tail(20))).tolist()
json.dump({"rows": frame.tail(20).to_numpy().astype(float).tolist(), "v1": own["xgboost"], "v2": own["sklearn"]},
    open(sys.argv[1], "w"))
"""
CONFIGURATION = """
model: machine
versions: {v1: {}, v2: {}}
environments:
  production: {active: v1, weights: {v1: 1}, shadow: v2}
grpc: {port: %d}
"""


class Machine:
    """The server, held-out rows, and what each version's framework gives them: (rows, 2)."""

    def __init__(self, server: Server, grpc_port: int, content: dict[str, Any]) -> None:
        self.server, self.grpc_port, self.rows = server, grpc_port, content["rows"]
        self.own = {version: np.array(content[version]) for version in ("v1", "v2")}

    def ask(self, path: str, body: Any, status: int = 200, **how: Any) -> Any:
        answer = http.post(f"{self.server.url}{path}", json=body, timeout=20, **how)
        assert answer.status_code == status, answer.text
        return answer.json()

    def close(self, scores: Any, version: str = "v1") -> None:
        assert np.shape(scores) == (20, 2)
        np.testing.assert_allclose(scores, self.own[version], rtol=1e-4, atol=1e-3)


@contextlib.contextmanager
def trained_and_served(folder: Path, program: str, configuration: str) -> Iterator[tuple[Server, dict[str, Any]]]:
    """A server of the two versions that a program registers, and what it wrote down of them."""
    places = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "BENTOML_HOME": str(folder / "bentoml")}
    (folder / "serving.yaml").write_text(configuration)
    shokado, model = str(Path(sys.executable).with_name("shokado")), configuration.split()[1]
    commands = [
        [sys.executable, "-W", "ignore", "-c", program, str(folder / "own.json")],
        *([shokado, "models", "import", f"models:/{model}/{number}", "--as", f"v{number}"] for number in (1, 2)),
    ]
    for command in commands:
        ended = subprocess.run(
            command, cwd=folder if command[0] == sys.executable else ROOT, env={**os.environ, **places},
            capture_output=True, text=True, timeout=250, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
    environment = {**places, "SHOKADO_CONFIG": str(folder / "serving.yaml"), "SHOKADO_WORKERS": "1"}
    with serving(environment=environment) as server:
        yield server, json.loads((folder / "own.json").read_text())


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    port = free_port()
    with trained_and_served(tmp_path_factory.mktemp("machine"), PROGRAM, CONFIGURATION % port) as (server, content):
        yield Machine(server, port, content)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_native_answers_are_lists_of_values(machine: Machine, version: str) -> None:
    answer = machine.ask("/v1/models/predict", {"instances": machine.rows, "version": version})
    machine.close(answer["predictions"], version)
    assert "classes" not in answer
    packed = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}
    packed["X-Model-Version"] = version
    body = np.array(machine.rows, "<f4").tobytes()
    raw = http.post(f"{machine.server.url}/v1/models/predict", content=body, headers=packed, timeout=20)
    machine.close(np.frombuffer(raw.content, "<f4").reshape(-1, 2), version)


def test_single_rows_and_batches_have_lists_of_values(machine: Machine) -> None:
    alone = [machine.ask("/predict", {"features": row}) for row in machine.rows]
    machine.close([one["prediction"] for one in alone])
    assert not any({"prediction_class", "confidence"} & one.keys() for one in alone)
    batch = machine.ask("/batch_predict", {"instances": machine.rows})
    machine.close([one["prediction"] for one in batch["predictions"]])


def test_mlflow_and_kserve_answer_rows_of_lists(machine: Machine) -> None:
    names = ["width", "depth", "age"]
    frame = {"dataframe_split": {"columns": names, "data": machine.rows}}
    machine.close(machine.ask("/invocations", frame)["predictions"])
    machine.close(machine.ask("/v1/models/machine:predict", {"instances": machine.rows})["predictions"])
    refused = machine.ask("/invocations", frame | {"params": {"predict_method": "predict_proba"}}, 422)
    assert "a multioutput model has no predict_proba" in refused["message"]


def test_tensors_are_matrices(machine: Machine) -> None:
    flat = np.ravel(machine.rows).tolist()
    tensor = {"name": "input", "datatype": "FP32", "shape": [20, 3], "data": flat}
    (output,) = machine.ask("/v2/models/machine/infer", {"inputs": [tensor]})["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("predictions", "FP32", [20, 2])
    machine.close(np.reshape(output["data"], output["shape"]))
    metadata = http.get(f"{machine.server.url}/v2/models/machine", timeout=20).json()
    assert metadata["outputs"] == [{"name": "predictions", "datatype": "FP32", "shape": [-1, 2]}]
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
        (over_grpc,) = ask(request, timeout=20).outputs
    assert list(over_grpc.shape) == [20, 2]
    machine.close(np.reshape(list(over_grpc.contents.fp32_contents), (20, 2)))


def test_clients_get_lists_of_values_and_their_names(machine: Machine) -> None:
    with Client(machine.server.url) as client:
        machine.close(client.predict(machine.rows).predictions)
        signature = client.version("v2").signature
        assert signature is not None
        assert (signature.task, tuple(signature.outputs), tuple(signature.classes)) == (
            "multioutput",
            ("speed", "cost"),
            (),
        )
    with bentoml.SyncHTTPClient(machine.server.url) as client:
        machine.close(client.predict(instances=machine.rows)["predictions"])


def test_labels_are_several_values_and_shadows_and_metrics_count_them(machine: Machine) -> None:
    with Client(machine.server.url) as client:
        made = client.predict(machine.rows)
        speed, cost = made.predictions[3]
        assert client.feedback(made.prediction_id, index=3, label=[speed + 1, cost]).accepted == 1
        by_name = {"cost": cost + 2, "speed": speed}
        assert client.feedback(made.prediction_id, index=4, label=by_name).accepted == 1
        refused = machine.ask("/v1/feedback", {"prediction_id": made.prediction_id, "index": 5, "label": 3.0}, 422)
        assert "it must be a list of 2 numbers, or an object of them: speed, cost" in refused["error"]["message"]

        def compared() -> bool:
            return machine.server.metric("shokado_shadow_rows_total", version="v1") > 0

        wait_until(compared, 10)
        told = client.metrics("v1").since_start.predictions
        assert set(told.outputs) == {"speed", "cost"}
        assert sum(bucket.rows for bucket in told.outputs["speed"]) == told.rows > 0
        quality = client.metrics("v1").quality
        assert quality is not None
        assert quality.labels == 2
        assert quality.mean_squared_error is not None


ANOMALIES = """
import json, sys
import mlflow, numpy as np, pandas as pd
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

random = np.random.default_rng(0)
frame = pd.DataFrame(random.normal(size=(400, 3)).astype("f4"), columns=["width", "depth", "age"])
held = pd.DataFrame(random.normal(size=(20, 3)).astype("f4") * 2, columns=frame.columns)
own = {"rows": held.to_numpy().astype(float).tolist()}
forest = IsolationForest(n_estimators=30, contamination=0.1, random_state=0)
for version, model in (("v1", forest), ("v2", make_pipeline(StandardScaler(), OneClassSVM(nu=0.1)))):
    model.fit(frame)
    mlflow.sklearn.log_model(
        model, name="alarm", registered_model_name="alarm", input_example=frame.head(10), pip_requirements=[],
        serialization_format="cloudpickle",
    )
    own[version] = {"scores": model.decision_function(held).tolist(), "labels": model.predict(held).tolist()}
json.dump(own, open(sys.argv[1], "w"))
"""
ALARM = """
model: alarm
versions: {v1: {}, v2: {}}
environments:
  production: {active: v1, weights: {v1: 1}}
"""


def test_anomalies_are_told_in_every_dialect(tmp_path: Path) -> None:
    with trained_and_served(tmp_path, ANOMALIES, ALARM) as (server, own):

        def ask(path: str, body: Any, status: int = 200) -> Any:
            answer = http.post(f"{server.url}{path}", json=body, timeout=20)
            assert answer.status_code == status, answer.text
            return answer.json()

        rows = own["rows"]
        for version in ("v1", "v2"):
            answer = ask("/v1/models/predict", {"instances": rows, "version": version})
            np.testing.assert_allclose(answer["predictions"], own[version]["scores"], atol=1e-4)
            assert answer["classes"] == own[version]["labels"]
        assert set(own["v1"]["labels"]) == {-1, 1}
        one = ask("/predict", {"features": rows[0]})
        assert one["prediction_class"] == own["v1"]["labels"][0]
        assert "confidence" not in one
        frame = {"dataframe_split": {"columns": ["width", "depth", "age"], "data": rows}}
        assert ask("/invocations", frame)["predictions"] == own["v1"]["labels"]
        refused = ask("/invocations", frame | {"params": {"predict_method": "predict_proba"}}, 422)
        assert "an anomaly model has no predict_proba" in refused["message"]
        tensor = {"name": "input", "datatype": "FP32", "shape": [20, 3], "data": np.ravel(rows).tolist()}
        outputs = ask("/v2/models/alarm/infer", {"inputs": [tensor]})["outputs"]
        assert [output["name"] for output in outputs] == ["predictions", "classes"]
        assert outputs[1]["data"] == own["v1"]["labels"]
        with Client(server.url) as client:
            made = client.predict(rows)
            for index, label in enumerate(own["v1"]["labels"][:4]):
                assert client.feedback(made.prediction_id, index=index, label=label if index else -label).accepted == 1
            quality = client.metrics("v1").quality
            assert quality is not None
            assert quality.accuracy is not None
            assert (quality.accuracy.value, quality.accuracy.observations) == (0.75, 4)
