"""Neighbours: how much each row of a training counts for a row, by how far they are from each other."""

import numpy as np
from onnx import TensorProto

from shokado.lifecycle.importing.graph_builder import Nodes


def weights_of_nearest(nodes: Nodes, far: str, count: int, *, by_distance: bool) -> str:
    """The weights of the nearest rows, 0 of all others: [N, rows].

    Args:
        far: squared distances, or means of squares: float64 [N, rows], infinite where rows cannot be compared.
        by_distance: whether a weight is 1 / distance, where it is 1 otherwise.
    """
    add, constant = nodes.add, nodes.constant
    nothing, everything = constant(np.zeros(1)), constant(np.ones(1))
    nearest, _ = nodes.add_all("TopK", [far, constant(np.array([count]))], 2, axis=1, largest=0, sorted=1)
    bound = add("Gather", [nearest, constant(np.array([count - 1]))], axis=1)
    is_far = add("Or", [add("IsInf", [far]), add("Greater", [far, bound])])
    weights = add("Where", [is_far, nothing, everything])
    if not by_distance:
        return weights
    same = add("Equal", [far, nothing])
    at_once = add("Where", [same, everything, nothing])
    is_met = add("Cast", [add("ReduceMax", [at_once], axes=[1], keepdims=1)], to=TensorProto.BOOL)
    apart = add("Sqrt", [add("Where", [same, everything, far])])
    return add("Where", [is_met, at_once, add("Div", [weights, apart])])
