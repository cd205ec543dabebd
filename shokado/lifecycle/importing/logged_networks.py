"""Networks that MLflow's flavors `pytorch` and `keras` logged: read, and made ONNX graphs.

The folder of a logged model goes in, an `OnnxModel` that the network answers for comes out (UnsupportedModel). The
signature says how wide rows are. Reading runs what the files name: see `Formats` of `registry`.
"""

import os
import sys
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np

from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.onnx_models import OnnxModel, without_signature

if TYPE_CHECKING:
    from mlflow.models import Model

_ROWS_ARE = "rows are numbers, [-1, features] of float32; text and images are not taken"


def read(path: str, description: "Model", uri: str) -> OnnxModel:
    """The logged network, in its mode for answers. Raises `UnsupportedModel`, or what the framework's loader raises."""
    width = _width(description, uri)
    if "pytorch" in description.flavors:
        from shokado.lifecycle.importing import torch_models

        # Where it was trained there may have been a GPU.
        return torch_models.read(mlflow.pytorch.load_model(path, map_location="cpu"), width)
    return _read_keras(path, description, uri, width)


def _width(description: "Model", uri: str) -> int:
    """How many columns rows have by the signature."""
    if description.signature is None or description.signature.inputs is None:
        raise UnsupportedModel(without_signature(uri))
    if description.signature.params:
        names = ", ".join(param.name for param in description.signature.params)
        raise UnsupportedModel(
            f"{uri} has parameters that MLflow hands it with the rows ({names}): log it without them."
        )
    inputs = description.signature.inputs
    if not inputs.is_tensor_spec():
        return len(inputs.inputs)
    shapes = [tuple(tensor.shape) for tensor in inputs.inputs]
    if len(shapes) != 1:
        raise UnsupportedModel(f"{uri} takes {len(shapes)} tensors, where {_ROWS_ARE}.")
    (tensor,), (shape,) = inputs.inputs, shapes
    if len(shape) != 2 or shape[1] < 1 or tensor.type != np.float32:
        raise UnsupportedModel(f"{uri} takes {list(shape)} of {tensor.type}, where {_ROWS_ARE}.")
    if shape[0] != -1:
        raise UnsupportedModel(f"{uri} takes {shape[0]} rows at a time by its signature, where {_ROWS_ARE}.")
    return int(shape[1])


def _read_keras(path: str, description: "Model", uri: str, width: int) -> OnnxModel:
    if description.flavors["keras"].get("save_exported_model"):
        raise UnsupportedModel(
            f"{uri} was logged with save_exported_model=True, which TensorFlow alone reads: log it without."
        )
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "torch"
    import keras

    from shokado.lifecycle.importing import torch_models

    if keras.backend.backend() != "torch":
        raise UnsupportedModel(
            f"Keras runs on {keras.backend.backend()} in this process, and is imported on PyTorch: set "
            "KERAS_BACKEND=torch."
        )
    try:
        model = mlflow.keras.load_model(path, load_model_kwargs={"safe_mode": True, "compile": False})
    except ValueError as error:
        if "Lambda" not in str(error):
            raise
        raise UnsupportedModel(
            f"{uri} has a Lambda layer, whose function is code in the file, and is not read: make it a layer of Keras."
        ) from error

    def answer(rows: Any) -> Any:
        return np.asarray(model.predict(rows, batch_size=len(rows), verbose=0))

    return torch_models.read(model.eval(), width, "Keras model", answer)
