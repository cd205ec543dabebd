"""Engines: they score as the framework that trained the model does, and refuse what its card does not describe."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from configuration.settings import EngineChoice
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import CardError, FileKind, Task
from runners.engines.engine import Engine, FasterEngine, example_rows, find_crossover, likely_rows, open_engine
from runners.inputs.rows import Rows
from shokado.lifecycle import datasets
from tests.conftest import ROOT
from tests.runners.conftest import FindArtefact
from tests.runners.engine_doubles import Obliging
from tests.support.clock import HandClock

SERVED = [
    *((dataset, "v1", choice) for dataset in datasets.NAMES if dataset != "spam" for choice in EngineChoice),
    ("spam", "v1", EngineChoice.ONNXRUNTIME),
    *((dataset, "v2", EngineChoice.ONNXRUNTIME) for dataset in datasets.NAMES),
]


@functools.cache
def rows_of(dataset: str) -> Rows:
    """The test part of a data set."""
    return datasets.load(dataset).test.rows


@functools.cache
def framework_scores(artefact_of: FindArtefact, dataset: str, version: str) -> NDArray[Any]:
    """What the framework itself says of the test rows."""
    artefact = artefact_of(dataset, version)
    if FileKind.UBJ in artefact.card.files:
        return scores_of_xgboost(artefact, rows_of(dataset))
    return scores_of_mlflow_model(artefact, rows_of(dataset))


def scores_of_xgboost(artefact: Artefact, rows: Rows) -> NDArray[Any]:
    import xgboost

    booster = xgboost.Booster(model_file=artefact.folder / FileKind.UBJ.file_name)
    scores: NDArray[Any] = booster.predict(xgboost.DMatrix(rows, feature_names=booster.feature_names))
    return scores


def scores_of_mlflow_model(artefact: Artefact, rows: Rows) -> NDArray[Any]:
    import mlflow
    import pandas as pd

    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    model = mlflow.sklearn.load_model(artefact.card.source.uri)
    named = pd.DataFrame(rows, columns=list(artefact.card.feature_names))
    if artefact.card.task is Task.REGRESSION:
        return np.asarray(model.predict(named))
    scores = np.asarray(model.predict_proba(named))
    return scores[:, 1] if artefact.card.task is Task.BINARY else scores


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "version", "choice"), SERVED)
def test_an_engine_scores_as_the_framework_does(
    dataset: str, version: str, choice: EngineChoice, artefact_of: FindArtefact
) -> None:
    artefact = artefact_of(dataset, version)
    engine = open_engine(artefact.folder, artefact.card, choice)
    scores = engine.predict(rows_of(dataset))
    expected = framework_scores(artefact_of, dataset, version)
    assert scores.dtype == np.float32
    assert scores.shape == expected.shape
    assert_allclose(scores, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("dataset", "version", "choice"), SERVED)
def test_a_row_scores_the_same_alone_and_in_any_batch(
    dataset: str, version: str, choice: EngineChoice, artefact_of: FindArtefact
) -> None:
    artefact = artefact_of(dataset, version)
    engine = open_engine(artefact.folder, artefact.card, choice)
    rows = rows_of(dataset)[:25]
    whole = engine.predict(rows)
    assert_allclose(np.concatenate([engine.predict(rows[i : i + 1]) for i in range(25)]), whole, rtol=1e-5, atol=1e-6)
    assert_allclose(np.concatenate([engine.predict(rows[:7]), engine.predict(rows[7:])]), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("choice", [EngineChoice.ONNXRUNTIME, EngineChoice.XGBOOST])
def test_an_engine_takes_rows_as_they_came_over_the_wire(choice: EngineChoice, trees: Artefact) -> None:
    rows = rows_of("customers")[:50]
    packed = np.frombuffer(rows.tobytes(), dtype=np.float32).reshape(rows.shape)
    assert not packed.flags.writeable
    engine = open_engine(trees.folder, trees.card, choice)
    assert_array_equal(engine.predict(packed), engine.predict(rows))


@pytest.mark.parametrize("choice", [EngineChoice.ONNXRUNTIME, EngineChoice.XGBOOST])
def test_an_engine_raises_for_rows_of_another_width(choice: EngineChoice, trees: Artefact) -> None:
    engine = open_engine(trees.folder, trees.card, choice)
    with pytest.raises(Exception, match=r"(?i)shape|dimension|feature"):
        engine.predict(np.zeros((3, len(trees.card.features) + 1), dtype=np.float32))


def test_the_choice_decides_which_engine_is_opened(artefact_of: FindArtefact, trees: Artefact) -> None:
    net = artefact_of("customers", "v2")
    assert open_engine(trees.folder, trees.card, EngineChoice.ONNXRUNTIME).name == "onnxruntime"
    assert open_engine(trees.folder, trees.card, EngineChoice.XGBOOST).name == "xgboost"
    assert isinstance(open_engine(trees.folder, trees.card, EngineChoice.AUTO), FasterEngine)
    assert open_engine(net.folder, net.card, EngineChoice.AUTO).name == "onnxruntime"


def test_an_engine_whose_file_the_artefact_lacks_is_refused(artefact_of: FindArtefact) -> None:
    net = artefact_of("customers", "v2")
    with pytest.raises(CardError, match=r"no model\.ubj") as refused:
        open_engine(net.folder, net.card, EngineChoice.XGBOOST)
    assert str(net.folder) in str(refused.value)


@pytest.mark.parametrize("kind", [FileKind.ONNX, FileKind.UBJ])
def test_a_file_with_one_flipped_bit_is_refused(kind: FileKind, own_trees: Artefact) -> None:
    path = own_trees.folder / kind.file_name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CardError, match="not the file that its card describes; import the version again") as refused:
        open_engine(own_trees.folder, own_trees.card, EngineChoice.AUTO)
    assert str(refused.value).startswith(f"{path}: ")


@pytest.mark.parametrize("kind", [FileKind.ONNX, FileKind.UBJ])
def test_a_missing_file_is_refused(kind: FileKind, own_trees: Artefact) -> None:
    path = own_trees.folder / kind.file_name
    path.unlink()
    with pytest.raises(CardError, match="No such file") as refused:
        open_engine(own_trees.folder, own_trees.card, EngineChoice.AUTO)
    assert str(refused.value).startswith(f"{path}: ")


def test_a_card_that_gives_its_files_each_others_digest_is_refused(trees: Artefact) -> None:
    files = trees.card.files
    swapped = {FileKind.ONNX: files[FileKind.UBJ], FileKind.UBJ: files[FileKind.ONNX]}
    card = trees.card.model_copy(update={"files": swapped})
    with pytest.raises(CardError, match="not the file that its card describes; import the version again") as refused:
        open_engine(trees.folder, card, EngineChoice.AUTO)
    assert str(trees.folder) in str(refused.value)


@dataclass
class TakesTime(Obliging):
    """Advances a clock by a price for each call and each row, and by another for the first call at each size."""

    clock: HandClock = None  # type: ignore[assignment]
    call_s: float = 0.0
    row_s: float = 0.0
    first_s: float = 0.0

    def predict(self, rows: Rows) -> Rows:
        first = len(rows) not in self.sizes
        scores = super().predict(rows)
        self.clock.advance(self.call_s + self.row_s * len(rows) + self.first_s * first)
        return scores


def crossover(small: Callable[[HandClock], Engine], large: Callable[[HandClock], Engine]) -> int:
    clock = HandClock()
    return find_crossover(small(clock), large(clock), np.zeros((4096, 2), dtype=np.float32), clock=clock)


def quick_call(clock: HandClock) -> Engine:
    return TakesTime(clock=clock, call_s=5e-6, row_s=1e-6)


def quick_row(clock: HandClock) -> Engine:
    return TakesTime(clock=clock, call_s=200e-6, row_s=0.1e-6, first_s=1)


def test_the_crossover_is_the_first_size_at_which_the_other_engine_is_faster() -> None:
    assert crossover(quick_call, quick_row) == 256


def test_the_crossover_is_the_smallest_size_if_the_other_engine_is_always_faster() -> None:
    assert crossover(quick_row, quick_call) == 16


def test_the_crossover_is_out_of_reach_if_the_other_engine_never_is() -> None:
    assert crossover(quick_call, quick_call) == 4097


def test_each_batch_goes_to_the_engine_that_is_faster_at_its_size() -> None:
    small, large = Obliging(), Obliging()
    engine = FasterEngine(small, large, crossover_rows=100)
    for size in (1, 99, 100, 5000):
        engine.predict(np.zeros((size, 2), dtype=np.float32))
    assert small.sizes == [1, 99]
    assert large.sizes == [100, 5000]


def test_likely_rows_are_made_of_the_values_of_the_examples(trees: Artefact) -> None:
    examples, rows = example_rows(trees.card), likely_rows(trees.card, 1000)
    assert rows.shape == (1000, len(trees.card.features))
    assert rows.dtype == np.float32
    for column in range(rows.shape[1]):
        assert set(rows[:, column]) <= set(examples[:, column])
    assert_array_equal(rows, likely_rows(trees.card, 1000))
    assert len(np.unique(rows, axis=0)) > len(examples)


def test_xgboost_alone_scores_without_scikit_learn_or_pandas(trees: Artefact) -> None:
    program = f"""
import json
import sys
from pathlib import Path
from configuration.settings import EngineChoice
from runners.artefacts.card import read_card
from runners.engines.engine import example_rows, import_xgboost_alone, open_engine

import_xgboost_alone()
folder = Path({str(trees.folder)!r})
card = read_card(folder)
engine = open_engine(folder, card, EngineChoice.XGBOOST)
print(json.dumps(engine.predict(example_rows(card)).tolist()))
assert not {{"sklearn", "pandas", "scipy.stats"}} & set(sys.modules)
import pandas
"""
    said = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert_allclose(json.loads(said.stdout), trees.card.examples.scores, atol=1e-6)
