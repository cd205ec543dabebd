"""Kernels: how alike a row is to each of some points, by the formulas of `sklearn.metrics.pairwise`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.kernel_approximation import Nystroem, RBFSampler

from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.built_steps import BuiltStep
from shokado.lifecycle.importing.graph_builder import Nodes


def alike(nodes: Nodes, source: str, points: NDArray[np.float64], model: Any) -> str:
    """[N, points], by the kernel that a model names and its settings. Raises `UnsupportedModel` for others."""
    add, constant = nodes.add, nodes.constant
    gamma = 1 / points.shape[1] if model.gamma is None else float(model.gamma)
    match model.kernel:
        case "rbf":
            return add("Exp", [add("Mul", [squares(nodes, source, points), constant(np.array([-gamma]))])])
        case "linear":
            return add("MatMul", [source, constant(points.T)])
        case "poly" | "polynomial" | "sigmoid":
            offset = 1.0 if model.coef0 is None else float(model.coef0)
            found = add("Add", [add("MatMul", [source, constant(gamma * points.T)]), constant(np.array([offset]))])
            if model.kernel == "sigmoid":
                return add("Tanh", [found])
            return add("Pow", [found, constant(np.array([3.0 if model.degree is None else float(model.degree)]))])
    raise UnsupportedModel(
        f"Its {type(model).__name__} has kernel={model.kernel!r}, which has no conversion: take 'rbf', 'linear', "
        "'poly' or 'sigmoid'."
    )


def squares(nodes: Nodes, source: str, points: NDArray[np.float64]) -> str:
    """The squared distance to each point: [N, points]; around their middle, where squares lose the fewest digits."""
    add, constant = nodes.add, nodes.constant
    middle = points.mean(axis=0)
    moved, around = add("Sub", [source, constant(middle)]), points - middle
    own = add("ReduceSum", [add("Mul", [moved, moved]), constant(np.array([1]))], keepdims=1)
    crossed = add("MatMul", [moved, constant(-2 * around.T)])
    total = add("Sum", [own, crossed, constant((around**2).sum(axis=1)[None, :])])
    return add("Max", [total, constant(np.zeros(1))])


def nystroem(step: Nystroem) -> BuiltStep:
    points = np.asarray(step.components_, dtype=np.float64)
    weights = np.asarray(step.normalization_, dtype=np.float64).T

    def build(nodes: Nodes, source: str) -> str:
        return nodes.add("MatMul", [alike(nodes, source, points, step), nodes.constant(weights)])

    return BuiltStep(build, weights.shape[1])


def random_waves(step: RBFSampler) -> BuiltStep:
    weights = np.asarray(step.random_weights_, dtype=np.float64)
    height = float(np.sqrt(2 / weights.shape[1]))

    def build(nodes: Nodes, source: str) -> str:
        angles = nodes.add("MatMul", [source, nodes.constant(weights)])
        waves = nodes.add("Cos", [nodes.add("Add", [angles, nodes.constant(step.random_offset_.astype(np.float64))])])
        return nodes.add("Mul", [waves, nodes.constant(np.array([height]))])

    return BuiltStep(build, weights.shape[1])
