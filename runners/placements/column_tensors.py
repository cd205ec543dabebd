"""Column tensors, as MLServer's codecs have a frame in the Open Inference Protocol: a tensor for each column.

Source: the content types `pd`, `str` and `pd_json` of https://mlserver.readthedocs.io/en/latest/user-guide/content-type.
Numbers and truth values are in JSON as such, null where one is missing; texts are BYTES. What a model gives comes back
as a tensor for each column of a frame, or as one for an array or a list.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from math import prod
from typing import Any

import msgspec

from runners.inputs.datatypes import BYTES, DTYPES
from runners.inputs.schema import Feature
from runners.placements.inference import Mismatch, TensorDescription
from runners.placements.predicted import Predicted, predicted_of

_FLOATS = tuple(name for name in DTYPES if name.startswith("FP"))
_INTEGERS = tuple(name for name in DTYPES if "INT" in name)
_FITTING: Mapping[str, tuple[str, ...]] = {
    "float": _FLOATS,
    "integer": _INTEGERS,
    "boolean": ("BOOL",),
    "category": (BYTES,),
    "text": (BYTES,),
}
"""Which datatypes a server may take a column of a kind in, without making other values of it."""


class _ContentType(msgspec.Struct):
    content_type: str | None = None


class _Column(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: list[Any]
    parameters: _ContentType | None = None


class _Answer(msgspec.Struct):
    outputs: list[_Column]


_encode = msgspec.json.Encoder().encode
_decode_answer = msgspec.json.Decoder(_Answer).decode


class ColumnTensors:
    """A way to ask for frames; see `frames`."""

    def __init__(self, features: Sequence[Feature], inputs: Sequence[TensorDescription]) -> None:
        """`inputs` are what the server says that its model takes. Raises `Mismatch` where that is something else."""
        taken = {each.name: each.datatype for each in inputs}
        names = [feature.name for feature in features]
        if sorted(taken) != sorted(names):
            raise Mismatch(
                f"its model takes {', '.join(taken)[:200] or 'no columns'}, where {', '.join(names)[:200]} belong"
            )
        for feature in features:
            if taken[feature.name] not in _FITTING[feature.type]:
                raise Mismatch(
                    f"its model takes {feature.name} as {taken[feature.name]}, where a {feature.type} belongs"
                )
        self._tensors = [(name, taken[name]) for name in names]

    def write(self, rows: Sequence[Sequence[Any]]) -> bytes:
        inputs = []
        for (name, datatype), column in zip(self._tensors, zip(*rows, strict=True), strict=True):
            content_type = "str" if datatype == BYTES else "np"
            inputs.append(
                {
                    "name": name,
                    "datatype": datatype,
                    "shape": [len(rows), 1],
                    "parameters": {"content_type": content_type},
                    "data": column,
                }
            )
        return _encode({"parameters": {"content_type": "pd"}, "inputs": inputs})

    def read(self, body: bytes) -> Predicted:
        try:
            outputs = _decode_answer(body).outputs
        except msgspec.DecodeError as error:
            raise Mismatch(f"it does not answer with tensors of JSON: {error}") from None
        if not outputs:
            raise Mismatch("it answers without outputs")
        columns = [_rows_of(output) for output in outputs]
        if len({len(column) for column in columns}) != 1:
            raise Mismatch("its outputs do not have as many rows")
        rows = [list(chain.from_iterable(parts)) for parts in zip(*columns, strict=True)]
        names = [output.name for output in outputs] if len(outputs) == len(rows[0]) > 1 else []
        return predicted_of(rows, names)


def _rows_of(output: _Column) -> list[list[Any]]:
    """The values of each row in one output. Raises `Mismatch`."""
    if not output.shape or output.shape[0] < 1 or prod(output.shape) != len(output.data):
        raise Mismatch(
            f"output {output.name} has {len(output.data)} values, and its shape {output.shape} says otherwise"
        )
    values = output.data
    if output.parameters is not None and output.parameters.content_type == "pd_json":
        try:
            values = [msgspec.json.decode(value) for value in values]
        except (msgspec.DecodeError, TypeError):
            raise Mismatch(f"output {output.name} is no JSON") from None
    width = len(values) // output.shape[0]
    return [values[start : start + width] for start in range(0, len(values), width)]
