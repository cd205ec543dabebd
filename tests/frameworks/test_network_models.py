"""Networks of PyTorch and Keras, logged with `mlflow.pytorch` and `mlflow.keras`."""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from runners.artefacts.card import Task
from tests.frameworks.conftest import Try
from tests.frameworks.samples import FLOAT_GAPS, FLOATS, ONE, Sample
from tests.frameworks.tried_model import LazyPackage, Train, TriedModel

STEPS = 30


def pytorch(make: Callable[[Any], Any], learned: str = "value") -> Train:
    """What trains the network that is made of `torch.nn`, for some steps, and leaves it in its mode for answers."""

    def train(rows: Sample) -> Any:
        torch = importlib.import_module("torch")
        torch.manual_seed(5)
        network = make(torch.nn)
        given = torch.tensor(np.nan_to_num(rows.frame.to_numpy(dtype=np.float32)))
        wanted = torch.tensor(np.asarray(getattr(rows, learned)), dtype=torch.float32)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        for _ in range(STEPS):
            optimizer.zero_grad()
            scores = network(given).reshape(len(given), -1)
            ((scores[:, -1] - wanted) ** 2).mean().backward()
            optimizer.step()
        return network.eval()

    return train


def keras(make: Callable[[Any, Any], Any], learned: str = "value") -> Train:
    """What trains the network that is made of `keras` and its layers."""

    def train(rows: Sample) -> Any:
        package = importlib.import_module("keras")
        package.utils.set_random_seed(5)
        network = make(package, package.layers)
        network.compile("adam", "mse" if network.output_shape[-1] == 1 else "sparse_categorical_crossentropy")
        given, wanted = rows.frame.to_numpy(dtype=np.float32), np.asarray(getattr(rows, learned))
        network.fit(given, wanted, epochs=3, verbose=0)
        return network

    return train


nets = LazyPackage("tests.frameworks.nets")
torch_model, keras_model = partial(TriedModel, "pytorch"), partial(TriedModel, "keras")
BINARY, MULTICLASS, REGRESSION, MULTIOUTPUT = Task.BINARY, Task.MULTICLASS, Task.REGRESSION, Task.MULTIOUTPUT
MODELS = (
    torch_model("Linear", ONE, REGRESSION, pytorch(lambda nn: nn.Linear(1, 1))),
    torch_model("ReLU", FLOATS, REGRESSION, pytorch(lambda nn: nets.Net(4, hidden=16))),
    torch_model("squeezed", FLOATS, REGRESSION, pytorch(lambda nn: nets.Flat(4))),
    torch_model("Sigmoid", FLOATS, REGRESSION, pytorch(lambda nn: nets.Net(4, last=nn.Sigmoid()), "two")),
    torch_model("Softmax of two", FLOATS, BINARY,
                pytorch(lambda nn: nets.Net(4, outputs=2, last=nn.Softmax(1)), "two")),
    torch_model("BatchNorm1d, GELU, Dropout", FLOATS, REGRESSION, pytorch(lambda nn: nets.regular(4))),
    torch_model("BatchNorm1d, GELU, Dropout, Softmax", FLOATS, MULTICLASS,
                pytorch(lambda nn: nets.regular(4, 3, nn.Softmax(dim=1)), "two")),
    torch_model("LayerNorm, residual, Softplus", FLOATS, REGRESSION, pytorch(lambda nn: nets.Residual(4))),
    torch_model("LSTM", FLOATS, REGRESSION, pytorch(lambda nn: nets.Recurrent())),
    torch_model("TransformerEncoderLayer, Softmax", FLOATS, BINARY, pytorch(lambda nn: nets.Attending(), "two")),
    torch_model("nan_to_num", FLOAT_GAPS, REGRESSION, pytorch(lambda nn: nets.Piecewise(4))),
    torch_model("three values, or logits", FLOATS, MULTIOUTPUT, pytorch(lambda nn: nets.Net(4, outputs=3))),
    torch_model("a branch on values", FLOATS, "A branch on values becomes torch.where",
                pytorch(lambda nn: nets.Branching(4))),
    torch_model("a mean over the rows", FLOATS, "depends on the rows beside it", pytorch(lambda nn: nets.OfAll(4))),
    keras_model("Dense", FLOATS, REGRESSION,
                keras(lambda k, layers: k.Sequential([k.Input((4,)), layers.Dense(16, "relu"), layers.Dense(1)]))),
    keras_model("Dense, softmax", FLOATS, MULTICLASS,
                keras(lambda k, layers: k.Sequential([k.Input((4,)), layers.Dense(3, "softmax")]), "three")),
    keras_model("BatchNormalization, Dropout, softmax of two", FLOATS, BINARY,
                keras(lambda k, layers: k.Sequential([k.Input((4,)), layers.BatchNormalization(), layers.Dropout(0.3),
                                                      layers.Dense(2, "softmax")]), "two")),
    keras_model("Lambda", FLOATS, "has a Lambda layer, whose function is code in the file",
                keras(lambda k, layers: k.Sequential([k.Input((4,)), layers.Lambda(lambda rows: rows * 2),
                                                      layers.Dense(1)]))),
)  # fmt: skip


@pytest.mark.parametrize("tried", MODELS, ids=str)
def test_a_model_is_served_as_it_answers_or_refused(
    tried: TriedModel, try_out: Try, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    try_out(tried)
