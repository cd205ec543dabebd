"""The datatypes of the Open Inference Protocol, and values of them as binary data.

Binary data is little-endian; an element of BYTES has its length in 4 bytes before it. Source:
https://github.com/kserve/open-inference-protocol and Triton's "Binary Tensor Data Extension".
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

BYTES = "BYTES"
DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype("<u1"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""The dtype of each numeric datatype, but for BF16, which numpy does not know."""
LENGTH_BYTES = 4
"""Bytes of a text's length, which stands before the text, as the protocol's binary data have it."""


def to_bytes(datatype: str, values: Iterable[Any] | NDArray[Any]) -> bytes:
    """Binary data of values: numbers as an array, or texts and numbers alike as BYTES."""
    if datatype == BYTES:
        texts = (str(value).encode() for value in values)
        return b"".join(len(text).to_bytes(LENGTH_BYTES, "little") + text for text in texts)
    return np.asarray(values, DTYPES[datatype]).tobytes()
