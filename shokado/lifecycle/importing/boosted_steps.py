"""LightGBM and CatBoost within scikit-learn: how skl2onnx converts their estimators, wherever they stand in a model.

It asks for labels beside probabilities; those that lead to no score are cut off in the end.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from skl2onnx import update_registered_converter
from skl2onnx._supported_operators import sklearn_classifier_list
from skl2onnx.common import shape_calculator
from skl2onnx.common.data_types import FloatTensorType

from runners.artefacts.card import Task
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.graphs import OPSET
from shokado.lifecycle.importing.own_models import own_model
from shokado.lifecycle.importing.tree_ensembles import add_answer

_CLASSIFIERS = {"lightgbm": ["LGBMClassifier"], "catboost": ["CatBoostClassifier"]}
_OTHERS = {
    "lightgbm": ["LGBMRegressor", "LGBMRanker"],
    "catboost": ["CatBoostRegressor", "CatBoostRanker", "CatBoost"],
}
_exact: ContextVar[Sequence[bool] | bool] = ContextVar("exact", default=False)


@contextmanager
def boosted_steps(exact: Sequence[bool] | bool) -> Iterator[None]:
    """While it lasts, skl2onnx converts estimators of the packages that a loaded model has imported.

    Args:
        exact: for each column that they are given whether float32 holds its numbers, or for all of them.
    """
    for package in _CLASSIFIERS.keys() & sys.modules.keys():
        shapes = shape_calculator.calculate_linear_classifier_output_shapes
        for name in _CLASSIFIERS[package]:
            options = {"zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [False, True]}
            _register(package, name, shapes, options)
        for name in _OTHERS[package]:
            _register(package, name, shape_calculator.calculate_linear_regressor_output_shapes, None)
    token = _exact.set(exact)
    try:
        yield
    finally:
        _exact.reset(token)


def _register(package: str, name: str, shapes: Any, options: dict[str, Any] | None) -> None:
    kind = getattr(sys.modules[package], name)
    if name in _CLASSIFIERS[package] and kind not in sklearn_classifier_list:
        sklearn_classifier_list.append(kind)
    update_registered_converter(kind, f"Shokado{name}", shapes, _convert, overwrite=True, options=options)


class _Step:
    """`Nodes` of the graph that skl2onnx makes, whose outputs may be given their names."""

    def __init__(self, scope: Any, container: Any) -> None:
        self._scope, self._container = scope, container

    def add(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        return self.add_all(kind, inputs, 1, **attributes)[0]

    def add_all(self, kind: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        made: list[str] = [self._scope.get_unique_variable_name(kind.lower()) for _ in range(outputs)]
        self.end(kind, inputs, *made, **attributes)
        return made

    def end(self, kind: str, inputs: Sequence[str], *outputs: str, domain: str = "", **attributes: Any) -> None:
        version = 1 if domain else OPSET
        name = self._scope.get_unique_operator_name(kind)
        given = {"op_domain": domain, "op_version": version, "name": name} | attributes
        self._container.add_node(kind, list(inputs), list(outputs), **given)

    def constant(self, values: NDArray[Any]) -> str:
        kinds = {"f": TensorProto.FLOAT, "i": TensorProto.INT64}
        name: str = self._scope.get_unique_variable_name("constant")
        kind = kinds.get(values.dtype.kind, TensorProto.STRING)
        flat = [value.encode() for value in values.ravel()] if kind == TensorProto.STRING else values.ravel().tolist()
        self._container.add_initializer(name, kind, list(values.shape), flat)
        return name


def _convert(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator
    own = own_model(model)
    assert own is not None, "this is registered for such models alone"
    if not isinstance(operator.inputs[0].type, FloatTensorType):
        raise UnsupportedModel(f"A {type(model).__name__} in it is converted for rows of float32 alone.")
    if reason := own.why_not():
        raise UnsupportedModel(f"A {type(model).__name__} in it cannot be served: {reason}.")
    exact = _exact.get()
    columns = exact if not isinstance(exact, bool) else (exact,) * own.width
    step = _Step(scope, container)
    is_pair = own.task is Task.BINARY
    answer = add_answer(step, own.ensemble(()), operator.inputs[0].full_name, columns, is_pair=is_pair)
    *label, output = [item.full_name for item in operator.outputs]
    step.end("Identity", [answer], output)
    if label:
        classes = np.asarray(own.classes)
        names = classes.astype(np.int64) if classes.dtype.kind in "iufb" else classes.astype(str)
        position = step.add("ArgMax", [answer], axis=1, keepdims=0)
        step.end("Gather", [step.constant(names), position], label[0], axis=0)
