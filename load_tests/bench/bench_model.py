"""What every contender of a line-up serves: a folder, rows to ask about, and the answers that count as right."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Rows = npt.NDArray[np.float64] | list[dict[str, Any]]
"""Numbers [rows, features], or objects by feature name."""


class BenchModel(Protocol):
    """A model on disk, and its framework's word."""

    @property
    def folder(self) -> Path:
        """Where its files are."""

    @property
    def framework(self) -> str:
        """Who answers in `predict`, for messages."""

    def draw(self, count: int, seed: int) -> Any:
        """`Rows` to ask about, the same for the same seed."""

    def predict(self, rows: Any) -> FloatArray:
        """The framework's own probability of the second class of each of the `Rows`."""
