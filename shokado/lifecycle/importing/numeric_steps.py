"""Steps of numbers that skl2onnx does not convert, or not exactly, made ones that it does.

numpy's functions are computed in float64, as scikit-learn computes them; bins have their edges where the numbers of
float32 that a server has fall on the side that the framework's own do.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import FeatureUnion
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer

from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.graph_builder import Nodes
from shokado.lifecycle.importing.level_tables import ColumnTable, ConverterNodes, LevelTable, float_type

_Operations = tuple[tuple[str, float | None], ...]
FUNCTIONS: dict[Callable[..., Any], _Operations] = {
    np.abs: (("Abs", None),),
    np.ceil: (("Ceil", None),),
    np.cos: (("Cos", None),),
    np.exp: (("Exp", None),),
    np.expm1: (("Exp", None), ("Sub", 1.0)),
    np.floor: (("Floor", None),),
    np.log: (("Log", None),),
    np.log10: (("Log", None), ("Div", np.log(10))),
    np.log1p: (("Add", 1.0), ("Log", None)),
    np.log2: (("Log", None), ("Div", np.log(2))),
    np.negative: (("Neg", None),),
    np.reciprocal: (("Reciprocal", None),),
    np.rint: (("Round", None),),
    np.sign: (("Sign", None),),
    np.sin: (("Sin", None),),
    np.sqrt: (("Sqrt", None),),
    np.square: (("Pow", 2.0),),
    np.tanh: (("Tanh", None),),
}
"""numpy's functions, as operators of ONNX with the number that each is given beside the column."""
SMALLEST = float(np.finfo(np.float32).tiny)
"""The smallest float32 above 0 that has all its digits."""
FLOORS: dict[Callable[..., Any], float] = {
    np.log: SMALLEST,
    np.log10: SMALLEST,
    np.log1p: float(np.nextafter(np.float32(-1), np.float32(0))),
    np.log2: SMALLEST,
    np.sqrt: 0.0,
}
"""The smallest number of float32 that a function has a value for."""
INCREASING = (*FLOORS, np.ceil, np.exp, np.expm1, np.floor, np.rint, np.sign, np.tanh)


class NumericFunction(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Stands for a FunctionTransformer of one of `FUNCTIONS`."""

    def __init__(self, function: Callable[..., Any] = np.abs) -> None:
        self.function = function

    def fit(self, *_: Any) -> "NumericFunction":
        """There is nothing to learn."""
        return self


def function_of(step: FunctionTransformer) -> Callable[..., Any]:
    """The numpy function of a step that has one. Raises `UnsupportedModel` for others."""
    if step.func in FUNCTIONS and not step.kw_args:
        return step.func  # type: ignore[no-any-return]
    name = getattr(step.func, "__name__", type(step.func).__name__)
    raise UnsupportedModel(
        f"Its FunctionTransformer calls {name}, which is Python code and has no conversion to ONNX: let what it "
        f"makes be a column, or take one of numpy's {', '.join(function.__name__ for function in FUNCTIONS)}."
    )


def computed(nodes: Nodes, function: Callable[..., Any], source: str) -> str:
    """What a function makes of a tensor, in float64."""
    found = nodes.add("Cast", [source], to=TensorProto.DOUBLE)
    for operator, number in FUNCTIONS[function]:
        found = nodes.add(operator, [found, *([] if number is None else [nodes.constant(np.array(number))])])
    return found


def imputer(step: SimpleImputer) -> Any:
    """An imputer of numbers, with what tells of gaps beside it."""
    if not isinstance(step.missing_values, int | float) or np.asarray(step.statistics_).dtype.kind not in "iufb":
        return step
    plain = copy.copy(step)
    plain.missing_values, plain.add_indicator = float(step.missing_values), False
    if not step.add_indicator:
        return plain
    return FeatureUnion([("values", plain), ("gaps", indicator(step.indicator_))])


def indicator(step: MissingIndicator) -> LevelTable:
    """1 where a column has a gap, else 0."""
    keys = np.empty(0) if is_nan(step.missing_values) else np.array([step.missing_values], dtype=np.float64)
    values = np.array([[1.0]] * len(keys) + [[0.0], [float(not len(keys))]], dtype=np.float32)
    return LevelTable(
        [
            ColumnTable(int(column), values, np.array([at]), keys=keys.astype(np.float32))
            for at, column in enumerate(step.features_)
        ]
    )


def is_nan(value: Any) -> bool:
    """Whether a value of any kind is the number that is none."""
    return isinstance(value, float) and np.isnan(value)


def bins(step: KBinsDiscretizer, exact: Sequence[bool]) -> LevelTable:
    """The bins of columns; `exact` says of which float32 holds the numbers as they come."""
    tables, start = [], 0
    for column, (edges, count, is_exact) in enumerate(zip(step.bin_edges_, step.n_bins_, exact, strict=True)):
        each = np.arange(count, dtype=np.float32)[:, None] if step.encode == "ordinal" else np.eye(count)
        rows = np.vstack([each, np.zeros((1, each.shape[1])), np.full((1, each.shape[1]), np.nan)]).astype(np.float32)
        at, start = np.arange(start, start + each.shape[1]), start + each.shape[1]
        bounds = _below(np.asarray(edges[1:-1], dtype=np.float64), is_exact=bool(is_exact))
        if len(bounds):
            tables.append(ColumnTable(column, rows, at, bounds=bounds))
        else:
            tables.append(ColumnTable(column, rows[[0, -1]], at, keys=bounds))
    return LevelTable(tables)


def _below(edges: NDArray[np.float64], *, is_exact: bool) -> NDArray[np.float32]:
    """The largest float32 below each edge.

    Numbers that float32 does not hold become the nearest that it does, an edge as well: one that lies on it, as data
    do whose quantiles edges are, stays on the upper side.
    """
    near = edges.astype(np.float32)
    lower = np.nextafter(near, np.float32(-np.inf))
    return np.where((near < edges) & is_exact, near, lower).astype(np.float32)


def _shapes(operator: Any) -> None:
    operator.outputs[0].type = float_type(operator)(list(operator.inputs[0].type.shape))


def _convert(scope: Any, operator: Any, container: Any) -> None:
    kind = float_type(operator)
    nodes, source = ConverterNodes(scope, container, kind), operator.inputs[0].full_name
    function = operator.raw_operator.function
    found = computed(nodes, function, source)
    if kind is FloatTensorType:
        found = nodes.add("Cast", [found], to=TensorProto.FLOAT)
    if function in FLOORS:
        # The framework refuses what is infinite; a score that is no number is none of a server's either.
        below = nodes.add("Less", [source, nodes.constant(np.array(FLOORS[function], dtype=np.float32))])
        found = nodes.add("Where", [below, nodes.constant(np.array(np.nan, dtype=np.float32)), found])
    nodes.name(found, operator.outputs[0].full_name)


update_registered_converter(NumericFunction, "ShokadoNumericFunction", _shapes, _convert, overwrite=True)
