"""Matrices: many numbers in JSON, read without an object for each.

In: the text of a JSON array, of which only its end is known. Out: its numbers, or nothing when it is anything else than
the one matrix that was looked for; whoever asked then takes the slow way, which can say what is wrong.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from simdjson import Parser

LARGE_BYTES = 4096
"""Length of a body from which on the parser of this module is the faster one."""
_KEPT_BYTES = 2**20
"""Length of a text up to which one parser is kept for all, with the memory that it has: some 14 times as much."""
_parser = Parser()
_begins = re.compile(rb"\[\s*\[?\s*[-0-9]").match
_IN_NUMBERS = b"0123456789.+-eE \t\n\r"


def read_rows(text: bytes, width: int) -> NDArray[np.float64] | None:
    """The numbers of a list of lists of `width` numbers, of shape (rows, width)."""
    count, rest = divmod(text.count(b",") + 1, width)
    return None if rest or not _begins(text) else _read(text, (count, width), [_nested(count, width)])


def read_tensor(text: bytes, shape: Sequence[int]) -> NDArray[np.float64] | None:
    """The numbers of a list that is flat, or nested as a matrix, flat; as many as `shape` says, which has two sides."""
    count, width = shape
    # Before anything is made as large as the shape only says.
    if min(shape) < 1 or math.prod(shape) != text.count(b",") + 1 or not _begins(text):
        return None
    found = _read(text, (count, width), [b"[" + b"," * (count * width - 1) + b"]", _nested(count, width)])
    return None if found is None else found.reshape(-1)


def _nested(count: int, width: int) -> bytes:
    """What is left of a matrix without its numbers."""
    return b"[" + b",".join([b"[" + b"," * (width - 1) + b"]"] * count) + b"]"


def _read(text: bytes, shape: tuple[int, int], forms: Sequence[bytes]) -> NDArray[np.float64] | None:
    if text.translate(None, _IN_NUMBERS) not in forms:
        return None
    parser = _parser if len(text) <= _KEPT_BYTES else Parser()
    try:
        document: Any = parser.parse(text)
        values = np.frombuffer(document.as_buffer(of_type="d"))
    except (ValueError, TypeError, RuntimeError):
        return None
    # [[], []] looks like rows of one number.
    return values.reshape(shape) if len(values) == math.prod(shape) else None
