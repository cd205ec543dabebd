"""A file that scores differently from its framework never passes."""

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import xgboost
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from runners.artefacts.card import FileKind, Task
from shokado.lifecycle.errors import UnsupportedModel, VerificationFailed
from shokado.lifecycle.importing import conversion, registry, verification
from shokado.lifecycle.importing.conversion import ModelDescription
from shokado.lifecycle.importing.expected import Expected
from shokado.lifecycle.importing.framework import Framework
from shokado.lifecycle.importing.registry import LoadedModel
from shokado.lifecycle.importing.version import Imported

RANDOM = np.random.default_rng(5)
Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@pytest.fixture(scope="module")
def net(prepared: dict[str, Imported], tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    with registry.session() as client:
        return registry.fetch(client, "models:/customers/2", tmp_path_factory.mktemp("download"))


def doctor(path: Path, constant: str, change: Change) -> None:
    """Change one constant of an ONNX file."""
    graph = onnx.load(path)
    item = next(item for item in graph.graph.initializer if item.name == constant)
    item.CopyFrom(onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(item)), constant))
    onnx.save(graph, path)


def test_an_honest_file_passes_with_a_receipt(net: LoadedModel, tmp_path: Path) -> None:
    description = conversion.describe(net)
    kinds = conversion.convert(net.model, description, tmp_path)
    receipt = verification.verify(net, description, tmp_path, kinds, 1e-4).files[FileKind.ONNX]
    assert receipt.rows == 4000
    assert receipt.tolerance == 1e-4
    assert 0 < receipt.max_abs_difference < 1e-5


@pytest.mark.parametrize(
    "change",
    [lambda bias: bias + np.float32(0.01), lambda bias: bias * np.float32("nan")],
    ids=["shifted", "not a number"],
)
def test_a_doctored_file_is_refused(change: Change, net: LoadedModel, tmp_path: Path) -> None:
    description = conversion.describe(net)
    kinds = conversion.convert(net.model, description, tmp_path)
    doctor(tmp_path / "model.onnx", "intercepts2", change)
    with pytest.raises(VerificationFailed, match=r"model\.onnx differs .* Nothing was stored"):
        verification.verify(net, description, tmp_path, kinds, 1e-4)


def test_a_file_of_another_shape_is_refused(net: LoadedModel, prepared: dict[str, Imported], tmp_path: Path) -> None:
    description = conversion.describe(net)
    other = ModelDescription(task=Task.REGRESSION, features=description.features)
    expected = Expected(np.zeros((3, 10), np.float32), np.zeros((3, 1)), None, np.full((3, 1), 1e-4))
    folder = prepared["customers:v2"].artefact.folder
    with pytest.raises(VerificationFailed, match=r"answers \[3, 2\] for 3 rows"):
        verification._compare(FileKind.ONNX, folder, Framework(net.model, other), expected)


def stranger(model: Any, frame: pd.DataFrame, example_rows: int = 1) -> LoadedModel:
    """A fitted model as it comes out of the registry."""
    signature = mlflow.models.infer_signature(frame)
    return LoadedModel(model, "models:/x/1", "", "sklearn", "scikit-learn", signature, frame[:example_rows], {}, {})


def verified(source: LoadedModel, folder: Path, change: Callable[[onnx.ModelProto], None] = lambda graph: None) -> Any:
    """Convert, change the graph, verify."""
    description = conversion.describe(source)
    kinds = conversion.convert(source.model, description, folder)
    graph = onnx.load(folder / "model.onnx")
    change(graph)
    onnx.save(graph, folder / "model.onnx")
    return verification.verify(source, description, folder, kinds, 1e-4)


FRAME = pd.DataFrame(
    {
        "width": RANDOM.normal(size=300),
        "weight": RANDOM.uniform(0, 100, 300),
        "count": RANDOM.integers(0, 9, 300),
        "seen_at": RANDOM.integers(1_700_000_000, 1_730_000_000, 300),
    }
)
TARGETS = FRAME["width"] * 3 + FRAME["weight"] / 10 + FRAME["count"] + (FRAME["seen_at"] - 1.7e9) / 1e7
NARROW = ["width", "weight", "count"]
OTHER = np.random.default_rng(6)
WIDE = pd.DataFrame({"width": OTHER.normal(size=700), "weight": OTHER.uniform(0, 100, 700)})
WIDE_TARGETS = WIDE["width"] * 3 + WIDE["weight"] / 10


def shift_one_threshold(graph: onnx.ModelProto) -> None:
    """By a thousandth of the column's range, in the middle of the trees."""
    node = next(node for node in graph.graph.node if node.op_type.startswith("TreeEnsemble"))
    values = next(item for item in node.attribute if item.name == "nodes_values")
    modes = next(item for item in node.attribute if item.name == "nodes_modes")
    features = next(item for item in node.attribute if item.name == "nodes_featureids")
    weights = [at for at, mode in enumerate(modes.strings) if mode != b"LEAF" and features.ints[at] == 1]
    values.floats[weights[len(weights) // 2]] += 0.1


def shift_intercept(graph: onnx.ModelProto) -> None:
    """By a hundredth."""
    node = next(node for node in graph.graph.node if node.op_type.startswith("Linear"))
    intercepts = next(item for item in node.attribute if item.name == "intercepts")
    intercepts.floats[:] = [value + 0.01 * sign for value, sign in zip(intercepts.floats, (-1, 1), strict=False)]


@pytest.mark.parametrize(
    ("model", "change"),
    [
        (DecisionTreeRegressor(), shift_one_threshold),
        (HistGradientBoostingRegressor(max_iter=20), shift_one_threshold),
        (GradientBoostingClassifier(n_estimators=20), shift_one_threshold),
        (xgboost.XGBRegressor(n_estimators=20, n_jobs=1), shift_one_threshold),
        (LogisticRegression(), shift_intercept),
        (make_pipeline(StandardScaler(), LogisticRegression()), shift_intercept),
    ],
    ids=lambda given: type(given).__name__,
)
def test_with_one_row_for_an_example_a_good_model_passes_and_a_wrong_one_does_not(
    model: Any, change: Callable[[onnx.ModelProto], None], tmp_path: Path
) -> None:
    targets = TARGETS.gt(TARGETS.median()) if is_classifier(model) else TARGETS
    source = stranger(model.fit(FRAME[NARROW], targets.astype(float)), FRAME[NARROW])
    verified(source, tmp_path)
    with pytest.raises(VerificationFailed, match=r"model\.onnx (differs|gives)"):
        verified(source, tmp_path, change)


@pytest.mark.parametrize(
    "model", [HistGradientBoostingRegressor(max_iter=30), make_pipeline(StandardScaler(), DecisionTreeRegressor())]
)
def test_a_decimal_on_a_threshold_takes_the_side_that_the_framework_takes(model: Any, tmp_path: Path) -> None:
    """Between 40.1 and 40.3 the threshold is 40.2, or the float64 before it, and one number of float32."""
    frame = FRAME[NARROW].assign(weight=FRAME["weight"].round(1))
    others = pd.DataFrame({"width": 0.5, "weight": np.arange(1001) / 10, "count": 3})
    source = stranger(model.fit(frame, TARGETS), frame)
    verified(source, tmp_path)
    assert_served(model, others, tmp_path)
    narrow = frame.astype("float32")
    verified(stranger(model.fit(narrow, TARGETS), narrow), tmp_path)
    assert_served(model, others.astype("float32"), tmp_path)


def assert_served(model: Any, rows: pd.DataFrame, folder: Path) -> None:
    """Every row's value is the framework's own for the rows as they are."""
    served = onnxruntime.InferenceSession(folder / "model.onnx").run(None, {"input": rows.to_numpy("f4")})[0]
    np.testing.assert_allclose(served[:, 0], model.predict(rows), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("scalers", [(), (StandardScaler(),), (RobustScaler(), MinMaxScaler())])
@pytest.mark.parametrize("kind", ["float64", "float32"])
def test_values_of_the_training_data_that_are_thresholds_keep_their_side(
    scalers: tuple[Any, ...], kind: str, tmp_path: Path
) -> None:
    """With more than 255 different values histogram gradient boosting takes some of them for thresholds."""
    frame = WIDE.astype(kind)
    steps = make_pipeline(*scalers, HistGradientBoostingRegressor(max_iter=30))
    model = (steps if scalers else steps[-1]).fit(frame, WIDE_TARGETS)
    assert verified(stranger(model, frame), tmp_path).is_rounded == (kind == "float64")
    assert_served(model, frame, tmp_path)


def test_whole_numbers_that_nobody_calls_so_keep_their_side(tmp_path: Path) -> None:
    """Half-way between neighbours float32 has no number for a threshold."""
    frame = pd.DataFrame({"a": np.arange(2**23, 2**23 + 200)})
    model = DecisionTreeRegressor(max_depth=4).fit(frame, np.arange(200) % 7)
    histogram = HistGradientBoostingRegressor(max_iter=20, min_samples_leaf=2).fit(frame, np.arange(200) % 7)
    for each in (model, histogram):
        source = stranger(each, frame)
        verified(source, tmp_path)
        assert_served(each, frame, tmp_path)
        description = conversion.describe(dataclasses.replace(source, signature=None))
        conversion.convert(each, description, tmp_path)
        assert_served(each, frame, tmp_path)


def test_neighbours_among_real_numbers_pass(tmp_path: Path) -> None:
    model = KNeighborsClassifier(4).fit(FRAME[["width", "weight"]], TARGETS.gt(TARGETS.median()))
    verified(stranger(model, FRAME[["width", "weight"]]), tmp_path)


@pytest.mark.parametrize("model", [RandomForestRegressor(10, n_jobs=1), xgboost.XGBRegressor(n_estimators=10)])
def test_a_framework_that_makes_float32_of_its_rows_itself_loses_nothing(model: Any, tmp_path: Path) -> None:
    verified(stranger(model.fit(FRAME, TARGETS), FRAME), tmp_path)


def test_labels_that_do_not_follow_from_probabilities_are_refused(tmp_path: Path) -> None:
    """A support vector machine decides by its margin, and its probabilities are another model's."""
    labels = RANDOM.integers(0, 2, 60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = SVC(probability=True).fit(FRAME[NARROW][:60], labels)
    with pytest.raises(VerificationFailed, match="another label than the framework's predict"):
        verified(stranger(model, FRAME[NARROW]), tmp_path)


def test_a_label_at_a_tie_counts(tmp_path: Path) -> None:
    model = DecisionTreeClassifier().fit(pd.DataFrame({"a": [0.0, 0, 1, 1]}), [0, 1, 1, 1])
    source = stranger(model, pd.DataFrame({"a": [0.0]}))
    description = conversion.describe(source)
    kinds = conversion.convert(source.model, description, tmp_path)
    verification.verify(source, description, tmp_path, kinds, 1e-4)
    wrong = description.model_copy(update={"positive_from": 0.5})
    with pytest.raises(VerificationFailed, match=r"such as 1 for 0 with the scores \[0\.5, 0\.5\]"):
        verification.verify(source, wrong, tmp_path, kinds, 1e-4)


def test_what_the_engine_cannot_run_is_refused_in_one_line(tmp_path: Path) -> None:
    source = stranger(SVR().fit(FRAME[NARROW][:40], np.arange(40)), FRAME[NARROW])
    description = conversion.describe(source).widened(wholly=True)
    kinds = conversion.convert(source.model, description, tmp_path)
    with pytest.raises(UnsupportedModel, match=r"^model\.onnx does not work in ONNX Runtime: .*$"):
        verification.verify(source, description, tmp_path, kinds, 1e-4)


def test_an_example_of_one_row_says_nothing_of_gaps(tmp_path: Path) -> None:
    """Of its small numbers no further rows are made, in which there would be gaps."""
    frame = WIDE.assign(weight=WIDE["weight"].where(WIDE["weight"] > 20))
    model = HistGradientBoostingRegressor(max_iter=10).fit(frame, WIDE_TARGETS)
    source = dataclasses.replace(stranger(model, frame), example=frame.dropna()[:1])
    assert [feature.nullable for feature in conversion.describe(source).features] == [False, True]
    verified(source, tmp_path)
    assert_served(model, frame, tmp_path)
