"""Tensors of the Open Inference Protocol: their data, in JSON, as typed values or in binary, become rows of the model.

In: name, datatype, shape and data of each input. Out: rows as their format packs them. The inputs are one matrix of
shape [rows, features], of any name, or a tensor of shape [rows] or [rows, 1] for each feature, named after it. What
carries them is not known here: REST and gRPC both use this.

    from_json, from_values, from_bytes --(400: shape, size or datatype is wrong)--> Tensor
    pack_tensors --(422: no such feature, no number, not finite; 413: too many rows)--> rows

Binary data is little-endian; an element of BYTES has its length in 4 bytes before it. Source:
https://github.com/kserve/open-inference-protocol and Triton's "Binary Tensor Data Extension".
"""

import math
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runners.inputs.datatypes import BYTES, DTYPES, LENGTH_BYTES
from runners.inputs.faults import InputFault
from runners.inputs.rows import RequestRows, RowFormat, RowReader
from runners.inputs.union import RowForm, UnionRows
from runners.inputs.wording import legible
from shokado.dialects.problem import Problem, invalid

BF16 = "BF16"
_SHOWN_CHARACTERS = 100
"""Length of a value or a shape in a message, which may be long."""
_MAX_SIDES = 8
"""Sides of a shape; a product of more would be work, and no model here takes them."""


class Tensor(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One input, whose values are as many as its shape says."""

    name: str
    shape: tuple[int, ...]
    values: NDArray[Any]
    """Flat. Numbers; or objects: texts, and whatever else JSON had where numbers belong, to be refused by row."""
    is_text: bool = False
    """Whether they were declared as texts."""


def from_json(name: str, datatype: str, shape: Sequence[int], data: list[Any]) -> Tensor:
    """A tensor of decoded JSON data, flat or nested as the shape says. Raises `Problem`."""
    _check_typed(name, datatype)
    _check_shape(name, shape)
    values = _flat(name, shape, data)
    _check_size(name, shape, len(values), "values")
    allowed = {bool, int, float} if datatype == "BOOL" else {int, float}
    if datatype == BYTES or not set(map(type, values)) <= allowed:
        return Tensor(name, tuple(shape), _objects(values), datatype == BYTES)
    return Tensor(name, tuple(shape), _numbers(name, datatype, shape, values))


def from_values(name: str, datatype: str, shape: Sequence[int], values: Sequence[Any]) -> Tensor:
    """A tensor of flat values of its datatype: numbers, or encoded texts for BYTES. Raises `Problem`."""
    _check_typed(name, datatype)
    _check_size(name, shape, len(values), "values")
    if datatype == BYTES:
        texts = [_text(name, index, value) for index, value in enumerate(values)]
        return Tensor(name, tuple(shape), _objects(texts), is_text=True)
    return Tensor(name, tuple(shape), _numbers(name, datatype, shape, values))


def from_bytes(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> Tensor:
    """A tensor of binary data, as a view of it where the datatype allows. Raises `Problem`."""
    dtype = DTYPES.get(datatype)
    if dtype is None or datatype == "BOOL":
        return Tensor(name, tuple(shape), _unpacked(name, datatype, shape, data), datatype == BYTES)
    _check_size(name, shape, len(data), f"bytes of {datatype}", dtype.itemsize)
    return Tensor(name, tuple(shape), np.frombuffer(data, dtype))


def pack_tensors(tensors: Sequence[Tensor], row_format: RowReader) -> tuple[RequestRows, int]:
    """The rows that the inputs say, packed, and how many they are.

    Raises `Problem`, and `InputFault` that names a row and feature.
    """
    if not tensors:
        raise invalid("no_rows", "there are no input tensors")
    if isinstance(row_format, UnionRows):
        return _opened(tensors, row_format)
    assert isinstance(row_format, RowFormat)
    return _packed(tensors, row_format)


def _opened(tensors: Sequence[Tensor], union: UnionRows) -> tuple[RequestRows, int]:
    """The inputs as each version takes them: a matrix by its own order, else the tensors of its features."""
    first = tensors[0]
    count = first.shape[0]
    if len(tensors) == 1 and (first.name not in union.feature_names or (len(first.shape) == 2 and first.shape[1] > 1)):
        return union.opened(lambda own: _told_apart(tensors, own), RowForm.PACKED, count), count
    names = [tensor.name for tensor in tensors]
    _check_known(names, union.feature_names)
    if len(set(names)) < len(names):
        raise Problem("malformed_body", "two inputs have the same name")

    def read(own: RowFormat) -> tuple[RequestRows, int]:
        return _told_apart([tensor for tensor in tensors if tensor.name in own.feature_names], own, by_name=True)

    lacking = dict.fromkeys(union.optional.difference(names), count)
    return union.opened(read, RowForm.NAMED, count, lacking), count


def _told_apart(tensors: Sequence[Tensor], own: RowFormat, *, by_name: bool = False) -> tuple[RequestRows, int]:
    """The rows of a version. Raises `InputFault` alone."""
    try:
        return _packed(tensors, own, by_name=by_name)
    except Problem as problem:
        raise InputFault(problem.code, problem.message, beside=problem.detail) from None


def _packed(tensors: Sequence[Tensor], row_format: RowFormat, *, by_name: bool = False) -> tuple[RequestRows, int]:
    """The rows; `by_name`: a lone tensor is its feature's, and no matrix."""
    if not by_name and len(tensors) == 1 and (len(tensors[0].shape) == 2 or len(row_format.feature_names) > 1):
        values = _matrix(tensors[0], row_format)
    else:
        values = _columns(tensors, row_format, by_name=by_name)
    if len(values):
        for tensor in tensors:
            if tensor.is_text:
                row_format.check_declared_text(tensor.name, tensor.values[0])
    try:
        return row_format.pack_array(values), len(values)
    except InputFault as fault:
        raise (_fault_of_digits(fault, tensors, row_format) if fault.code == "not_exact" else fault) from None


def _fault_of_digits(fault: InputFault, tensors: Sequence[Tensor], row_format: RowFormat) -> InputFault:
    """The fault of a whole number with the digits that were sent, where it had a tensor of whole numbers for itself."""
    column = next(column for column in row_format.schema.columns if column.name == fault.feature)
    own = next((one.values for one in tensors if one.name == fault.feature and one.values.dtype.kind in "iu"), None)
    found = None if own is None or fault.row is None else column.fault(fault.row, own.ravel()[fault.row].item())
    return found or fault


def _matrix(tensor: Tensor, row_format: RowFormat) -> NDArray[Any]:
    expected = len(row_format.feature_names)
    if len(tensor.shape) != 2 or tensor.shape[1] != expected:
        message = f"input {_shown(tensor.name)} has shape {_sides(tensor.shape)}; [rows, {expected}] belongs here"
        raise invalid("wrong_feature_count", message, expected=expected)
    return tensor.values.reshape(tensor.shape)


def _columns(tensors: Sequence[Tensor], row_format: RowFormat, *, by_name: bool) -> NDArray[Any]:
    """Rows of one tensor for each feature, in the features' order."""
    names = row_format.feature_names
    if len(tensors) == len(names) == 1 and not by_name:
        ordered: Sequence[Tensor] = tensors
    else:
        ordered = _in_order(tensors, names)
    rows = len(ordered[0].values)
    for tensor in ordered:
        if tensor.shape not in ((rows,), (rows, 1)):
            message = f"input {_shown(tensor.name)} has shape {_sides(tensor.shape)}; [{rows}] or [{rows}, 1]"
            raise invalid("wrong_shape", f"{message} belongs here", feature=legible(tensor.name))
    return row_format.stack([tensor.values for tensor in ordered])


def _in_order(tensors: Sequence[Tensor], names: Sequence[str]) -> list[Tensor]:
    by_name = {tensor.name: tensor for tensor in tensors}
    _check_known(by_name, names)
    for name in names:
        if name not in by_name:
            raise invalid("missing_feature", f"the input of feature {name!r} is missing", feature=name)
    if len(by_name) < len(tensors):
        raise Problem("malformed_body", "two inputs have the same name")
    return [by_name[name] for name in names]


def _check_known(given: Iterable[str], names: Sequence[str]) -> None:
    """Raise `Problem` (422) for the first name that is no feature's."""
    for name in given:
        if name not in names:
            message = f"input {_shown(name)} is no feature; known are {', '.join(names)}"
            raise invalid("unknown_feature", message, feature=legible(name))


def _flat(name: str, shape: Sequence[int], data: list[Any]) -> list[Any]:
    """Row after row, of data that is flat already or nested exactly as the shape says."""
    if not data or type(data[0]) is not list:
        return data
    level: list[Any] = [data]
    for side in shape:
        if set(map(type, level)) != {list} or set(map(len, level)) != {side}:
            raise _malformed(name, f"the data is nested otherwise than shape {_sides(shape)} says")
        level = list(chain.from_iterable(level))
    return level


def _numbers(name: str, datatype: str, shape: Sequence[int], values: Sequence[Any]) -> NDArray[Any]:
    """An array of Python's numbers. Integers must fit; what is beyond a float's range becomes infinite."""
    # FP32 stays as exact as it came, so that a value beyond its range can be told from infinity.
    dtype = DTYPES["FP64" if datatype == "FP32" else datatype]
    if dtype.kind == "f":
        try:
            if datatype != "FP16":
                return np.array(values, dtype)
            with np.errstate(over="ignore"):
                return np.array(values, dtype)
        except OverflowError:
            # An integer of more digits than a float64 has: the row format says where.
            return _objects(values)
    least, most = (0, 1) if datatype == "BOOL" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if float in set(map(type, values)) or (values and not least <= min(values) <= max(values) <= most):
        index, bad = next(
            (index, value) for index, value in enumerate(values) if type(value) is float or not least <= value <= most
        )
        if type(bad) is float and not math.isfinite(bad):
            # The row format says where.
            return _objects(values)
        row, column = divmod(index, math.prod(shape[1:]))
        where = f"input {_shown(name)}, row {row}" + (f", column {column}" if math.prod(shape[1:]) > 1 else "")
        message = f"{where}: {bad!s:.{_SHOWN_CHARACTERS}} is no {datatype}; send another datatype, such as FP64"
        raise invalid("wrong_type", message, row=row)
    return np.array(values, bool if datatype == "BOOL" else dtype)


def _unpacked(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> NDArray[Any]:
    """Values of the datatypes that numpy has not as they are sent."""
    if datatype == "BOOL":
        _check_size(name, shape, len(data), "bytes of BOOL")
        truths: NDArray[Any] = np.frombuffer(data, "<u1") != 0
        return truths
    if datatype == BF16:
        _check_size(name, shape, len(data), "bytes of BF16", 2)
        # Each is the upper half of a float32.
        halves = np.zeros((len(data) // 2, 2), "<u2")
        halves[:, 1] = np.frombuffer(data, "<u2")
        return halves.view("<f4")[:, 0]
    _check_datatype(name, datatype)
    texts = _unpacked_texts(name, data)
    _check_size(name, shape, len(texts), "values")
    return _objects(texts)


def _unpacked_texts(name: str, data: bytes | memoryview) -> list[str]:
    texts: list[str] = []
    offset, size = 0, len(data)
    while offset < size:
        start = offset + LENGTH_BYTES
        offset = start + int.from_bytes(data[offset:start], "little")
        if start > size or offset > size:
            raise _malformed(name, f"element {len(texts)} of the binary data is longer than what is there")
        texts.append(_text(name, len(texts), bytes(data[start:offset])))
    return texts


def _text(name: str, index: int, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise _malformed(name, f"element {index} is not UTF-8") from None


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    return np.fromiter(values, object, len(values))


def _check_typed(name: str, datatype: str) -> None:
    """For data that is no bytes."""
    _check_datatype(name, datatype)
    if datatype == BF16:
        raise _malformed(name, "BF16 has no form but binary data")


def _check_datatype(name: str, datatype: str) -> None:
    if datatype not in DTYPES and datatype not in (BF16, BYTES):
        known = ", ".join((*DTYPES, BF16, BYTES))
        raise _malformed(name, f"the datatype {_shown(datatype)} is not known; known are {known}")


def _check_shape(name: str, shape: Sequence[int]) -> None:
    if not 0 < len(shape) <= _MAX_SIDES or min(shape) < 0:
        raise _malformed(name, f"{_sides(shape)} is no shape: one to {_MAX_SIDES} sides, and none below 0")


def _check_size(name: str, shape: Sequence[int], got: int, what: str, item_bytes: int = 1) -> None:
    """Before anything is made as large as the shape only says."""
    _check_shape(name, shape)
    expected = math.prod(shape) * item_bytes
    if expected != got:
        said = f"{expected}"[:20] + "..." * (expected >= 10**20)
        raise _malformed(name, f"there are {got} {what}; shape {_sides(shape)} takes {said}")


def _malformed(name: str, message: str) -> Problem:
    return Problem("malformed_tensor", f"input {_shown(name)}: {message}", {"input": legible(name)})


def _sides(shape: Sequence[int]) -> str:
    return f"{list(shape[:_MAX_SIDES])!s:.{_SHOWN_CHARACTERS}}"


def _shown(name: str) -> str:
    return repr(legible(name))
