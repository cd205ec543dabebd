"""Imports out of a real registry into a real store: what is stored, what is refused, what is left alone."""

import contextlib
import json
import os
import re
import shlex
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import mlflow
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import xgboost
from sklearn.cluster import DBSCAN
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from runners.artefacts import repository
from runners.artefacts.card import FileKind, Task, read_card
from runners.artefacts.integrity import describe_file
from shokado.lifecycle import datasets
from shokado.lifecycle.errors import LifecycleError, SourceNotFound, UnsupportedModel, VerificationFailed, VersionTaken
from shokado.lifecycle.importing import registry, verification
from shokado.lifecycle.importing.conversion import ModelDescription
from shokado.lifecycle.importing.framework import Framework
from shokado.lifecycle.importing.registry import Formats
from shokado.lifecycle.importing.verification_rows import RANDOM_ROWS
from shokado.lifecycle.importing.version import Imported, ImportOrder, ImportOutcome, WhenTaken, import_version

TAGS = [f"{name}:{label}" for name in datasets.NAMES for label in ("v1", "v2")]
FLAVORS = {"v1": "xgboost", "v2": "sklearn"}


@pytest.mark.parametrize("tag", TAGS)
def test_the_card_is_right(tag: str, prepared: dict[str, Imported]) -> None:
    name, label = tag.split(":")
    artefact, data = prepared[tag].artefact, datasets.load(name)
    card = read_card(artefact.folder)
    assert (card.model, card.version, card.task) == (name, label, data.task)
    assert (card.features, card.classes) == (data.features, data.classes)
    assert card.source.uri == f"models:/{name}/{label[1]}"
    assert card.source.flavor == (FLAVORS[label] if data.row_format.text_field is None else "sklearn")
    assert len(card.source.run_id) == 32
    assert card.source.framework.split()[0] in ("xgboost", "scikit-learn")
    kinds = {FileKind.ONNX, FileKind.UBJ} if card.source.flavor == "xgboost" else {FileKind.ONNX}
    assert set(card.files) == set(card.verification) == kinds
    for kind, file in card.files.items():
        assert describe_file(artefact.folder / kind.file_name) == file
    for receipt in card.verification.values():
        assert receipt.rows == len(data.test.rows)
        assert receipt.max_abs_difference <= receipt.tolerance


@pytest.mark.parametrize("tag", TAGS)
def test_files_score_like_the_framework(tag: str, prepared: dict[str, Imported], tmp_path: Path) -> None:
    artefact = prepared[tag].artefact
    card, rows = artefact.card, datasets.load(artefact.card.model).test.rows
    description = ModelDescription(task=card.task, features=card.features, classes=card.classes)
    with registry.session() as client:
        model = registry.fetch(client, card.source.uri, tmp_path).model
        expected = Framework(model, description).scores(rows)
    tolerance = 1e-5 * (expected.std() if card.task is Task.REGRESSION else 1)
    for kind in card.files:
        scores = verification.file_scores(kind, artefact.folder / kind.file_name, description, rows)
        np.testing.assert_allclose(scores, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("tag", TAGS)
def test_the_card_carries_rows_with_the_scores_that_a_server_gives(tag: str, prepared: dict[str, Imported]) -> None:
    artefact = prepared[tag].artefact
    card, examples = artefact.card, artefact.card.examples
    assert examples is not None
    tested = datasets.load(card.model).test.rows
    rows = np.array(examples.rows, dtype=tested.dtype).reshape(-1, len(card.features))
    np.testing.assert_array_equal(rows, tested[: len(rows)])
    description = ModelDescription(task=card.task, features=card.features, classes=card.classes)
    path = artefact.folder / "model.onnx"
    scores = verification.file_scores(FileKind.ONNX, path, description, rows)
    expected = scores if card.task is Task.MULTICLASS else scores[:, -1]
    np.testing.assert_allclose(np.array(examples.scores, dtype=np.float64), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tag", TAGS)
def test_the_onnx_contract(tag: str, prepared: dict[str, Imported]) -> None:
    artefact = prepared[tag].artefact
    width, classes = len(artefact.card.features), len(artefact.card.classes)
    path = artefact.folder / "model.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,), (got,) = session.get_inputs(), session.get_outputs()
    is_text = artefact.card.input_datatype == "BYTES"
    expected = ("text_0", "tensor(string)") if is_text else ("input", "tensor(float)")
    assert (given.name, given.type, given.shape) == (*expected, ["N", width])
    name, columns = ("probabilities", classes) if classes else ("value", 1)
    assert (got.name, got.type, got.shape) == (name, "tensor(float)", ["N", columns])
    for count in (1, 7):
        rows = np.full((count, width), "", object) if is_text else np.zeros((count, width), np.float32)
        assert session.run(None, {given.name: rows})[0].shape == (count, columns)
    assert not {node.op_type for node in onnx.load(path).graph.node} & {"ArgMax", "ZipMap"}


def test_importing_again_does_nothing(prepared: dict[str, Imported]) -> None:
    folder = prepared["customers:v1"].artefact.folder
    before = folder.stat().st_mtime_ns
    for uri in ("models:/customers/1", "models:/customers@champion"):
        assert import_version(ImportOrder(uri, "v1")).outcome is ImportOutcome.ALREADY_THERE
    assert folder.stat().st_mtime_ns == before


def test_the_same_model_gives_the_same_bytes(prepared: dict[str, Imported], own_store: Path) -> None:
    for label in ("v1", "v2"):
        imported = import_version(ImportOrder(f"models:/iris/{label[1]}", label))
        assert imported.outcome is ImportOutcome.IMPORTED
        assert imported.artefact.card.files == prepared[f"iris:{label}"].artefact.card.files


def test_a_run_address_and_another_name(prepared: dict[str, Imported], own_store: Path) -> None:
    run = prepared["customers:v2"].artefact.card.source.run_id
    imported = import_version(ImportOrder(f"runs:/{run}/model", "v4", model="clients"))
    assert imported.artefact.tag == "clients:v4"
    assert imported.artefact.card.source.uri == f"runs:/{run}/model"
    assert imported.artefact.card.classes == (0, 1)


def test_another_source_needs_replace(prepared: dict[str, Imported], own_store: Path) -> None:
    import_version(ImportOrder("models:/iris/1", "v1"))
    with pytest.raises(VersionTaken, match="iris:v1 is models:/iris/1, not models:/iris/2"):
        import_version(ImportOrder("models:/iris/2", "v1"))
    assert (
        import_version(ImportOrder("models:/iris/2", "v1", when_taken=WhenTaken.REPLACE)).outcome
        is ImportOutcome.REPLACED
    )
    artefact = repository.look_up("iris", "v1")
    assert artefact is not None
    assert artefact.card.source.uri == "models:/iris/2"
    assert sorted(path.name for path in artefact.folder.iterdir()) == [
        "background.json",
        "card.json",
        "model.onnx",
        "model.yaml",
        "reference.json",
    ]


def test_beside_what_is_there_the_label_gets_a_number_or_else_a_digest(
    prepared: dict[str, Imported], own_store: Path
) -> None:
    def imported(uri: str) -> str:
        return import_version(ImportOrder(uri, "v1", model="toy", when_taken=WhenTaken.BESIDE)).artefact.tag

    assert imported("models:/iris/1") == "toy:v1"
    assert imported("models:/iris/2") == "toy:v1-2"
    last = imported("models:/customers/2")
    assert re.fullmatch(r"toy:v1-[0-9a-f]{8}", last)
    for uri, tag in {
        "models:/iris/1": "toy:v1",
        "models:/iris@challenger": "toy:v1-2",
        "models:/customers/2": last,
    }.items():
        assert imported(uri) == tag
    assert len(repository.artefacts("toy")) == 3


@pytest.mark.parametrize("change", [{"format": 0}, {"surprise": 1}], ids=["another format", "unknown key"])
def test_a_card_that_cannot_be_read_is_imported_again(
    change: dict[str, int], prepared: dict[str, Imported], own_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = import_version(ImportOrder("models:/iris/2", "v2")).artefact.folder
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | change))
    assert import_version(ImportOrder("models:/iris/2", "v2")).outcome is ImportOutcome.REPLACED
    assert "iris:v2 cannot be served" in capsys.readouterr().out
    assert read_card(folder).model == "iris"


def test_refused_verification_stores_nothing(prepared: dict[str, Imported], own_store: Path) -> None:
    with pytest.raises(VerificationFailed, match="Nothing was stored"):
        import_version(ImportOrder("models:/customers/1", "v1", tolerance=1e-12))
    assert not (own_store / "models").exists()
    assert not list((own_store / "tmp").glob("shokado-import-*"))


def test_refused_replacement_keeps_the_old_one(prepared: dict[str, Imported], own_store: Path) -> None:
    import_version(ImportOrder("models:/iris/1", "v1"))
    with pytest.raises(VerificationFailed):
        import_version(ImportOrder("models:/iris/2", "v1", when_taken=WhenTaken.REPLACE, tolerance=1e-12))
    artefact = repository.look_up("iris", "v1")
    assert artefact is not None
    assert artefact.card.source.uri == "models:/iris/1"


def test_two_imports_at_once_do_the_work_once(prepared: dict[str, Imported], own_store: Path) -> None:
    outcomes: list[ImportOutcome] = []
    order = ImportOrder("models:/iris/2", "v2")
    threads = [threading.Thread(target=lambda: outcomes.append(import_version(order).outcome)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [ImportOutcome.ALREADY_THERE, ImportOutcome.IMPORTED]


ABSENT = ("customers/77", "customers@nobody", "nothing/1", "nothing/latest", "nothing", f"m-{'0' * 32}")


@pytest.mark.parametrize("uri", [*(f"models:/{name}" for name in ABSENT), "runs:/0/m"])
def test_a_source_that_is_not_there(uri: str, prepared: dict[str, Imported], own_store: Path) -> None:
    with pytest.raises(SourceNotFound, match=re.escape(uri.removesuffix("/latest").rpartition("/")[2])):
        import_version(ImportOrder(uri, "v9", model="toy"))


@pytest.mark.parametrize("uri", ["models:/iris/latest", "models:/iris", "models:/iris@challenger"])
def test_an_address_that_moves_is_stored_as_what_it_means_now(
    uri: str, prepared: dict[str, Imported], own_store: Path
) -> None:
    imported = import_version(ImportOrder(uri, "v7"))
    assert (imported.artefact.tag, imported.artefact.card.source.uri) == ("iris:v7", "models:/iris/2")


def test_a_logged_model_is_imported_by_its_id(log_model: Callable[..., str], own_store: Path) -> None:
    run = log_model("sklearn", LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]))
    with registry.session() as client:
        outputs = client.get_run(run.split("/")[1]).outputs
        assert outputs is not None
        (logged,) = outputs.model_outputs
    uri = f"models:/{logged.model_id}"
    with pytest.raises(LifecycleError, match="does not say which model"):
        ImportOrder(uri, "v1")
    imported = import_version(ImportOrder(uri, "v1", model="line"))
    assert imported.artefact.card.source.uri == uri
    assert import_version(ImportOrder(uri, "v1", model="line")).outcome is ImportOutcome.ALREADY_THERE


@pytest.mark.parametrize(
    ("name", "fitting"), [("Titanic_RF", "titanic_rf"), ("my model (new)", "my-model-new"), ("latest", "model")]
)
def test_a_name_that_the_store_does_not_take_is_offered_in_one_that_it_does(name: str, fitting: str) -> None:
    uri = f"models:/{name}/3"
    with pytest.raises(LifecycleError, match="cannot be a model name") as refused:
        ImportOrder(uri, "v1")
    command = refused.value.next_command
    assert command is not None
    assert shlex.split(command) == ["shokado", "models", "import", uri, "--name", fitting, "--as", "v1"]
    assert ImportOrder(uri, "v1", model=fitting).name == fitting


def test_artifacts_that_are_gone(
    prepared: dict[str, Imported], own_store: Path, log_model: Callable[..., str], registry_home: Path
) -> None:
    uri = log_model("sklearn", LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]))
    shutil.rmtree(registry_home / "mlartifacts" / "strangers")
    with pytest.raises(SourceNotFound, match="cannot be read"):
        import_version(ImportOrder(uri, "v9", model="toy"))


@pytest.mark.parametrize("uri", ["customers", "models:/customers/Production", "file:///etc/passwd", "models:/a/b/c"])
def test_what_is_no_address(uri: str) -> None:
    with pytest.raises(SourceNotFound, match="no address of a model"):
        ImportOrder(uri, "v1", model="toy")


def test_a_run_has_no_name() -> None:
    with pytest.raises(LifecycleError, match="--name"):
        ImportOrder("runs:/0a/model", "v1")


def test_a_foreign_flavor_is_refused(log_model: Callable[..., str], own_store: Path) -> None:
    def echo(model_input: list[str]) -> list[str]:
        return model_input

    uri = log_model("pyfunc", echo, input_example=["a"])
    with pytest.raises(UnsupportedModel, match="sklearn, onnx, pytorch, keras, statsmodels can be imported"):
        import_version(ImportOrder(uri, "v1", model="echo"))
    assert repository.artefacts() == []


def test_a_strangers_classifier_with_text_labels(log_model: Callable[..., str], own_store: Path) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 2)), columns=["left", "right"])
    model = LogisticRegression().fit(frame, np.where(frame["left"] > 0, "yes", "no"))
    signature = mlflow.models.infer_signature(frame, model.predict(frame))
    uri = log_model("sklearn", model, signature=signature, input_example=frame[:3])
    card = import_version(ImportOrder(uri, "v1", model="stranger")).artefact.card
    assert (card.task, card.classes, card.feature_names) == (Task.BINARY, ("no", "yes"), ("left", "right"))
    assert card.verification[FileKind.ONNX].rows > 3 + RANDOM_ROWS


def test_a_strangers_booster_without_names(log_model: Callable[..., str], own_store: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    targets = (rows[:, 0] > 0).astype(int) + (rows[:, 1] > 0)
    parameters = {"objective": "multi:softprob", "num_class": 3, "max_depth": 3}
    booster = xgboost.train(parameters, xgboost.DMatrix(rows, targets), num_boost_round=5)
    card = import_version(ImportOrder(log_model("xgboost", booster), "v1", model="stranger")).artefact.card
    assert (card.task, card.classes, card.feature_names) == (Task.MULTICLASS, (0, 1, 2), ("f0", "f1", "f2"))
    assert set(card.files) == {FileKind.ONNX, FileKind.UBJ}


def test_early_stopping_keeps_the_trees_that_predict(log_model: Callable[..., str], own_store: Path) -> None:
    """Beyond the best iteration there are trees that the model itself does not use; the files must not either."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(300, 3)), columns=["a", "b", "c"])
    targets = (frame["a"] + random.normal(size=300) > 0).astype(int)
    model = xgboost.XGBClassifier(n_estimators=60, n_jobs=1, early_stopping_rounds=10, learning_rate=0.5)
    model.fit(frame[:200], targets[:200], eval_set=[(frame[200:], targets[200:])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    artefact = import_version(ImportOrder(log_model("xgboost", model), "v1", model="stranger")).artefact
    stored = xgboost.Booster(model_file=artefact.folder / "model.ubj")
    assert stored.num_boosted_rounds() == model.best_iteration + 1


@pytest.mark.parametrize(
    ("flavor", "make", "said"),
    [
        (
            "sklearn",
            lambda x, _: DBSCAN().fit(x),
            "DBSCAN is neither a regressor nor a classifier with probabilities or a decision function",
        ),
        ("xgboost", lambda x, y: xgboost.XGBClassifier(objective="binary:logitraw").fit(x, y), "are no probabilities"),
        ("sklearn", lambda x, y: LabelSpreading().fit(x, y), "no conversion to ONNX"),
    ],
)
def test_models_that_cannot_be_served(
    flavor: str, make: Callable[..., Any], said: str, log_model: Callable[..., str], own_store: Path
) -> None:
    rows = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    uri = log_model(flavor, make(rows, (rows[:, 0] > 0).astype(int)))
    with pytest.raises(UnsupportedModel, match=said):
        import_version(ImportOrder(uri, "v1", model="stranger"))
    assert repository.artefacts() == []


def test_a_text_column_is_refused_by_name(log_model: Callable[..., str], own_store: Path) -> None:
    model = LinearRegression().fit([[0.0, 1.0], [1.0, 0.0]], [0.0, 1.0])
    signature = mlflow.models.infer_signature(pd.DataFrame({"size": [1.0], "colour": ["red"]}))
    with pytest.raises(UnsupportedModel, match=r"colour \(string\)"):
        import_version(ImportOrder(log_model("sklearn", model, signature=signature), "v1", model="stranger"))


@pytest.mark.parametrize("number", [1, 2], ids=["xgboost", "sklearn in skops"])
def test_formats_that_cannot_carry_code_are_imported(
    number: int, prepared: dict[str, Imported], own_store: Path
) -> None:
    order = ImportOrder(f"models:/customers/{number}", "v1", formats=Formats.WITHOUT_CODE)
    assert import_version(order).outcome is ImportOutcome.IMPORTED


class Bomb(LogisticRegression):  # type: ignore[misc]
    """Says in the environment that it was read."""

    def __setstate__(self, state: Any) -> None:
        os.environ["BOMB"] = "went off"
        super().__setstate__(state)


@pytest.mark.parametrize(
    ("arguments", "danger"),
    [
        ({"serialization_format": "cloudpickle"}, "it is stored as cloudpickle"),
        ({"serialization_format": "pickle"}, "it is stored as pickle"),
        ({"skops_trusted_types": [f"{__name__}.Bomb"]}, "it asks to trust tests.lifecycle.test_importing.Bomb"),
        ({"code_paths": [__file__]}, "it brings Python files of its own"),
    ],
    ids=lambda given: next(iter(given.items())) if isinstance(given, dict) else "",
)
def test_formats_that_can_carry_code_are_refused_unread(
    arguments: dict[str, Any],
    danger: str,
    log_model: Callable[..., str],
    own_store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("BOMB", raising=False)
    bomb = Bomb().fit([[0.0], [1.0]], [0, 1])
    uri = log_model("sklearn", bomb, **{"skops_trusted_types": [f"{__name__}.Bomb"]} | arguments)
    monkeypatch.delenv("BOMB", raising=False)
    with pytest.raises(
        UnsupportedModel, match=re.escape(f"{uri} could run code when it is read: {danger}.")
    ) as refused:
        import_version(ImportOrder(uri, "v1", model="stranger", formats=Formats.WITHOUT_CODE))
    assert "import it by hand" in str(refused.value)
    assert str(refused.value).endswith("It will be stranger:v1.")
    assert refused.value.next_command == f"shokado models import {uri} --name stranger --as v1"
    assert "BOMB" not in os.environ
    assert repository.artefacts() == []
    with contextlib.suppress(UnsupportedModel):
        import_version(ImportOrder(uri, "v1", model="stranger"))
    assert os.environ["BOMB"] == "went off"


TREE = "sklearn.tree._tree.Tree"
HISTOGRAM = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"


@pytest.mark.parametrize(
    ("model", "trusted"),
    [
        (DecisionTreeClassifier(max_depth=3), TREE),
        (RandomForestClassifier(4), TREE),
        (GradientBoostingClassifier(n_estimators=4), TREE),
        (make_pipeline(StandardScaler(), DecisionTreeRegressor(max_depth=1)), TREE),
        (HistGradientBoostingClassifier(max_iter=4), HISTOGRAM),
    ],
    ids=lambda given: type(given).__name__,
)
def test_trees_in_skops_cannot_run_code_and_are_imported(
    model: Any, trusted: str, log_model: Callable[..., str], own_store: Path
) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 2))
    uri = log_model("sklearn", model.fit(rows, (rows[:, 0] > 0).astype(int)), skops_trusted_types=[trusted])
    imported = import_version(ImportOrder(uri, "v1", model="stranger", formats=Formats.WITHOUT_CODE))
    assert imported.outcome is ImportOutcome.IMPORTED


@pytest.mark.slow
def test_a_doctored_tree_ends_the_process_of_its_import_and_leaves_nothing(
    log_model: Callable[..., str], own_store: Path, python: Callable[..., CompletedProcess[str]]
) -> None:
    """scikit-learn follows the numbers of children without a look at how many nodes there are."""
    rows = np.random.default_rng(0).normal(size=(60, 2))
    model = DecisionTreeClassifier().fit(rows, (rows[:, 0] > 0).astype(int))
    state = model.tree_.__getstate__()
    state["nodes"] = state["nodes"].copy()
    state["nodes"]["left_child"][0] = state["nodes"]["right_child"][0] = 2**30
    model.tree_.__setstate__(state)
    uri = log_model("sklearn", model, skops_trusted_types=[TREE])
    command = ("-m", "shokado", "models", "import", uri, "--name", "doctored", "--as", "v1", "--no-pickle")
    assert python(*command).returncode != 0
    assert repository.artefacts() == []


def test_an_xgboost_model_of_a_class_that_is_none_of_xgboosts_is_refused_unread(
    log_model: Callable[..., str], own_store: Path, registry_home: Path
) -> None:
    rows = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    uri = log_model("xgboost", xgboost.XGBClassifier(n_estimators=2).fit(rows, (rows[:, 0] > 0).astype(int)))
    strangers = registry_home / "mlartifacts" / "strangers"
    newest = max(strangers.rglob("MLmodel"), key=lambda path: path.stat().st_mtime_ns)
    newest.write_text(newest.read_text().replace("xgboost.sklearn.XGBClassifier", "subprocess.Popen"))
    with pytest.raises(UnsupportedModel, match=r"its class is subprocess\.Popen"):
        import_version(ImportOrder(uri, "v1", model="stranger", formats=Formats.WITHOUT_CODE))
