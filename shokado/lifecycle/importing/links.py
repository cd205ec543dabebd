"""Links: what a boosting library makes of a row's margin, the sum of its leaves, to answer with."""

from enum import Enum, auto


class Link(Enum):
    """One number a row, or one a class."""

    IDENTITY = auto()
    EXP = auto()
    SIGMOID = auto()
    STEP = auto()
    """1 above 0, else 0."""
    SOFTMAX = auto()
    SOFTPLUS = auto()
    """log(1 + exp(margin))."""
    SIGNED_SQUARE = auto()
    """The square, with the margin's sign."""
    MEAN_AND_VARIANCE = auto()
    """The first of two margins a row, and exp(2 * the second)."""
