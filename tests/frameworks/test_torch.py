"""Networks of PyTorch, logged with MLflow or as a checkpoint, are served as they answer themselves, or refused."""

import contextlib
import importlib.util
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature
from numpy.typing import NDArray
from scipy.special import expit, softmax
from typer.testing import CliRunner

from configuration.settings import EngineChoice
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import FileKind, Task
from runners.artefacts.scores import to_columns
from runners.engines.engine import open_engine
from shokado.cli.app import app
from shokado.lifecycle.errors import (
    CanCarryCode,
    LifecycleError,
    MissingPackage,
    UnsupportedModel,
    VerificationFailed,
    VersionTaken,
)
from shokado.lifecycle.importing import registry
from shokado.lifecycle.importing.architectures import Architecture
from shokado.lifecycle.importing.checkpoints import Checkpoint
from shokado.lifecycle.importing.output_meaning import OutputMeaning
from shokado.lifecycle.importing.registry import Formats
from shokado.lifecycle.importing.version import ImportOrder, ImportOutcome, WhenTaken, import_version
from tests.support import http
from tests.support.invocations import assert_near, ours, theirs
from tests.support.server import serving

if "CI" not in os.environ:
    pytest.importorskip("torch", reason="PyTorch is not installed: make frameworks")
    pytest.importorskip("onnxscript", reason="PyTorch's exporter is not installed: make frameworks")
import torch
from torch import nn

from tests.frameworks import nets

NAMES = ["width", "depth", "age"]
RANDOM = np.random.default_rng(8)
ROWS = RANDOM.normal(size=(300, 3)).astype(np.float32)
FRAME = pd.DataFrame(ROWS.astype(np.float64), columns=NAMES)
VALUE = (ROWS[:, :1] * 2 + ROWS[:, 1:2] + RANDOM.normal(size=(300, 1)) / 4).astype(np.float32)
HELD_OUT = np.vstack(
    [
        RANDOM.normal(size=(50, 3)),
        RANDOM.normal(size=(10, 3)) * 1e4,
        RANDOM.normal(size=(10, 3)) * 1e-6,
        np.zeros((1, 3)),
    ]
).astype(np.float32)
"""Rows that neither the training nor the import has seen, large and small ones among them."""
NETS_FILE = Path(nets.__file__)


def trained(network: nn.Module) -> nn.Module:
    """A few steps, which move the statistics of normalisation as well, and leave it training."""
    torch.manual_seed(3)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    rows, wanted = torch.tensor(ROWS), torch.tensor(VALUE)
    for _ in range(20):
        optimizer.zero_grad()
        scores = network(rows)
        nn.functional.mse_loss(scores.reshape(len(rows), -1)[:, -1:], wanted).backward()
        optimizer.step()
    return network


def scaled() -> nn.Module:
    """With what it measured of its data in a buffer."""
    network = nn.Sequential(nn.BatchNorm1d(3, affine=False), nets.Net(3, outputs=2, last=nn.Softmax(dim=1)))
    return trained(network)


TAKEN: dict[str, tuple[Task, Callable[[], nn.Module]]] = {
    "a value": (Task.REGRESSION, lambda: trained(nets.Net(3))),
    "a flat value": (Task.REGRESSION, lambda: trained(nets.Flat(3))),
    "several values": (Task.MULTIOUTPUT, lambda: trained(nets.Net(3, outputs=3))),
    "a line": (Task.REGRESSION, lambda: trained(nn.Linear(3, 1))),
    "a sigmoid": (Task.REGRESSION, lambda: trained(nets.Net(3, last=nn.Sigmoid()))),
    "two probabilities": (Task.BINARY, scaled),
    "three probabilities": (Task.MULTICLASS, lambda: trained(nets.Net(3, outputs=3, last=nn.Softmax(dim=-1)))),
    "what differs in training": (Task.REGRESSION, lambda: trained(nets.regular(3))),
    "classes of what differs in training": (
        Task.MULTICLASS,
        lambda: trained(nets.regular(3, 4, nn.Softmax(dim=1))),
    ),
    "layers of many kinds": (Task.REGRESSION, lambda: trained(nets.Residual(3))),
    "a step": (Task.REGRESSION, lambda: trained(nets.Piecewise(3))),
}


def log(network: nn.Module, rows: Any = FRAME, **arguments: Any) -> str:
    """Its address, logged as pickle with the signature of those rows, unless it is said otherwise."""
    arguments = {"serialization_format": "pickle", "signature": signature_of(rows)} | arguments
    with registry.session() as client:
        experiment = registry.open_experiment(client, "networks")
        with mlflow.start_run(experiment_id=experiment) as active:
            mlflow.pytorch.log_model(network, name="model", pip_requirements=[], **arguments)
    return f"runs:/{active.info.run_id}/model"


def signature_of(rows: Any) -> ModelSignature:
    return mlflow.models.infer_signature(rows)


def imported(uri: str, **options: Any) -> Artefact:
    return import_version(ImportOrder(uri, "v1", model="network", **options)).artefact


def scores_of(artefact: Artefact, rows: NDArray[np.float32]) -> NDArray[Any]:
    """A column a class, or one of values, by the engine that serves the version."""
    scores = open_engine(artefact.folder, artefact.card, EngineChoice.ONNXRUNTIME).predict(rows)
    return to_columns(artefact.card.task, np.asarray(scores))


def truth_of(network: nn.Module, rows: NDArray[np.float32]) -> NDArray[Any]:
    with torch.no_grad():
        return np.asarray(network.eval()(torch.tensor(rows)).numpy()).reshape(len(rows), -1)


def assert_served_as(artefact: Artefact, truth: NDArray[Any]) -> None:
    """For all of the rows held out at once, and one by one."""
    np.testing.assert_allclose(scores_of(artefact, HELD_OUT), truth, rtol=1e-4, atol=1e-5)
    alone = np.vstack([scores_of(artefact, row[None]) for row in HELD_OUT[:9]])
    np.testing.assert_allclose(alone, truth[:9], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", TAKEN)
def test_every_kind_of_network_answers_as_with_mlflow(kind: str, own_store: Path) -> None:
    task, make = TAKEN[kind]
    network = make()
    by_name, by_position = log(network), log(network.eval(), ROWS, serialization_format="pt2", input_example=ROWS[:5])
    for uri, names, number in ((by_name, NAMES, 1), (by_position, ["f0", "f1", "f2"], 2)):
        order = ImportOrder(uri, f"v{number}", model="network")
        artefact = import_version(order).artefact
        card = artefact.card
        assert (card.task, list(card.feature_names), set(card.files)) == (task, names, {FileKind.ONNX})
        assert (card.source.flavor, card.source.framework) == ("pytorch", f"torch {torch.__version__}")
        assert_served_as(artefact, truth_of(network, HELD_OUT))
        body = {"dataframe_split": FRAME[:20].set_axis(names, axis=1).to_dict(orient="split", index=False)}
        asked = body if names == NAMES else {"inputs": ROWS[:20].tolist()}
        assert_near(ours(artefact, asked)["predictions"], theirs(uri, asked)["predictions"], rel=1e-4, abs=1e-5)


def test_nothing_of_the_source_code_is_in_the_file(own_store: Path) -> None:
    artefact = imported(log(TAKEN["layers of many kinds"][1]()))
    stored = (artefact.folder / FileKind.ONNX.file_name).read_bytes()
    assert b".py" not in stored
    assert b"forward" not in stored
    again = import_version(ImportOrder(artefact.card.source.uri, "v2", model="network")).artefact
    assert again.card.files == artefact.card.files


TRAINING: dict[str, nn.Module] = {
    "dropout": nn.Sequential(nn.Linear(3, 16), nn.Dropout(0.5), nn.Linear(16, 1)),
    "batch normalisation": nn.Sequential(nn.Linear(3, 16), nn.BatchNorm1d(16), nn.Linear(16, 1)),
}


@pytest.mark.parametrize("kind", TRAINING)
def test_a_graph_of_a_network_in_training_is_refused(kind: str, own_store: Path) -> None:
    """MLflow's own format keeps the mode, and `eval()` comes too late for it."""
    uri = log(trained(TRAINING[kind]).train(), ROWS, serialization_format="pt2", input_example=ROWS[:5])
    with pytest.raises(UnsupportedModel, match=rf"{kind}.* while it trains: call model\.eval\(\) before"):
        imported(uri)


def test_a_graph_of_one_row_is_refused(own_store: Path) -> None:
    uri = log(nets.Net(3).eval(), ROWS, serialization_format="pt2", input_example=ROWS[:1])
    with pytest.raises(UnsupportedModel, match=r"takes one row at a time, .*an input example of several"):
        imported(uri)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a branch on values": (lambda: nets.Branching(3), r"torch\.export cannot follow it.* torch\.where"),
    "a number of rows": (lambda: nets.InFours(3), "it does not take 1 rows at a time"),
    "rows that look at others": (lambda: nets.OfAll(3), "its answer for a row depends on the rows beside it"),
    "two outputs": (lambda: nets.Pair(3), "it gives a tuple, where one tensor belongs"),
    "doubles": (lambda: nets.Net(3).double(), "does not take rows of 3 numbers of float32"),
    "a table of few rows": (lambda: nets.Looking(3), "does not take rows of 3 numbers of float32: index out of range"),
    "nothing": (lambda: nets.Net(3, outputs=0), r"its answer is \[16, 0\] for 16 rows"),
    "another width": (lambda: nets.Net(4), "does not take rows of 3 numbers of float32: mat1 and mat2"),
    "TorchScript": (lambda: torch.jit.script(nets.Net(3)), "TorchScript"),
}


@pytest.mark.parametrize(("make", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_served_is_refused_with_the_reason(
    make: Callable[[], nn.Module], said: str, own_store: Path
) -> None:
    with pytest.raises(UnsupportedModel, match=f"The PyTorch model cannot be served: .*{said}"):
        imported(log(make()))


def test_rows_that_only_the_receipt_tries_are_refused_in_words(own_store: Path) -> None:
    far = FRAME * 1e5
    with pytest.raises(VerificationFailed, match="does not score all rows of numbers: index out of range"):
        imported(log(nets.Shelf(3), far, input_example=far[:5]))


IMAGES = np.zeros((2, 3, 8, 8), dtype=np.float32)
SIGNATURES: dict[str, tuple[Any, str]] = {
    "images": (IMAGES, r"takes \[-1, 3, 8, 8\] of float32, where rows are numbers, .* text and images are not taken"),
    "tokens": (np.zeros((2, 3), dtype=np.int64), r"takes \[-1, 3\] of int64, where rows are numbers"),
    "several": ({"a": ROWS, "b": ROWS}, "takes 2 tensors, where rows are numbers"),
    "texts": (
        pd.DataFrame({"a": ["x"], "b": ["y"], "c": ["z"]}),
        r"a is of the type text by its signature, and float in the file",
    ),
}


@pytest.mark.parametrize(("rows", "said"), SIGNATURES.values(), ids=SIGNATURES)
def test_what_is_no_row_of_numbers_is_refused(rows: Any, said: str, own_store: Path) -> None:
    with pytest.raises(UnsupportedModel, match=said):
        imported(log(nets.Net(3), rows))


def test_without_a_signature_nobody_knows_what_it_takes(own_store: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"has no signature, .* log it with signature="):
        imported(log(nets.Net(3), signature=None))


def test_parameters_beside_the_rows_are_not_left_out(own_store: Path) -> None:
    """MLflow hands their defaults to every call."""
    signature = mlflow.models.infer_signature(FRAME, params={"scale": 2.0})
    with pytest.raises(UnsupportedModel, match=r"has parameters that MLflow hands it with the rows \(scale\)"):
        imported(log(nets.Scaled(3), signature=signature))


@pytest.mark.parametrize("form", ["pickle", "pt2"])
def test_both_formats_can_carry_code(form: str, own_store: Path) -> None:
    uri = log(nets.Net(3).eval(), ROWS, serialization_format=form, input_example=ROWS[:5])
    with pytest.raises(CanCarryCode, match=r"could run code when it is read: PyTorch .* as the ONNX file") as refused:
        imported(uri, formats=Formats.WITHOUT_CODE)
    assert refused.value.next_command == f"shokado models import {uri} --name network --as v1"


def test_code_in_a_graph_passes_for_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why the format that MLflow calls safe is refused above; where this fails, it can be taken."""
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    mlflow.pytorch.save_model(nets.Net(3).eval(), tmp_path / "model", input_example=ROWS[:5], pip_requirements=[])
    file, left = tmp_path / "model" / "data" / "model.pt2", tmp_path / "was-here"
    with zipfile.ZipFile(file) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    (graph,) = (name for name in records if name.endswith("models/model.json"))
    code = f"__import__('pathlib').Path('{left}').touch()"
    records[graph], count = re.subn(rb'"expr_str": "[^"]*"', f'"expr_str": "{code}"'.encode(), records[graph])
    assert count
    with zipfile.ZipFile(file, "w") as archive:
        for name, record in records.items():
            archive.writestr(name, record)
    with contextlib.suppress(Exception):
        mlflow.pytorch.load_model(str(tmp_path / "model"))
    assert left.exists()


def test_large_numbers_are_told_from_wrong_ones(own_store: Path) -> None:
    """What float32 cannot sum up is refused with what helps, and taken where it is allowed."""
    torch.manual_seed(1)
    network = nets.Net(3, hidden=4096)
    with torch.no_grad():
        # What is left of sums of millions that all but cancel is as whoever sums up rounds, whatever the processor.
        network.hidden.weight[2048:], network.hidden.bias[2048:] = (
            network.hidden.weight[:2048],
            network.hidden.bias[:2048],
        )
        network.out.weight[:, 2048:] = -network.out.weight[:, :2048] + 1e-8 * torch.randn(1, 2048)
    uri = log(network, FRAME * 1e6, input_example=(FRAME * 1e6)[:1])
    with pytest.raises(VerificationFailed, match=r"begin the network with BatchNorm1d, .*--tolerance"):
        imported(uri, tolerance=1e-7)
    assert imported(uri, tolerance=1e6).card.task is Task.REGRESSION


def test_without_its_packages_the_command_that_installs_them_is_named(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, find = log(nets.Net(3)), importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "onnxscript" else find(name, *rest)
    )
    with pytest.raises(MissingPackage, match=r"here onnxscript is missing: make frameworks .* pip install") as refused:
        imported(uri)
    assert refused.value.next_command == "make frameworks"


# Checkpoints.


def save(folder: Path, network: nn.Module, **content: Any) -> Path:
    """A checkpoint as one usually looks; what is None is left out."""
    content = {"state_dict": network.state_dict(), "input_dim": 3, "feature_names": NAMES, "metadata": {}} | content
    path = folder / "model.pt"
    torch.save({name: value for name, value in content.items() if value is not None}, path)
    return path


def of_file(path: Path, architecture: str, arguments: dict[str, Any] | None = None, **said: Any) -> Checkpoint:
    return Checkpoint(path, Architecture(architecture), arguments or {}, OutputMeaning(**said))


def checkpoint_of(path: Path, architecture: str = "tests.frameworks.nets:Net", **options: Any) -> Artefact:
    checkpoint = of_file(path, architecture, **options)
    return import_version(ImportOrder(checkpoint.uri, "v1", model="network", file=checkpoint)).artefact


@pytest.mark.parametrize("architecture", ["tests.frameworks.nets:Net", f"{NETS_FILE}:Net"], ids=["module", "file"])
def test_a_checkpoint_is_served_with_its_names(architecture: str, tmp_path: Path, own_store: Path) -> None:
    network = trained(nets.Net(3, hidden=5))
    path = save(tmp_path, network, metadata={"hidden": 5, "task": "regression", "epochs": 20})
    artefact = checkpoint_of(path, architecture)
    card = artefact.card
    assert (card.task, list(card.feature_names), card.source.flavor) == (Task.REGRESSION, NAMES, "checkpoint")
    assert card.source.uri.startswith("file:model.pt@")
    assert_served_as(artefact, truth_of(network, HELD_OUT))
    assert len(ours(artefact, {"inputs": ROWS[:2].tolist()})["predictions"]) == 2


def with_classes(scores: NDArray[Any], is_logits: bool) -> NDArray[Any]:
    """Probabilities, in float64."""
    scores = scores.astype(np.float64)
    if scores.shape[1] == 1:
        second = expit(scores) if is_logits else scores
        return np.hstack([1 - second, second])
    return np.asarray(softmax(scores, axis=1)) if is_logits else scores


CLASSIFIERS: dict[str, tuple[int, nn.Module | None, dict[str, Any], dict[str, Any], list[Any]]] = {
    "a logit": (1, None, {}, {"is_logits": True}, [0, 1]),
    "a logit of the file's classes": (1, None, {"classes": ["no", "yes"]}, {"is_logits": True}, ["no", "yes"]),
    "logits": (3, None, {"task": "multiclass"}, {"is_logits": True}, [0, 1, 2]),
    "logits of classes": (3, None, {}, {"is_logits": True, "classes": ("a", "b", "c")}, ["a", "b", "c"]),
    "a sigmoid": (1, nn.Sigmoid(), {"task": "binary"}, {}, [0, 1]),
    "a sigmoid of classes": (1, nn.Sigmoid(), {}, {"classes": (7, 9)}, [7, 9]),
    "a softmax": (2, nn.Softmax(dim=1), {}, {"classes": ("no", "yes"), "task": "classification"}, ["no", "yes"]),
}


@pytest.mark.parametrize(("outputs", "last", "metadata", "options", "classes"), CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_a_classifiers_checkpoint_has_its_classes(
    outputs: int,
    last: nn.Module | None,
    metadata: dict[str, Any],
    options: dict[str, Any],
    classes: list[Any],
    tmp_path: Path,
    own_store: Path,
) -> None:
    network = trained(nets.Net(3, outputs=outputs, last=last))
    path = save(tmp_path, network, metadata=metadata)
    artefact = checkpoint_of(path, f"{with_last(tmp_path, last)}:net", arguments={"outputs": outputs}, **options)
    truth = with_classes(truth_of(network, HELD_OUT), options.get("is_logits", False))
    assert list(artefact.card.classes) == classes
    assert artefact.card.task is (Task.BINARY if len(classes) == 2 else Task.MULTICLASS)
    assert_served_as(artefact, truth)
    said = ours(artefact, {"inputs": ROWS[:40].tolist()})["predictions"]
    own = with_classes(truth_of(network, ROWS[:40]), options.get("is_logits", False))
    assert said == [classes[position] for position in own.argmax(axis=1)]
    assert len(set(said)) > 1


def with_last(folder: Path, last: nn.Module | None) -> Path:
    """A file of somebody's own, beside the checkpoint, whose architecture ends with that."""
    file = folder / "own_net.py"
    file.write_text(
        f"from torch.nn import *\nfrom tests.frameworks.nets import Net\n\n\n"
        f"def net(input_dim, outputs):\n    return Net(input_dim, outputs=outputs, last={last!r})\n"
    )
    return file


def test_a_regression_may_give_several_values(tmp_path: Path, own_store: Path) -> None:
    network = trained(nets.Net(3, outputs=2))
    artefact = checkpoint_of(save(tmp_path, network, metadata={"outputs": 2, "task": "regression"}))
    assert (artefact.card.task, artefact.card.outputs) == (Task.MULTIOUTPUT, ("output_0", "output_1"))
    assert_served_as(artefact, truth_of(network, HELD_OUT))
    np.testing.assert_allclose(
        ours(artefact, {"inputs": ROWS[:9].tolist()})["predictions"], truth_of(network, ROWS[:9]), rtol=1e-5, atol=1e-6
    )


def test_names_are_numbered_where_the_file_has_none(tmp_path: Path, own_store: Path) -> None:
    """The command may say how many there are."""
    nothing: dict[str, Any] = {"feature_names": None, "metadata": None}
    artefact = checkpoint_of(save(tmp_path, nets.Net(3), **nothing))
    assert artefact.card.feature_names == ("f0", "f1", "f2")
    path = save(tmp_path, nets.Net(3), input_dim=None, **nothing)
    checkpoint = Checkpoint(path, Architecture("tests.frameworks.nets:Net"), {"input_dim": 3})
    artefact = import_version(ImportOrder(checkpoint.uri, "v2", model="network", file=checkpoint)).artefact
    assert artefact.card.feature_names == ("f0", "f1", "f2")


def test_a_checkpoint_is_known_by_its_content_its_options_and_its_architecture(tmp_path: Path, own_store: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(NETS_FILE.read_text())
    path = save(tmp_path, nets.Net(3))

    def bring(**options: Any) -> ImportOutcome:
        when = options.pop("when_taken", WhenTaken.REFUSE)
        checkpoint = of_file(path, f"{file}:Net", **options)
        return import_version(ImportOrder(checkpoint.uri, "v1", "network", when, file=checkpoint)).outcome

    assert [bring(), bring()] == [ImportOutcome.IMPORTED, ImportOutcome.ALREADY_THERE]
    for change in (
        lambda: save(tmp_path, nets.Net(3)),
        lambda: file.write_text(NETS_FILE.read_text().replace("torch.relu", "torch.tanh")),
    ):
        change()
        with pytest.raises(VersionTaken, match=r"network:v1 is file:model\.pt@.*choose another label") as refused:
            bring()
        assert refused.value.next_command is not None
        assert refused.value.next_command.startswith(f"shokado models import {path} --architecture {file}:Net --name")
        assert bring(when_taken=WhenTaken.REPLACE) is ImportOutcome.REPLACED
    with pytest.raises(VersionTaken):
        bring(is_logits=True)
    assert bring(is_logits=True, when_taken=WhenTaken.BESIDE) is ImportOutcome.IMPORTED


class Anything:
    """Not what a file of weights has."""


def whole_module(folder: Path) -> Path:
    torch.save(nets.Net(3), folder / "model.pt")
    return folder / "model.pt"


def bare_weights(folder: Path) -> Path:
    torch.save(nets.Net(3).state_dict(), folder / "model.pt")
    return folder / "model.pt"


def no_file_of_torch(folder: Path) -> Path:
    (folder / "model.pt").write_text("weights")
    return folder / "model.pt"


def broken_file(folder: Path) -> Path:
    path = save(folder, nets.Net(3))
    path.write_bytes(path.read_bytes()[:-200])
    return path


FILES: dict[str, tuple[Callable[[Path], Path], dict[str, Any], str]] = {
    "a whole module": (whole_module, {}, r"the model's state_dict\(\), not the model"),
    "bare weights": (bare_weights, {}, 'has hidden.weight, hidden.bias, out.weight and 1 more, and no "state_dict"'),
    "a text": (no_file_of_torch, {}, "no file of torch.save"),
    "a broken file": (broken_file, {}, "no file of torch.save"),
    "a class": (lambda to: save(to, nets.Net(3), metadata={"a": Anything()}), {}, "tensors and plain values alone"),
    "no width": (
        lambda to: save(to, nets.Net(3), input_dim=None, feature_names=None),
        {},
        """how many features a row has; --architecture-args '{"input_dim": 10}' says it""",
    ),
    "two widths": (lambda to: save(to, nets.Net(3), input_dim=4), {}, r'has 3 "feature_names", and the "input_dim" 4'),
    "equal names": (lambda to: save(to, nets.Net(3), feature_names=["a", "a", "b"]), {}, "not all different ones"),
    "another width": (
        lambda to: save(to, nets.Net(4)),
        {},
        r"do not fit .*nets:Net: of another shape are hidden.weight \[8, 4\] for \[8, 3\]",
    ),
    "another layer": (
        lambda to: save(to, nets.regular(3)),
        {},
        r"the file lacks hidden.weight, hidden.bias, out.weight and 1 more; the architecture has no 0.weight, ",
    ),
    "doubles": (lambda to: save(to, nets.Net(3).double()), {}, "of more digits are hidden.weight float64 for float32"),
    "no keyword": (lambda to: save(to, nets.Net(3)), {"arguments": {"depth": 2}}, r"cannot be called with .*depth=2"),
    "too few classes": (
        lambda to: save(to, nets.Net(3)),
        {"is_logits": True, "classes": ("a", "b", "c")},
        "3 classes are named, and the model has 2 outputs",
    ),
    "a classifier's logits": (
        lambda to: save(to, nets.Net(3, outputs=3), metadata={"outputs": 3, "task": "multiclass"}),
        {},
        "called a model of multiclass, and answers as one of multioutput does.* --logits puts a softmax",
    ),
    "a logit for a probability": (
        lambda to: save(to, nets.Net(3), metadata={"task": "binary"}),
        {},
        "called a model of binary, and answers as one of multioutput does.* --logits puts a softmax",
    ),
    "a regression with classes": (
        lambda to: save(to, nets.Net(3)),
        {"task": "regression", "classes": ("a", "b")},
        "A regression has neither classes nor logits",
    ),
    "classes of another number": (
        lambda to: save(to, nets.Net(3)),
        {"task": "multiclass", "is_logits": True},
        "is called a model of multiclass, and answers as one of binary",
    ),
}


@pytest.mark.parametrize(("make", "options", "said"), FILES.values(), ids=FILES)
def test_a_checkpoint_that_does_not_fit_says_what_does_not(
    make: Callable[[Path], Path], options: dict[str, Any], said: str, tmp_path: Path, own_store: Path
) -> None:
    with pytest.raises(UnsupportedModel, match=said):
        checkpoint_of(make(tmp_path), **options)


def test_reading_a_checkpoint_runs_nothing(tmp_path: Path, own_store: Path) -> None:
    left = tmp_path / "was-here"

    class Harmful:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {left}",)

    path = save(tmp_path, nets.Net(3), metadata={"a": Harmful()})
    with pytest.raises(UnsupportedModel, match="tensors and plain values alone"):
        checkpoint_of(path)
    assert not left.exists()


ARCHITECTURES = {
    "Net": "'Net' names no architecture: my_package.nets:Net and nets.py:Net are understood",
    "nets:": "names no architecture",
    "no_such_package.nets:Net": "no_such_package.nets cannot be imported: ModuleNotFoundError",
    "no_such_file.py:Net": "There is no file no_such_file.py",
    "tests.frameworks.nets:Ne": "has no callable Ne; it has Net, Flat, ",
    "tests.frameworks.nets:not_a_module": "not_a_module gives int, where a torch.nn.Module belongs",
}


@pytest.mark.parametrize(("architecture", "said"), ARCHITECTURES.items(), ids=ARCHITECTURES)
def test_an_architecture_that_there_is_not_is_named(
    architecture: str, said: str, tmp_path: Path, own_store: Path
) -> None:
    path = save(tmp_path, nets.Net(3))
    with pytest.raises(LifecycleError, match=said):
        checkpoint_of(path, architecture)


# As a user meets them.


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a checkpoint and its architecture, where the commands run."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path, trained(nets.Net(3, hidden=6)))
    (tmp_path / "nets.py").write_text(NETS_FILE.read_text())
    return tmp_path


COMMAND = ["models", "import", "model.pt", "--architecture", "nets.py:Net", "--architecture-args", '{"hidden": 6}']


def test_a_checkpoint_is_imported_by_one_command_and_served(files: Path, own_store: Path) -> None:
    """A server answers by what is stored, and has never seen PyTorch."""
    command = [*COMMAND, "--classes", "no,yes", "--logits", "--name", "network", "--as", "v1"]
    ended = CliRunner().invoke(app, [*command, "--no-pickle"])
    assert ended.exit_code == 0, ended.stderr
    assert "network:v1  imported  from file:model.pt@" in ended.stdout
    assert CliRunner().invoke(app, command).stdout.startswith("network:v1  already imported")
    config = files / "serving.yaml"
    environments = "{production: {active: v1, weights: {v1: 100}}}"
    config.write_text(f"model: network\nworkers: 1\nversions: {{v1: {{}}}}\nenvironments: {environments}\n")
    network = nets.Net(3, hidden=6)
    network.load_state_dict(torch.load("model.pt")["state_dict"])
    truth = with_classes(truth_of(network, HELD_OUT), is_logits=True)[:, 1]
    environment = {"SHOKADO_CONFIG": str(config), "BENTOML_HOME": str(own_store)}
    with serving(environment=environment) as server:
        for rows in (HELD_OUT.tolist(), [dict(zip(NAMES, row, strict=True)) for row in HELD_OUT.tolist()]):
            answer = http.post(f"{server.url}/v1/models/predict", json={"instances": rows}, timeout=20)
            assert answer.status_code == 200, answer.text
            np.testing.assert_allclose(answer.json()["predictions"], truth, rtol=1e-4, atol=1e-5)
        assert answer.json()["classes"] == [["no", "yes"][int(score > 0.5)] for score in truth]
        for worker in server.workers():
            assert "libtorch" not in Path(f"/proc/{worker}/maps").read_text()


WRONG: dict[str, tuple[list[str], int, str]] = {
    "no name": ([*COMMAND, "--as", "v1"], 1, "add --name"),
    "no JSON": ([*COMMAND[:-1], "hidden=6", "--name", "network", "--as", "v1"], 1, "--architecture-args is 'hidden=6'"),
    "no file": (
        ["models", "import", "m.pt", "--architecture", "nets.py:Net", "--as", "v1"],
        1,
        "There is no file m.pt",
    ),
    "no such task": (
        [*COMMAND, "--task", "ranking", "--name", "network", "--as", "v1"],
        1,
        "There is no task 'ranking'",
    ),
    "no architecture": (["models", "import", "model.pt", "--as", "v1"], 1, "is imported with --architecture"),
    "options alone": (["models", "import", "models:/x/1", "--as", "v1", "--logits"], 2, "logits go with"),
}


@pytest.mark.parametrize(("command", "code", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_command_says_what_is_wrong(
    command: list[str], code: int, said: str, files: Path, own_store: Path
) -> None:
    ended = CliRunner().invoke(app, command)
    assert ended.exit_code == code
    assert said in " ".join(ended.stderr.split())
