"""Splines: a fitted SplineTransformer as polynomials, one for each piece between two knots and each of its curves."""

from math import factorial

import numpy as np
from onnx import TensorProto
from sklearn.preprocessing import SplineTransformer

from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.built_steps import BuiltStep
from shokado.lifecycle.importing.graph_builder import Nodes


def spline(step: SplineTransformer) -> BuiltStep:
    """What gives the same curves. Raises `UnsupportedModel` for settings that refuse rows, or have steps in them."""
    if step.extrapolation == "error":
        raise UnsupportedModel(
            "Its SplineTransformer has extrapolation='error', which refuses rows beyond those of its training: take "
            "'constant', the default."
        )
    if step.degree == 0:
        raise UnsupportedModel("Its SplineTransformer has degree=0, which makes bins: take a KBinsDiscretizer.")
    if step.degree == 1 and step.extrapolation == "linear" and len(step.bsplines_) > 1:
        raise UnsupportedModel(
            "Its SplineTransformer has degree=1 and extrapolation='linear', of which scikit-learn takes other bounds "
            "from the second column on: take degree=2, or 'constant'."
        )
    degree, curves = step.degree, step.bsplines_
    # [columns, knots], and a Taylor series around the left end of each piece: [columns, pieces, degree + 1, curves]
    knots = np.array([curve.t[degree : len(curve.t) - degree] for curve in curves])
    series = np.array(
        [
            [curve(ends[:-1], nu=order) / factorial(order) for order in range(degree + 1)]
            for curve, ends in zip(curves, knots, strict=True)
        ]
    ).swapaxes(1, 2)
    slopes = np.array([curve(ends[[0, -1]], nu=1) for curve, ends in zip(curves, knots, strict=True)])
    columns, pieces, _, width = series.shape
    starts = np.arange(columns)[None, :] * pieces

    def build(nodes: Nodes, source: str) -> str:
        add, constant = nodes.add, nodes.constant
        low, high = constant(knots[None, :, 0]), constant(knots[None, :, -1])
        if step.extrapolation == "periodic":
            period = constant(knots[None, :, -1] - knots[None, :, 0])
            beyond = add("Sub", [source, low])
            turns = add("Floor", [add("Div", [beyond, period])])
            inside = add("Add", [low, add("Sub", [beyond, add("Mul", [turns, period])])])
        elif step.extrapolation == "continue":
            inside = source
        else:
            inside = add("Min", [add("Max", [source, low]), high])
        each = add("Unsqueeze", [inside, constant(np.array([2]))])
        passed = add("Cast", [add("GreaterOrEqual", [each, constant(knots[None, :, 1:-1])])], to=TensorProto.INT64)
        piece = add("Add", [add("ReduceSum", [passed, constant(np.array([2]))], keepdims=0), constant(starts)])
        begin = add("Gather", [constant(knots[:, :-1].ravel()), piece], axis=0)
        along = add("Unsqueeze", [add("Sub", [inside, begin]), constant(np.array([2, 3]))])
        powers = add("Pow", [along, constant(np.arange(degree + 1, dtype=np.float64)[None, None, :, None])])
        terms = add("Gather", [constant(series.reshape(columns * pieces, degree + 1, width)), piece], axis=0)
        found = add("ReduceSum", [add("Mul", [terms, powers]), constant(np.array([2]))], keepdims=0)
        if step.extrapolation == "linear":
            outside = add("Unsqueeze", [add("Sub", [source, inside]), constant(np.array([2]))])
            is_above = add("Greater", [outside, constant(np.zeros(1))])
            ends = [constant(slopes[None, :, at]) for at in (1, 0)]
            found = add("Add", [found, add("Mul", [outside, add("Where", [is_above, *ends])])])
        if step.handle_missing == "zeros":
            missing = add("Unsqueeze", [add("IsNaN", [source]), constant(np.array([2]))])
            found = add("Where", [missing, constant(np.zeros(1)), found])
        if not step.include_bias:
            found = add("Gather", [found, constant(np.arange(width - 1))], axis=2)
        return add("Reshape", [found, constant(np.array([-1, step.n_features_out_]))])

    return BuiltStep(build, step.n_features_out_)
