"""A file that scores differently from its framework never passes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from lifecycle import conversion, registry, verification
from lifecycle.conversion import Description
from lifecycle.errors import VerificationFailed
from lifecycle.importing import Imported
from lifecycle.registry import LoadedModel
from runners.card import Feature, FileKind, Task

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
    other = Description(task=Task.REGRESSION, features=description.features)
    scores = verification.Reference(np.zeros((3, 10), np.float32), np.zeros((3, 1)), 1e-4)
    folder = prepared["customers:v2"].artefact.folder
    with pytest.raises(VerificationFailed, match=r"answers \[3, 2\] for 3 rows"):
        verification._compare(FileKind.ONNX, folder, other, scores)


def test_rows_for_a_stranger_lie_around_its_example() -> None:
    description = Description(task=Task.REGRESSION, features=(Feature(name="a"), Feature(name="b", type="integer")))
    example = np.array([[0.0, 10], [1.0, 30]])
    rows = verification.rows_for(description, example)
    np.testing.assert_array_equal(rows[:2], example)
    assert rows.dtype == np.float32
    assert len(rows) == 2 + verification.RANDOM_ROWS
    assert -0.5 <= rows[:, 0].min() < 0
    assert 1 < rows[:, 0].max() <= 1.5
    np.testing.assert_array_equal(rows[:, 1], np.rint(rows[:, 1]))
    np.testing.assert_array_equal(rows, verification.rows_for(description, example))


@pytest.mark.parametrize("example", [None, "text", {"a": "x"}, np.zeros((2, 5))])
def test_rows_without_a_usable_example_fit_the_types(example: object) -> None:
    features = (Feature(name="a"), Feature(name="b", type="boolean"), Feature(name="c", type="category"))
    rows = verification.rows_for(Description(task=Task.REGRESSION, features=features), example)
    assert rows.shape == (verification.RANDOM_ROWS, 3)
    assert set(np.unique(rows[:, 1])) == {0, 1}
    assert np.isfinite(rows).all()
