"""Leaves with lines in them, as LightGBM's `linear_tree` makes: what they add to a row, and the nodes of ONNX for it.

    TreeEnsembleRegressor --which leaf of each tree--> its weights, by Gather --times the row--> margins

A leaf adds its constant and the weighted columns of its own; where one of these is missing, another number (LightGBM,
`Tree::Predict`). Sums are float64, as those of LightGBM are: lines of one tree and the next cancel each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from shokado.lifecycle.importing.graph_builder import Nodes

MAX_WEIGHTS = 1 << 25
"""How many numbers a table of all leaves may have: 256 MB."""
_AT_ONCE = 512
"""Weights that are gathered for a row at a time, so that 10,000 rows take 40 MB."""


@dataclass(frozen=True, eq=False)
class Lines:
    """What the leaves of a tree add."""

    weights: NDArray[np.float64]
    """[leaves, columns]."""
    constants: NDArray[np.float64]
    """[leaves]."""
    otherwise: NDArray[np.float64]
    """What is added where a column with a weight is missing: [leaves]."""
    uses: NDArray[np.bool_]
    """Which columns have a weight: [leaves, columns]."""


def add_lines(builder: Nodes, lines: Sequence[Lines], targets: Sequence[int], rows: str, leaves: str) -> str:
    """Add nodes that sum lines up, and give the name of the margins, float32 [N, targets].

    Args:
        lines: those of each tree.
        targets: which margin each tree adds to.
        rows: the tensor of the columns, [N, columns].
        leaves: which leaf of each tree a row is in, [N, trees].
    """
    width = lines[0].weights.shape[1]
    count = max(1, _AT_ONCE // width)
    gaps = builder.add("IsNaN", [rows])
    wide = builder.add("Cast", [rows], to=TensorProto.DOUBLE)
    zero = builder.constant(np.zeros(1))
    column = builder.constant(np.array([0, width, 1]))
    values = builder.add("Reshape", [builder.add("Where", [gaps, zero, wide]), column])
    missing = builder.add("Reshape", [builder.add("Cast", [gaps], to=TensorProto.DOUBLE), column])
    margins = ""
    for start in range(0, len(lines), count):
        some = lines[start : start + count]
        at = builder.add("Gather", [leaves, builder.constant(np.arange(start, start + len(some)))], axis=1)
        offsets = np.cumsum([0, *(len(each.constants) for each in some)])[:-1]
        at = builder.add("Add", [at, builder.constant(offsets)])
        of_each = builder.constant(np.array([0, len(some)]))

        def times(table: NDArray[np.float64], factors: str, at: str = at, of_each: str = of_each) -> str:
            gathered = builder.add("Gather", [builder.constant(table), at], axis=0)
            return builder.add("Reshape", [builder.add("MatMul", [gathered, factors]), of_each])

        def number(table: NDArray[np.float64], at: str = at) -> str:
            return builder.add("Gather", [builder.constant(table), at], axis=0)

        line = times(np.vstack([each.weights for each in some]), values)
        line = builder.add("Add", [line, number(np.concatenate([each.constants for each in some]))])
        lacks = times(np.vstack([each.uses for each in some]).astype(np.float64), missing)
        lacks = builder.add("Greater", [lacks, zero])
        line = builder.add("Where", [lacks, number(np.concatenate([each.otherwise for each in some])), line])
        sums = np.zeros((len(some), max(targets) + 1))
        sums[np.arange(len(some)), list(targets[start : start + count])] = 1
        part = builder.add("MatMul", [line, builder.constant(sums)])
        margins = builder.add("Add", [margins, part]) if margins else part
    return builder.add("Cast", [margins], to=TensorProto.FLOAT)
