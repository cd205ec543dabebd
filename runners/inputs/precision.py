"""Precisions: as what the numbers of a row are packed, the same for all numbers of a model."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from runners.inputs.datatypes import DTYPES

_TOLD_APART_BELOW = 2**53
"""JSON's readers, and float64, do not tell larger whole numbers from their neighbours."""


@dataclass(frozen=True)
class Precision:
    """How a number is packed.

    Attributes:
        name: as a card has it.
        datatype: as the Open Inference Protocol has it.
        letter: as `struct` has it.
        whole: up to here every whole number is packed as it is, and can be told from its neighbours before.
    """

    name: str
    datatype: str
    letter: str
    whole: int

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        return DTYPES[self.datatype]

    @cached_property
    def largest(self) -> float:
        """The largest finite number."""
        return float(np.finfo(self.dtype).max)

    def holds(self, number: float) -> bool:
        """Whether a whole number is packed as it was sent, as far as that can be told."""
        size = abs(number)
        return size <= self.whole or (size < _TOLD_APART_BELOW and self.packed(number) == number)

    def held(self, numbers: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """The same of each of many numbers."""
        sizes = np.abs(numbers)
        exact = numbers.astype(self.dtype) == numbers
        return np.asarray((sizes <= self.whole) | ((sizes < _TOLD_APART_BELOW) & exact))

    def packed(self, number: float) -> float:
        """What becomes of a number."""
        return float(self.dtype.type(number))

    def spell(self, number: float) -> float:
        """The number with no more digits than it needs to be packed as it is."""
        return float(str(self.dtype.type(number)))


FLOAT32 = Precision("float32", "FP32", "f", 2**24)
FLOAT64 = Precision("float64", "FP64", "d", 2**53 - 1)
PRECISIONS = {precision.name: precision for precision in (FLOAT32, FLOAT64)}
