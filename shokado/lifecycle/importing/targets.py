"""Targets: how the transformer of a changed target takes a value back, as nodes of ONNX."""

from typing import Any

import numpy as np
from onnx import TensorProto
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.graph_builder import Builder
from shokado.lifecycle.importing.numeric_steps import FUNCTIONS, computed


def taken_back(builder: Builder, inverse: Any, value: str) -> str:
    """What a fitted transformer's `inverse_transform` makes of values: [N, 1], or [N, values]. Raises
    `UnsupportedModel`.
    """
    add, constant = builder.add, builder.constant
    if isinstance(inverse, FunctionTransformer):
        if inverse.inverse_func is None:
            return value
        if inverse.inverse_func in FUNCTIONS and not inverse.inv_kw_args:
            return add("Cast", [computed(builder, inverse.inverse_func, value)], to=TensorProto.FLOAT)
        name = getattr(inverse.inverse_func, "__name__", type(inverse.inverse_func).__name__)
        raise UnsupportedModel(
            f"Its target goes through {name}, which is Python code and has no conversion to ONNX: take one of numpy's "
            f"{', '.join(function.__name__ for function in FUNCTIONS)}."
        )
    if (line := _inverse_line(inverse)) is None:
        raise UnsupportedModel(
            f"Its target goes through a {type(inverse).__name__}, which has no conversion: take a scaler, or "
            "func=numpy.log1p with inverse_func=numpy.expm1."
        )
    wide = add("Cast", [value], to=TensorProto.DOUBLE)
    moved = add("Add", [add("Mul", [wide, constant(line[0])]), constant(line[1])])
    return add("Cast", [moved], to=TensorProto.FLOAT)


def _inverse_line(scaler: Any) -> tuple[Any, Any] | None:
    """Slope and intercept of what takes a scaler's numbers back; None where it is no straight line."""
    one = np.ones(1)
    match scaler:
        case StandardScaler():
            slope, intercept = scaler.scale_, scaler.mean_
        case RobustScaler():
            slope, intercept = scaler.scale_, scaler.center_
        case MaxAbsScaler():
            slope, intercept = scaler.scale_, None
        case MinMaxScaler():
            slope, intercept = 1 / scaler.scale_, -scaler.min_ / scaler.scale_
        case _:
            return None
    slope, intercept = (one if slope is None else slope), (0 * one if intercept is None else intercept)
    return np.asarray(slope, dtype=np.float64), np.asarray(intercept, dtype=np.float64)
