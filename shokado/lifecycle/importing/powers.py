"""Powers: a fitted PowerTransformer in float64, which passes on what is missing."""

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import PowerTransformer

from shokado.lifecycle.importing.built_steps import BuiltStep
from shokado.lifecycle.importing.graph_builder import Nodes


def powers(step: PowerTransformer) -> BuiltStep:
    """By the formulas of Box and Cox (1964), of which there is nothing for 0 and below, or Yeo and Johnson (2000)."""
    exponents = np.asarray(step.lambdas_, dtype=np.float64)

    def build(nodes: Nodes, source: str) -> str:
        add, constant = nodes.add, nodes.constant
        nothing, everything = constant(np.zeros(1)), constant(np.ones(1))
        if step.method == "box-cox":
            is_none = add("LessOrEqual", [source, nothing])
            found = _raised(nodes, add("Where", [is_none, everything, source]), exponents)
            found = add("Where", [is_none, constant(np.array([np.nan])), found])
        else:
            is_positive = add("GreaterOrEqual", [source, nothing])
            size = add("Add", [add("Abs", [source]), everything])
            below = add("Neg", [_raised(nodes, size, 2 - exponents)])
            found = add("Where", [is_positive, _raised(nodes, size, exponents), below])
        if not step.standardize:
            return found
        scaler = step._scaler
        moved = found if scaler.mean_ is None else add("Sub", [found, constant(np.asarray(scaler.mean_))])
        return add("Div", [moved, constant(np.asarray(scaler.scale_, dtype=np.float64))])

    return BuiltStep(build, len(exponents))


def _raised(nodes: Nodes, source: str, exponents: NDArray[np.float64]) -> str:
    """(x ** exponent - 1) / exponent of positive numbers, and the logarithm where that is 0."""
    add, constant = nodes.add, nodes.constant
    is_log = np.abs(exponents) < np.spacing(1.0)
    divisors = np.where(is_log, 1, exponents)
    power = add("Pow", [source, constant(divisors)])
    power = add("Div", [add("Sub", [power, constant(np.ones(1))]), constant(divisors)])
    if not is_log.any():
        return power
    use = constant(is_log.astype(np.float64))
    return add("Where", [add("Greater", [use, constant(np.zeros(1))]), add("Log", [source]), power])
