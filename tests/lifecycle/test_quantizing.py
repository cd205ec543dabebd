"""Quantized versions: what they gain and cost is what one measures oneself, and what is not worth having is refused."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from typer.testing import CliRunner

from configuration.settings import BatchingSettings, VersionSettings
from runners.artefacts import repository
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import FileKind, Task, read_card
from runners.artefacts.reference import read_reference
from runners.engines.engine import example_rows, likely_rows
from runners.trial import TrialOrder, run_trial
from shokado.cli.app import app
from shokado.lifecycle import datasets
from shokado.lifecycle.errors import LifecycleError, QuantizationRefused, ReferenceRefused, VersionTaken
from shokado.lifecycle.examples import training
from shokado.lifecycle.importing.version import Imported, ImportOrder, import_version
from shokado.lifecycle.quantizing.calibration_rows import DEALT_ROWS
from shokado.lifecycle.quantizing.quantize_order import Limits, Method, QuantizeOrder
from shokado.lifecycle.quantizing.quantized_version import QuantizeOutcome, quantize_version

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RANDOM = np.random.default_rng(4)
WIDTHS = (256, 256)
"""Wide enough that weights are nearly all of the file."""
LABEL = "v1-quantized"
runner = CliRunner()


def draw(rows: int) -> NDArray[np.float32]:
    """A column of large numbers beside two of small ones."""
    return np.column_stack([RANDOM.normal(50_000, 9_000, rows), RANDOM.normal(size=(rows, 2))]).astype(np.float32)


ROWS, OTHERS = draw(600), draw(1000)
VALUE = (ROWS[:, 0] - 50_000) / 9_000 + ROWS[:, 1] * ROWS[:, 2]
NETS: dict[Task, tuple[Any, NDArray[Any]]] = {
    Task.BINARY: (MLPClassifier(hidden_layer_sizes=WIDTHS, max_iter=8, random_state=1), VALUE > 0),
    Task.MULTICLASS: (
        MLPClassifier(hidden_layer_sizes=WIDTHS, max_iter=8, random_state=1),
        np.digitize(VALUE, [-1, 1]),
    ),
    Task.REGRESSION: (MLPRegressor(hidden_layer_sizes=WIDTHS, max_iter=20, random_state=1), VALUE * 10),
}
OTHER_NUMBERS = [name for name in datasets.NAMES if name not in ("customers", "spam")]
"""Data sets of numbers but the default one."""


@pytest.fixture
def wide(log_model: Callable[..., str]) -> Callable[[Task], Artefact]:
    """A wide network of a stranger for each task, in the store that the tests of this folder share."""

    def find(task: Task) -> Artefact:
        if artefact := repository.look_up(f"wide-{task}", "v1"):
            return artefact
        net, targets = NETS[task]
        model = make_pipeline(StandardScaler(), net).fit(ROWS, targets)
        uri = log_model("sklearn", model, input_example=ROWS[:40], serialization_format="cloudpickle")
        return import_version(ImportOrder(uri, "v1", model=f"wide-{task}")).artefact

    return find


@pytest.fixture
def parent(wide: Callable[[Task], Artefact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artefact:
    """A wide network in a store of its own."""
    artefact = wide(Task.BINARY)
    folder = tmp_path / "bentoml" / "models" / artefact.card.model / "v1"
    shutil.copytree(artefact.folder, folder)
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    found = repository.look_up(artefact.card.model, "v1")
    assert found is not None
    return found


def scores_of(artefact: Artefact, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """What ONNX Runtime gives, [N] or [N, classes]."""
    session = onnxruntime.InferenceSession(artefact.folder / "model.onnx", providers=["CPUExecutionProvider"])
    scores: NDArray[np.float32] = session.run(None, {"input": rows})[0]
    return scores if artefact.card.task is Task.MULTICLASS else scores[:, -1]


def labels_in(artefact: Artefact, scores: NDArray[np.float32]) -> NDArray[Any]:
    return scores.argmax(axis=1) if artefact.card.task is Task.MULTICLASS else scores >= artefact.card.positive_from


@pytest.mark.slow
@pytest.mark.parametrize("task", NETS)
def test_the_receipt_says_what_one_measures_oneself(task: Task, wide: Callable[[Task], Artefact]) -> None:
    parent = wide(task)
    quantized = quantize_version(QuantizeOrder(parent.tag, LABEL, replace=True)).artefact
    card, receipt = quantized.card, quantized.card.quantized
    assert receipt is not None

    size, size_before = (one.folder.joinpath("model.onnx").stat().st_size for one in (quantized, parent))
    assert (receipt.size_bytes, receipt.parent_size_bytes) == (size, size_before) == (card.size_bytes, size_before)
    assert size_before / size > 3.8

    rows = np.vstack([example_rows(parent.card), likely_rows(parent.card, DEALT_ROWS)])
    before, after = scores_of(parent, rows), scores_of(quantized, rows)
    differences = np.abs(after - before).reshape(len(rows), -1).max(axis=1)
    assert receipt.rows == len(rows)
    assert receipt.max_abs_difference == pytest.approx(differences.max(), rel=1e-3)
    assert receipt.mean_abs_difference == pytest.approx(differences.mean(), rel=1e-3)
    assert receipt.max_abs_difference > 0
    if task is not Task.REGRESSION:
        same = labels_in(parent, before) == labels_in(quantized, after)
        assert receipt.same_labels == pytest.approx(same.mean())
    assert [time.rows for time in receipt.times] == [1, 64, 1000]

    # On rows that nothing was measured over.
    unit = scores_of(parent, OTHERS).std() if task is Task.REGRESSION else 1
    assert np.abs(scores_of(quantized, OTHERS) - scores_of(parent, OTHERS)).mean() / unit < Limits.tolerance


@pytest.mark.slow
@pytest.mark.parametrize("task", NETS)
def test_the_card_passes_what_a_server_asks_at_its_start(task: Task, wide: Callable[[Task], Artefact]) -> None:
    parent = wide(task)
    quantized = quantize_version(QuantizeOrder(parent.tag, LABEL)).artefact
    card = read_card(quantized.folder)
    assert (card.source, card.quantization, card.metrics) == (parent.card.source, "int8", {})
    assert (card.features, card.classes, card.positive_from) == (
        parent.card.features,
        parent.card.classes,
        parent.card.positive_from,
    )
    assert card.quantized is not None
    assert (card.quantized.parent, card.quantized.parent_digest) == (parent.tag, parent.digest)
    assert quantized.digest != parent.digest

    examples = example_rows(card)
    own, stored = scores_of(quantized, examples), np.array(card.examples.scores, dtype=np.float32)
    np.testing.assert_allclose(stored, own, rtol=0, atol=1e-6 * max(1, np.abs(own).max()))
    difference = np.abs(own - np.array(parent.card.examples.scores, dtype=np.float32)).max()
    assert card.quantized.max_abs_difference_of_examples == pytest.approx(difference, rel=1e-3)
    assert difference > card.verification[FileKind.ONNX].tolerance / 1000

    # In a process of its own, as a server opens, checks and warms up what it loads.
    order = TrialOrder(
        version=LABEL,
        folder=quantized.folder,
        settings=VersionSettings(),
        batching=BatchingSettings(),
        max_bytes=4 << 30,
    )
    asyncio.run(run_trial(order, 60))


@pytest.mark.slow
@pytest.mark.parametrize(
    "dataset", ["customers", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHER_NUMBERS)]
)
def test_a_network_as_make_serve_prepares_it_becomes_four_times_smaller(
    dataset: str, log_model: Callable[..., str], own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How large the files are depends on how wide the network is, and not on how long it was trained.
    monkeypatch.setattr(training, "WIDE_ROUNDS", 2)
    monkeypatch.setattr(training, "WIDE_ROUNDS_OF_FEW_ROWS", 10)
    data = datasets.load(dataset)
    model = training.fit(training.build(data, training.WIDE), data)
    example = training.frame(data, data.train.rows[:40])
    uri = log_model("sklearn", model, input_example=example, serialization_format="cloudpickle")
    parent = import_version(ImportOrder(uri, "v1", model=dataset)).artefact
    quantized = quantize_version(QuantizeOrder(parent.tag, LABEL)).artefact
    sizes = [(one.folder / "model.onnx").stat().st_size for one in (parent, quantized)]
    assert sizes[0] / sizes[1] >= 3.95


def test_a_first_layer_over_large_numbers_is_stored_as_it_is(log_model: Callable[..., str], own_store: Path) -> None:
    rows = np.column_stack([RANDOM.normal(300, 1, 400), RANDOM.normal(size=(400, 2))]).astype(np.float32)
    net = MLPRegressor(hidden_layer_sizes=WIDTHS, max_iter=1, random_state=1).fit(rows[:, 1:], rows[:, 1])
    # A net that takes the difference from 300, of which one step of eight bits is as much as that column varies.
    weights = RANDOM.normal(size=(1, WIDTHS[0])) / 10
    net.coefs_[0] = np.vstack([weights, net.coefs_[0]])
    net.intercepts_[0] = net.intercepts_[0] - 300 * weights[0]
    net.n_features_in_ = 3
    uri = log_model("sklearn", net, input_example=rows[:40], serialization_format="cloudpickle")
    parent = import_version(ImportOrder(uri, "v1", model="large")).artefact
    quantized = quantize_version(QuantizeOrder(parent.tag, LABEL)).artefact
    shapes = [item.dims for item in onnx.load(quantized.folder / "model.onnx").graph.initializer if item.data_type == 1]
    assert [3, 256] in shapes
    unit = scores_of(parent, rows).std()
    assert np.abs(scores_of(quantized, rows) - scores_of(parent, rows)).mean() / unit < Limits.tolerance


def test_a_wide_network_is_faster(parent: Artefact) -> None:
    receipt = quantize_version(QuantizeOrder(parent.tag, LABEL)).artefact.card.quantized
    assert receipt is not None
    # 2.0 to 2.2 here; a busy machine meets both in turns.
    assert receipt.times[1].times_faster > 1.1


def test_float16_halves_the_file_and_hardly_changes_a_score(parent: Artefact) -> None:
    quantized = quantize_version(QuantizeOrder(parent.tag, "v1-half", Method.FLOAT16)).artefact
    assert quantized.card.quantization == "float16"
    assert 1.9 < parent.card.size_bytes / quantized.card.size_bytes < 2
    differences = np.abs(scores_of(quantized, OTHERS) - scores_of(parent, OTHERS))
    assert 0 < differences.max() < 1e-3


@pytest.mark.parametrize("method", [Method.INT8, Method.FLOAT16])
def test_a_row_has_the_same_scores_in_every_batch(method: Method, parent: Artefact) -> None:
    quantized = quantize_version(QuantizeOrder(parent.tag, LABEL, method)).artefact
    beside = np.vstack([OTHERS[:50], np.full((1, 3), 1e30, dtype=np.float32)])
    alone = np.concatenate([scores_of(quantized, OTHERS[row : row + 1]) for row in range(50)])
    np.testing.assert_allclose(scores_of(quantized, beside)[:50], alone, rtol=0, atol=1e-6)


def test_scales_of_the_batch_at_hand_are_refused_as_others_rows_move_a_row(parent: Artefact) -> None:
    order = QuantizeOrder(parent.tag, LABEL, Method.INT8_DYNAMIC)
    with pytest.raises(QuantizationRefused, match="depend on the rows that it is batched with") as refused:
        quantize_version(order)
    command = f"shokado models quantize {parent.tag} --as {LABEL} --method int8-dynamic --force"
    assert refused.value.next_command == command
    assert repository.look_up(parent.card.model, LABEL) is None
    result = runner.invoke(app, command.split()[1:])
    assert result.exit_code == 0, result.stderr
    forced = repository.look_up(parent.card.model, LABEL)
    assert forced is not None
    assert forced.card.quantized is not None
    # It is true: the same row, beside another one.
    beside = np.vstack([OTHERS[:1], np.full((1, 3), 1e8, dtype=np.float32)])
    assert abs(scores_of(forced, beside)[0] - scores_of(forced, OTHERS[:1])[0]) > 0.02
    assert forced.card.quantized.max_abs_difference_in_company > 0.02


def test_a_network_that_is_too_small_gains_nothing(log_model: Callable[..., str], own_store: Path) -> None:
    net = MLPClassifier((2, 2), max_iter=5, random_state=1).fit(ROWS, VALUE > 0)
    uri = log_model("sklearn", net, input_example=ROWS[:40], serialization_format="cloudpickle")
    tag = import_version(ImportOrder(uri, "v1", model="narrow")).artefact.tag
    with pytest.raises(QuantizationRefused, match=r"neither smaller .* nor faster .* Nothing was stored"):
        quantize_version(QuantizeOrder(tag, LABEL, limits=Limits(tolerance=1, same_labels=0)))
    assert repository.look_up("narrow", LABEL) is None
    assert not list((repository.home() / "tmp").glob("shokado-import-*"))


def test_a_loss_of_agreement_is_refused(parent: Artefact) -> None:
    with pytest.raises(QuantizationRefused, match="on average, 1e-05 is allowed"):
        quantize_version(QuantizeOrder(parent.tag, LABEL, limits=Limits(tolerance=1e-5)))

    made = quantize_version(QuantizeOrder(parent.tag, "v1-other")).artefact
    rows = np.vstack([example_rows(parent.card), likely_rows(parent.card, DEALT_ROWS)])
    before, after = scores_of(parent, rows), scores_of(made, rows)
    # With the threshold there, one row gets another label at least.
    content = json.loads(parent.card.model_dump_json()) | {"positive_from": float(before[np.argmin(after - before)])}
    (parent.folder / "card.json").write_text(json.dumps(content))
    with pytest.raises(QuantizationRefused, match=r"of 1,032 rows keep their label, 100\.00% must"):
        quantize_version(QuantizeOrder(parent.tag, LABEL, limits=Limits(same_labels=1.0)))
    assert repository.look_up(parent.card.model, LABEL) is None


def test_rows_of_a_file_are_what_is_measured_over(parent: Artefact, tmp_path: Path) -> None:
    names, file = list(parent.card.feature_names), tmp_path / "rows.csv"
    table = pd.DataFrame(OTHERS[:100], columns=names)
    table.iloc[3, 0] = np.nan
    table.to_csv(file, index=False)
    quantized = quantize_version(QuantizeOrder(parent.tag, LABEL, rows=file)).artefact
    receipt = quantized.card.quantized
    assert receipt is not None
    assert (receipt.rows, receipt.rows_from) == (49, str(file))
    compared = table.dropna().to_numpy("f4")[1::2]
    differences = np.abs(scores_of(quantized, compared) - scores_of(parent, compared))
    assert receipt.max_abs_difference == pytest.approx(differences.max(), rel=1e-3)
    file.write_text("another,column\n1,2\n")
    with pytest.raises(ReferenceRefused):
        quantize_version(QuantizeOrder(parent.tag, LABEL, rows=file, replace=True))


def test_levels_and_missing_values_are_measured_over_as_well(
    log_model: Callable[..., str], own_store: Path, tmp_path: Path
) -> None:
    table = pd.DataFrame({"city": np.resize(["a", "b", "c"], 200), "age": ROWS[:200, 1]})
    table.loc[::5, "age"] = np.nan
    encoded = ColumnTransformer([("city", OneHotEncoder(), ["city"]), ("age", SimpleImputer(), ["age"])])
    net = MLPClassifier(hidden_layer_sizes=WIDTHS, max_iter=3, random_state=1)
    model = make_pipeline(encoded, net).fit(table, np.resize([0, 1, 1], 200))
    uri = log_model("sklearn", model, input_example=table[:40], serialization_format="cloudpickle")
    parent = import_version(ImportOrder(uri, "v1", model="mixed")).artefact
    file = tmp_path / "rows.csv"
    table.to_csv(file, index=False)

    quantized = quantize_version(QuantizeOrder(parent.tag, LABEL, rows=file)).artefact
    assert quantized.card.features == parent.card.features
    assert quantized.card.quantized is not None
    assert quantized.card.quantized.rows == 100
    rows = np.array([[1, np.nan], [2, 0.5]], dtype=np.float32)
    np.testing.assert_allclose(scores_of(quantized, rows), scores_of(parent, rows), rtol=0, atol=0.02)


def test_the_same_order_gives_the_same_version_and_does_its_work_once(parent: Artefact) -> None:
    order = QuantizeOrder(parent.tag, LABEL)
    first = quantize_version(order)
    changed = first.artefact.folder.stat().st_mtime_ns
    again = quantize_version(order)
    assert (first.outcome, again.outcome) == (QuantizeOutcome.QUANTIZED, QuantizeOutcome.ALREADY_THERE)
    assert first.artefact.folder.stat().st_mtime_ns == changed
    anew = quantize_version(QuantizeOrder(parent.tag, LABEL, replace=True))
    assert anew.outcome is QuantizeOutcome.REPLACED
    assert anew.artefact.digest == first.artefact.digest
    beside = [name for name in ("reference", "background") if getattr(parent.card, name)]
    files = sorted(["card.json", "model.onnx", "model.yaml", *(f"{name}.json" for name in beside)])
    assert sorted(path.name for path in anew.artefact.folder.iterdir()) == files
    assert read_reference(anew.artefact.folder, anew.artefact.card) == read_reference(parent.folder, parent.card)


def test_a_label_that_is_taken_stays_what_it_is(parent: Artefact) -> None:
    quantize_version(QuantizeOrder(parent.tag, LABEL, Method.FLOAT16))
    with pytest.raises(VersionTaken, match=f"{parent.card.model}:{LABEL} is another version") as refused:
        quantize_version(QuantizeOrder(parent.tag, LABEL))
    assert refused.value.next_command == f"shokado models quantize {parent.tag} --as <label>"
    with pytest.raises(VersionTaken):
        quantize_version(QuantizeOrder(parent.tag, "v1"))
    # An import of the parent's address is not what is there.
    with pytest.raises(VersionTaken, match=r"is quantized \(float16\) from"):
        import_version(ImportOrder(parent.card.source.uri, LABEL, model=parent.card.model))


def test_what_is_quantized_is_not_quantized_again(parent: Artefact) -> None:
    tag = quantize_version(QuantizeOrder(parent.tag, LABEL)).artefact.tag
    with pytest.raises(QuantizationRefused, match=f"quantized already, from {parent.tag}") as refused:
        quantize_version(QuantizeOrder(tag, "v9"))
    assert refused.value.next_command == f"shokado models quantize {parent.tag} --as v9"


REFUSED = {
    "customers:v1": "it consists of trees, .* Fewer or shallower trees",
    "spam:v1": "it takes a text",
    "customers:v9": "The store has no customers:v9",
    "customers": "'customers' is no version of the store",
    "a/b:v1": "is no version of the store",
}


@pytest.mark.parametrize("tag", REFUSED)
def test_what_cannot_be_quantized_says_why(tag: str, prepared: dict[str, Imported]) -> None:
    with pytest.raises(LifecycleError, match=REFUSED[tag]) as refused:
        quantize_version(QuantizeOrder(tag, LABEL))
    assert (refused.value.next_command or "").startswith("shokado models list")


def test_xgboosts_own_file_alone_is_trees(prepared: dict[str, Imported], own_store: Path) -> None:
    folder = own_store / "models" / "customers" / "v1"
    shutil.copytree(prepared["customers:v1"].artefact.folder, folder)
    (folder / "model.onnx").unlink()
    card = json.loads((folder / "card.json").read_text())
    for part in ("files", "verification"):
        del card[part]["onnx"]
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(QuantizationRefused, match="trees, which have no weights"):
        quantize_version(QuantizeOrder("customers:v1", LABEL))


def test_a_linear_model_and_a_damaged_one(log_model: Callable[..., str], own_store: Path) -> None:
    uri = log_model("sklearn", LogisticRegression().fit(ROWS, VALUE > 0), input_example=ROWS[:5])
    folder = import_version(ImportOrder(uri, "v1", model="line")).artefact.folder
    with pytest.raises(QuantizationRefused, match="line:v1 cannot be quantized: it is linear"):
        quantize_version(QuantizeOrder("line:v1", LABEL))
    (folder / "model.onnx").write_bytes(b"")
    with pytest.raises(LifecycleError, match="line:v1 cannot be served"):
        quantize_version(QuantizeOrder("line:v1", LABEL))


def test_the_command_shows_both_side_by_side(parent: Artefact) -> None:
    result = runner.invoke(app, ["models", "quantize", parent.tag, "--as", LABEL])
    assert result.exit_code == 0, result.stderr
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    (size,) = [line for line in lines if line.startswith("size")]
    assert f"{parent.card.size_bytes:,} bytes" in size
    assert "x smaller" in size
    assert any(line.startswith("1,000 rows") and "x faster" in line for line in lines)
    assert any(line.startswith("same label") for line in lines)
    assert lines[-1] == f"{parent.card.model}:{LABEL} quantized from {parent.tag}"
    assert f"int8 of {parent.tag}" in runner.invoke(app, ["models", "list"]).output
    again = runner.invoke(app, ["models", "quantize", parent.tag, "--as", LABEL])
    assert "already quantized" in again.output
    refused = runner.invoke(app, ["models", "quantize", "nothing:v1", "--as", LABEL])
    assert refused.exit_code == 1
    assert "next: shokado models list nothing" in refused.stderr
