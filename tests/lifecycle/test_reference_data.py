"""The reference of a version: its bins are made of the data, imports keep it, and a command replaces it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from mlflow.data.pandas_dataset import from_pandas
from sklearn.linear_model import LinearRegression

from runners.artefacts import repository
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import Card, Task, write_card
from runners.artefacts.reference import (
    MAX_BINS,
    Distribution,
    Levels,
    Numbers,
    OriginKind,
    ReferenceProfile,
    read_reference,
)
from runners.engines.prepared_texts import GraphInputs
from shokado.lifecycle import datasets
from shokado.lifecycle.errors import LifecycleError, ReferenceRefused
from shokado.lifecycle.importing import logged_data, reference_data, registry
from shokado.lifecycle.importing.reference_data import Made, most_frequent, quantiles, replace_reference
from shokado.lifecycle.importing.version import Imported, ImportOrder, ImportOutcome, import_version

FINITE = arrays.arrays(
    np.float32,
    st.integers(1, 300),
    elements=st.floats(-4, 4, width=32) | st.floats(allow_nan=False, allow_infinity=False, width=32),
)


@given(FINITE)
def test_quantiles_have_a_bin_for_every_value_and_none_that_is_empty(values: Any) -> None:
    bins = quantiles(values)
    below, *inside, above, infinite, missing = bins.count(values).tolist()
    assert below == above == infinite == missing == 0
    assert all(inside)
    assert sum(inside) == len(values)
    assert (bins.lowest, bins.bounds[-1]) == (values.min(), values.max())
    often, count = max(zip(*np.unique(values, return_counts=True), strict=True), key=lambda pair: pair[1])
    # What is there in more than two shares ends one bin and begins none, so that nothing above it is with it.
    if count > 2 * len(values) / MAX_BINS:
        assert float(often) in bins.bounds


def test_values_of_one_kind_have_one_bin() -> None:
    bins = quantiles(np.full(10, 7.0))
    assert (bins.lowest, bins.bounds) == (7.0, (7.0,))
    assert bins.count(np.array([6.9, 7.0, 7.1])).tolist() == [1, 1, 1, 0, 0]


def test_many_different_values_fill_all_bins_alike() -> None:
    counts = quantiles(np.arange(3200.0)).count(np.arange(3200.0))
    assert counts[1:-3].tolist() == [100] * MAX_BINS


def test_the_most_frequent_levels_are_kept() -> None:
    column = np.concatenate([np.full(level + 1, float(level)) for level in range(MAX_BINS + 8)])
    bins = most_frequent(column)
    assert bins.levels == tuple(range(8, MAX_BINS + 8))
    counts = bins.count(column).tolist()
    assert counts == [*range(9, MAX_BINS + 9), sum(range(1, 9)), 0]


def reference_of(artefact: Artefact) -> ReferenceProfile:
    reference = read_reference(artefact.folder, artefact.card)
    assert reference is not None
    return reference


@pytest.mark.parametrize("name", datasets.NAMES)
def test_example_models_have_the_histograms_of_their_training_part(name: str, prepared: dict[str, Imported]) -> None:
    card, reference = prepared[f"{name}:v1"].artefact.card, reference_of(prepared[f"{name}:v1"].artefact)
    rows = datasets.load(name).train.rows
    assert (reference.origin.kind, reference.origin.name) == (OriginKind.TRAINING_PART, name)
    assert reference.rows == reference.scored_rows == reference.origin.rows == len(rows)
    for column, feature in enumerate(card.features):
        histogram = reference.features[feature.name]
        assert histogram == Distribution.of(histogram.bins, rows[:, column])
        assert isinstance(histogram.bins, Levels) == (feature.type == "category")
    assert len(reference.scores) == card.scores_per_row


def test_each_kind_of_feature_has_its_bins(prepared: dict[str, Imported]) -> None:
    features = reference_of(prepared["customers:v1"].artefact).features
    premium, region, income = (features[name].bins for name in ("is_premium", "region", "income"))
    assert premium == Numbers(lowest=0, bounds=(0, 1))
    assert region == Levels(levels=(0, 1, 2, 3, 4))
    assert isinstance(income, Numbers)
    assert len(income.bounds) == MAX_BINS
    text = reference_of(prepared["spam:v1"].artefact).features["email_content"].bins
    assert isinstance(text, Numbers)
    assert text.of == "characters"


@pytest.mark.parametrize("tag", ["customers:v1", "iris:v2", "diabetes:v2", "spam:v2"])
def test_scores_are_those_that_a_server_gives(tag: str, prepared: dict[str, Imported]) -> None:
    import onnxruntime

    artefact = prepared[tag].artefact
    rows = datasets.load(artefact.card.model).train.rows
    session = onnxruntime.InferenceSession(artefact.folder / "model.onnx")
    inputs = {"input": rows}
    if artefact.card.input_datatype == "BYTES":
        metadata = session.get_modelmeta().custom_metadata_map
        inputs, _ = GraphInputs.of(metadata, artefact.card.row_format.schema).of_rows(rows)
    (columns,) = session.run(None, inputs)
    columns = columns[:, 1:] if artefact.card.task is Task.BINARY else columns
    for histogram, column in zip(reference_of(artefact).scores, columns.T, strict=True):
        counted = histogram.bins.count(column)
        # Another engine may round a score to the other side of a bound.
        assert np.abs(counted - np.array(histogram.counts)).sum() <= 0.002 * len(rows)
        assert counted.sum() == len(rows)


def test_versions_with_other_references_are_the_same_version(
    prepared: dict[str, Imported], own_store: Path, tmp_path: Path
) -> None:
    path = _write(tmp_path, datasets.load("iris").test.rows)
    imported = import_version(ImportOrder("models:/iris/2", "v2", reference=path))
    theirs = prepared["iris:v2"].artefact
    assert imported.artefact.digest == theirs.digest
    assert reference_of(imported.artefact).rows != reference_of(theirs).rows
    origin = reference_of(imported.artefact).origin
    assert (origin.kind, origin.name, origin.rows) == (OriginKind.FILE, str(path), 30)


def test_a_file_that_does_not_fit_leaves_nothing_in_the_store(
    prepared: dict[str, Imported], own_store: Path, tmp_path: Path
) -> None:
    path = tmp_path / "iris.csv"
    path.write_text("sepal_length_cm\n5\n")
    with pytest.raises(ReferenceRefused, match="lacks the columns 'sepal_width_cm', "):
        import_version(ImportOrder("models:/iris/2", "v2", reference=path))
    assert repository.artefacts() == []


@pytest.fixture
def iris(prepared: dict[str, Imported], own_store: Path) -> Artefact:
    """`iris:v2` in a store of its own, as an import from before there were references left it."""
    folder = own_store / "models" / "iris" / "v2"
    shutil.copytree(prepared["iris:v2"].artefact.folder, folder)
    (folder.parent / "latest").write_text("v7")
    (folder / "reference.json").unlink()
    card = folder / "card.json"
    without = Card.model_validate_json(card.read_text()).model_dump_json(exclude={"reference"})
    card.write_text(without)
    artefact = repository.look_up("iris", "v2")
    assert artefact is not None
    assert artefact.card.reference is None
    return artefact


def _write(folder: Path, rows: Any, **columns: Any) -> Path:
    path = folder / "iris.parquet"
    names = datasets.load("iris").feature_names
    pd.DataFrame(rows, columns=list(names)).assign(**columns).to_parquet(path)
    return path


def test_a_reference_is_added_and_replaced(iris: Artefact, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = datasets.load("iris").train.rows.copy()
    before = (iris.folder / "model.yaml").read_bytes()
    added = replace_reference("iris:v2", _write(tmp_path, rows, label="setosa"))
    assert "120 rows, file: " in capsys.readouterr().out
    rows[:3, 1], rows[3, 2] = np.nan, np.inf
    replaced = replace_reference("iris:v2", _write(tmp_path, rows, label="setosa"))
    said = capsys.readouterr().out
    assert "4 of them have a missing or infinite value, and no scores" in said
    assert "ignored: label" in said
    assert iris.digest == added.digest == replaced.digest
    assert repository.look_up("iris", "v2") == replaced
    reference = reference_of(replaced)
    assert (reference.rows, reference.scored_rows) == (120, 116)
    assert reference.features["sepal_width_cm"].counts[-1] == 3
    assert reference.features["petal_length_cm"].counts[-2] == 1
    assert (iris.folder / "model.yaml").read_bytes() == before
    assert (iris.folder.parent / "latest").read_text() == "v7"


def test_an_import_that_is_there_already_gets_the_reference_that_it_is_given(iris: Artefact, tmp_path: Path) -> None:
    path = _write(tmp_path, datasets.load("iris").test.rows)
    imported = import_version(ImportOrder("models:/iris/2", "v2", reference=path))
    assert imported.outcome is ImportOutcome.ALREADY_THERE
    assert reference_of(imported.artefact).origin.name == str(path)
    assert repository.look_up("iris", "v2") == imported.artefact


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sepal_width_cm": np.nan}, "No row of .* has a value of the feature 'sepal_width_cm'"),
        ({"sepal_width_cm": [np.nan, 1.0], "petal_width_cm": [1.0, np.inf]}, "No row of .* can be scored"),
        ({"sepal_width_cm": "wide"}, "row 0, feature 'sepal_width_cm': the text 'wide' where a number belongs"),
    ],
)
def test_rows_that_say_nothing_leave_the_artefact_as_it_is(
    change: dict[str, Any], said: str, iris: Artefact, tmp_path: Path
) -> None:
    path = _write(tmp_path, datasets.load("iris").test.rows[:2], **change)
    with pytest.raises(ReferenceRefused, match=said):
        replace_reference("iris:v2", path)
    assert repository.look_up("iris", "v2") == iris


@pytest.mark.parametrize(
    ("tag", "said"),
    [("iris:v9", "The store has no iris:v9"), ("iris", "cannot be a version label"), ("../iris:v2", "cannot be a")],
)
def test_only_what_is_in_the_store_gets_a_reference(tag: str, said: str, iris: Artefact, tmp_path: Path) -> None:
    with pytest.raises(LifecycleError, match=said):
        replace_reference(tag, tmp_path / "iris.parquet")


def test_an_artefact_that_was_replaced_in_the_meantime_keeps_its_reference(
    iris: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = reference_data.reference_of_file
    source = iris.card.source.model_copy(update={"uri": "models:/iris/9"})

    def made_too_late(path: Path, card: Card, folder: Path) -> Made:
        write_card(card.model_copy(update={"source": source}), folder)
        return make(path, card, folder)

    monkeypatch.setattr(reference_data, "reference_of_file", made_too_late)
    with pytest.raises(LifecycleError, match="iris:v2 was replaced in the meantime"):
        replace_reference("iris:v2", _write(tmp_path, datasets.load("iris").test.rows))
    assert not (iris.folder / "reference.json").exists()


def test_a_damaged_artefact_gets_none(iris: Artefact, tmp_path: Path) -> None:
    (iris.folder / "model.onnx").write_bytes(b"short")
    with pytest.raises(LifecycleError, match="iris:v2 cannot be served"):
        replace_reference("iris:v2", tmp_path / "iris.parquet")


FRAME = pd.DataFrame({"x": np.arange(8.0)})


@pytest.fixture
def log_line(log_model: Callable[..., str], tmp_path: Path) -> Callable[..., Artefact]:
    """Log a line's model, log that source as what its run was trained on, and import it."""

    def log(source: Any = None, **arguments: Any) -> Artefact:
        uri = log_model("sklearn", LinearRegression().fit(FRAME, FRAME["x"] * 2), **arguments)
        if source is not None:
            with registry.session(), mlflow.start_run(run_id=uri.split("/")[1]):
                mlflow.log_input(from_pandas(FRAME, source=source, name=tmp_path.name), context="training")
        return import_version(ImportOrder(uri, "v1", model="line")).artefact

    return log


@pytest.mark.parametrize("as_uri", [True, False])
def test_what_the_run_logged_as_its_data_is_the_reference(
    as_uri: bool, log_line: Callable[..., Artefact], own_store: Path, tmp_path: Path
) -> None:
    path = tmp_path / "training data.csv"
    FRAME.assign(y=1).to_csv(path, index=False)
    reference = reference_of(log_line(path.as_uri() if as_uri else str(path), input_example=FRAME[:3]))
    assert (reference.origin.kind, reference.origin.name) == (OriginKind.LOGGED_DATA_SET, str(path))
    assert reference.rows == 8
    scores = reference.scores[0].bins
    assert isinstance(scores, Numbers)
    assert [scores.lowest, *scores.bounds] == pytest.approx([0, *range(0, 16, 2)], abs=1e-6)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("s3://bucket/lines.csv", "is no file on this machine but s3"),
        ("/nowhere/lines.csv", "there is no file /nowhere/lines.csv"),
        (None, ""),
    ],
)
def test_without_it_the_input_example_is(
    source: Any,
    said: str,
    log_line: Callable[..., Artefact],
    own_store: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reference = reference_of(log_line(source, input_example=FRAME[:3]))
    assert (reference.origin.kind, reference.rows) == (OriginKind.INPUT_EXAMPLE, 3)
    assert said in capsys.readouterr().out


def test_a_large_file_is_not_read_unasked(
    log_line: Callable[..., Artefact],
    own_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    FRAME.to_csv(tmp_path / "lines.csv", index=False)
    monkeypatch.setattr(logged_data, "MAX_UNASKED_BYTES", 10)
    artefact = log_line(str(tmp_path / "lines.csv"))
    assert artefact.card.reference is None
    assert f"--reference {tmp_path / 'lines.csv'} reads it" in capsys.readouterr().out


def test_a_model_with_no_rows_is_imported_without_a_reference(
    log_line: Callable[..., Artefact], own_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artefact = log_line()
    assert (artefact.card.reference, read_reference(artefact.folder, artefact.card)) == (None, None)
    assert "line:v1: reference: none" in capsys.readouterr().out
    assert not (artefact.folder / "reference.json").exists()
