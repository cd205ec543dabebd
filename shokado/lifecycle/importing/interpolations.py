"""Interpolations: straight lines between points, and the quantiles of the normal distribution, in nodes of float64."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from scipy import stats
from sklearn.preprocessing import QuantileTransformer
from sklearn.preprocessing._data import BOUNDS_THRESHOLD

from shokado.lifecycle.importing.built_steps import BuiltStep
from shokado.lifecycle.importing.graph_builder import Nodes

Points = NDArray[np.float64]
# Numerators and denominators of "Algorithm AS 241: The Percentage Points of the Normal Distribution" (Wichura, 1988),
# for what lies in the middle, in the tails, and far out in them.
_MIDDLE = (
    (3.3871328727963666080, 133.14166789178437745, 1971.5909503065514427, 13731.693765509461125,
     45921.953931549871457, 67265.770927008700853, 33430.575583588128105, 2509.0809287301226727),
    (1.0, 42.313330701600911252, 687.18700749205790830, 5394.1960214247511077,
     21213.794301586595867, 39307.895800092710610, 28729.085735721942674, 5226.4952788528545610),
)  # fmt: skip
_TAIL = (
    (1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
     1.27045825245236838258, 0.241780725177450611770, 0.0227238449892691845833, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187, 1.67638483018380384940, 0.689767334985100004550,
     0.148103976427480074590, 0.0151986665636164571966, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
)  # fmt: skip


def lines(nodes: Nodes, source: str, x: Points, y: Points) -> str:
    """Straight lines between points of ascending x, for a column [N, 1]: as the sum of what each of them rises."""
    add, constant = nodes.add, nodes.constant
    if len(x) == 1:
        x, y = np.array([x[0], x[0] + 1]), np.array([y[0], y[0]])
    beyond = add("Max", [add("Sub", [source, constant(x[None, :-1])]), constant(np.zeros((1, 1)))])
    within_each = add("Min", [beyond, constant(np.diff(x)[None, :])])
    risen = add("MatMul", [within_each, constant((np.diff(y) / np.diff(x))[:, None])])
    return add("Add", [risen, constant(np.array(y[0]))])


def normal_quantiles(step: QuantileTransformer) -> BuiltStep:
    """What a QuantileTransformer to the normal distribution gives."""
    lowest = float(stats.norm.ppf(BOUNDS_THRESHOLD - np.spacing(1)))
    references = np.asarray(step.references_, dtype=np.float64)

    def build(nodes: Nodes, source: str) -> str:
        add, constant = nodes.add, nodes.constant
        shares = []
        for column, quantiles in enumerate(step.quantiles_.T):
            given = add("Gather", [source, constant(np.array([column]))], axis=1)
            shares.append(_share_below(nodes, given, quantiles, references))
        share = shares[0] if len(shares) == 1 else add("Concat", shares, axis=1)
        found = _normal(nodes, share)
        found = add("Min", [add("Max", [found, constant(np.array([lowest]))]), constant(np.array([-lowest]))])
        missing = add("IsNaN", [source])
        return add("Where", [missing, source, found])

    return BuiltStep(build, step.quantiles_.shape[1])


def _share_below(nodes: Nodes, given: str, quantiles: Points, references: Points) -> str:
    """Which share of the training lay below each number; a value that was there often is in the middle of its own."""
    add, constant = nodes.add, nodes.constant
    x, first, counts = np.unique(quantiles, return_index=True, return_counts=True)
    low, high = references[first], references[first + counts - 1]
    tiny = constant(np.array([BOUNDS_THRESHOLD]))
    found = constant(np.array([[0.5]]))
    if len(x) > 1:
        each = constant(x[None, :])
        passed = add("Where", [add("GreaterOrEqual", [given, each]), constant(np.ones(1)), constant(np.zeros(1))])
        count = add("ReduceSum", [passed, constant(np.array([1]))], keepdims=1)
        at = add("Min", [add("Max", [add("Sub", [count, constant(np.ones(1))]), constant(np.zeros(1))]),
                         constant(np.array([len(x) - 2.0]))])  # fmt: skip
        piece = add("Cast", [at], to=TensorProto.INT64)
        begin, base, slope = (
            add("Gather", [constant(values), piece], axis=0)
            for values in (x[:-1], high[:-1], (low[1:] - high[:-1]) / np.diff(x))
        )
        between = add("Add", [base, add("Mul", [add("Sub", [given, begin]), slope])])
        is_one = add("Where", [add("Equal", [given, each]), constant(np.ones(1)), constant(np.zeros(1))])
        middle = add("MatMul", [is_one, constant(((low + high) / 2)[:, None])])
        is_any = add("ReduceSum", [is_one, constant(np.array([1]))], keepdims=1)
        found = add("Where", [add("Greater", [is_any, constant(np.zeros(1))]), middle, between])
    is_last = add("Greater", [add("Add", [given, tiny]), constant(np.array([x[-1]]))])
    is_first = add("Less", [add("Sub", [given, tiny]), constant(np.array([x[0]]))])
    found = add("Where", [is_last, constant(np.ones(1)), found])
    return add("Where", [is_first, constant(np.zeros(1)), found])


def _normal(nodes: Nodes, share: str) -> str:
    """The number below which that share of the normal distribution lies; any beyond 6 for shares near 0 and 1."""
    add, constant = nodes.add, nodes.constant
    off = add("Sub", [share, constant(np.array([0.5]))])
    inner = add("Sub", [constant(np.array([0.180625])), add("Mul", [off, off])])
    middle = add("Mul", [off, _ratio(nodes, inner, _MIDDLE)])
    rest = add("Min", [share, add("Sub", [constant(np.ones(1)), share])])
    rest = add("Max", [rest, constant(np.array([1e-11]))])
    depth = add("Sqrt", [add("Neg", [add("Log", [rest])])])
    tail = _ratio(nodes, add("Sub", [depth, constant(np.array([1.6]))]), _TAIL)
    tail = add("Mul", [add("Sign", [off]), tail])
    is_inner = add("LessOrEqual", [add("Abs", [off]), constant(np.array([0.425]))])
    return add("Where", [is_inner, middle, tail])


def _ratio(nodes: Nodes, source: str, polynomials: Any) -> str:
    """A polynomial over another one, for [N, columns]."""
    found = []
    for factors in polynomials:
        value = nodes.constant(np.array([factors[-1]]))
        for factor in factors[-2::-1]:
            value = nodes.add("Add", [nodes.add("Mul", [value, source]), nodes.constant(np.array([factor]))])
        found.append(value)
    return nodes.add("Div", found)
