"""Inference as the Open Inference Protocol, version 2, writes it: what a client sends for a batch, and what comes back.

In: a card, what the server says of itself and of the model, a batch; later the answer's body. Out: a `Form`, which says
how the two understand each other, the request's body, the scores. No HTTP here: `endpoint` carries it.

Servers differ: Shokado and Triton take binary data, MLServer only JSON; each names its tensors its own way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runners.artefacts.card import Card, Task
from runners.artefacts.scores import Scores, from_columns
from runners.inputs.columns import Number
from runners.inputs.datatypes import BYTES, DTYPES, to_bytes
from runners.inputs.rows import RowFormat, Rows
from runners.inputs.schema import ROWS, Schema

PREDICTIONS = "predictions"
"""What a Shokado calls its scores."""
_BINARY_EXTENSION = "binary_tensor_data"
_FLOATS = ("FP16", "FP32", "FP64")
_FITTING = {"FP32": _FLOATS, "FP64": ("FP64",), BYTES: (BYTES,)}
"""Which datatypes another server may take our rows in: what needs float64 loses digits in any other."""


class Mismatch(Exception):
    """The other side's model takes or gives something else than our version; the message says both."""


class TensorDescription(msgspec.Struct):
    """A tensor as metadata describe it; a side of -1 may have any length."""

    name: str
    datatype: str
    shape: list[int]


class RemoteServerMetadata(msgspec.Struct):
    """The answer to `GET /v2`, as far as it matters."""

    extensions: list[str] = []


class RemoteModelMetadata(msgspec.Struct):
    """The answer to `GET /v2/models/..`; MLServer need not say anything of a model's tensors."""

    inputs: list[TensorDescription] | None = None
    outputs: list[TensorDescription] | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """How a batch is written for one server, and which of its outputs has the scores."""

    input: str = "input"
    datatype: str = "FP32"
    flat: bool = False
    """Whether a batch of texts has the shape [rows], and not [rows, 1]."""
    output: str | None = None
    """The output's name; None: it is found in each answer."""
    binary: bool = False
    columns: tuple[tuple[str, str], ...] = ()
    """Where texts stand beside other columns, name and datatype of each feature's tensor: these are the inputs then."""


class _BinarySize(msgspec.Struct):
    binary_data_size: int | None = None


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None = None
    parameters: _BinarySize | None = None


class _Answer(msgspec.Struct):
    outputs: list[_Output]


_encode = msgspec.json.Encoder().encode
_decode_answer = msgspec.json.Decoder(_Answer).decode


def agree(card: Card, server: RemoteServerMetadata, model: RemoteModelMetadata, output: str | None) -> Form:
    """How to talk with a server; `output` is the name of its output that is configured. Raises `Mismatch`."""
    inputs, outputs = model.inputs or [], model.outputs or []
    if output is None and outputs:
        output = _with_scores(outputs).name
    binary, schema = _BINARY_EXTENSION in server.extensions, card.row_format.schema
    if schema.is_mixed:
        return Form(output=output, binary=binary, columns=_agree_on_columns(schema, inputs))
    if not inputs:
        return Form(datatype=schema.datatype, output=output, binary=binary)
    if len(inputs) > 1:
        raise Mismatch(f"its model takes {len(inputs)} inputs ({_names(inputs)}), where one with all features belongs")
    (taken,) = inputs
    fitting = _FITTING[schema.datatype]
    if taken.datatype not in fitting:
        raise Mismatch(f"its model takes {taken.datatype}, where {' or '.join(fitting)} belongs")
    sides, own_sides = taken.shape[1:], schema.shape[1:]
    if own_sides and sides and sides[-1] not in (ROWS, *own_sides):
        raise Mismatch(f"its model takes {sides[-1]} features, and this one has {own_sides[-1]}")
    return Form(taken.name, taken.datatype, not own_sides and not sides, output, binary)


def _agree_on_columns(schema: Schema, inputs: Sequence[TensorDescription]) -> tuple[tuple[str, str], ...]:
    """Name and datatype of each feature's tensor. Raises `Mismatch`."""
    taken = {one.name: one.datatype for one in inputs}
    found = {}
    for column in schema.columns:
        own = schema.precision.datatype if isinstance(column, Number) else BYTES
        found[column.name] = taken.get(column.name, "" if inputs else own)
        if found[column.name] not in _FITTING[own]:
            raise Mismatch(
                f"its model takes {_names(inputs)}, where a tensor for each feature belongs, of {own} for {column.name}"
            )
    if len(taken) > len(found):
        raise Mismatch(
            f"its model takes {len(taken)} inputs ({_names(inputs)}), and this one has {len(found)} features"
        )
    return tuple(found.items())


def write_columns(form: Form, row_format: RowFormat, rows: Rows) -> bytes:
    """The body for a batch of a tensor for each feature, all of it JSON, which says what is missing as null."""
    listed = [row_format.listed(row) for row in row_format.unbatched(rows)]
    inputs = [
        {"name": name, "datatype": datatype, "shape": [len(rows)], "data": [row[at] for row in listed]}
        for at, (name, datatype) in enumerate(form.columns)
    ]
    return _encode({"inputs": inputs} | _asked(form))


def write_request(form: Form, rows: Rows) -> tuple[bytes, int | None]:
    """The body for a batch, and how many bytes of it are JSON; None: all."""
    shape = rows.shape[:1] if form.flat else rows.shape
    tensor: dict[str, Any] = {"name": form.input, "datatype": form.datatype, "shape": shape}
    asked: dict[str, Any] = {"inputs": [tensor]} | _asked(form)
    if not form.binary:
        tensor["data"] = rows.ravel().tolist()
        return _encode(asked), None
    data = to_bytes(form.datatype, rows.ravel())
    tensor["parameters"] = {"binary_data_size": len(data)}
    head = _encode(asked)
    return head + data, len(head)


def _asked(form: Form) -> dict[str, Any]:
    """What is wanted of the answer."""
    if form.output is not None:
        return {"outputs": [{"name": form.output, "parameters": {"binary_data": form.binary}}]}
    return {"parameters": {"binary_data_output": True}} if form.binary else {}


def read_scores(card: Card, form: Form, body: bytes, json_bytes: int | None, rows: int) -> Scores:
    """The scores of so many rows, of which the first `json_bytes` bytes of the body are JSON; None: all of it.

    float32, of shape (rows,) or (rows, classes). A binary classifier may give both classes' probabilities.
    Raises `Mismatch`, and `msgspec.DecodeError` for a body that is no answer.
    """
    answer = _decode_answer(body if json_bytes is None else body[:json_bytes])
    found = _with_scores(answer.outputs, form.output)
    values = _values(answer.outputs, found, b"" if json_bytes is None else body[json_bytes:])
    shape, per_row = tuple(found.shape), card.scores_per_row
    if values.size != np.prod(shape, dtype=np.int64):
        raise Mismatch(f"output {found.name} has {values.size} values, and its shape {found.shape} says otherwise")
    if not shape or shape[0] != rows:
        raise Mismatch(f"output {found.name} has shape {found.shape}, where {rows} rows were sent")
    values = values.reshape(rows, -1)
    if values.shape[1] != per_row:
        if card.task is not Task.BINARY or values.shape[1] != 2:
            raise Mismatch(f"output {found.name} has {values.shape[1]} numbers a row, where {per_row} belong")
        values = from_columns(card.task, values)
    scores = np.ascontiguousarray(values, dtype=np.float32)
    return scores.reshape(rows) if per_row == 1 else scores


def _values(outputs: Sequence[_Output], found: _Output, binary: bytes) -> NDArray[Any]:
    """The numbers of one output, flat; binary data of all outputs lie one after the other."""
    offset = 0
    for output in outputs:
        size = output.parameters.binary_data_size if output.parameters is not None else None
        if output is not found:
            offset += size or 0
        elif size is None:
            return _numbers(found)
        else:
            part, dtype = binary[offset : offset + size], DTYPES[found.datatype]
            if len(part) != size or size % dtype.itemsize:
                raise Mismatch(f"output {found.name} has {len(part)} bytes of {found.datatype}, where {size} belong")
            return np.frombuffer(part, dtype)
    raise AssertionError("it is one of them")


def _numbers(output: _Output) -> NDArray[Any]:
    try:
        return np.asarray(output.data or [], dtype=np.float64).ravel()
    except (ValueError, TypeError):
        raise Mismatch(f"output {output.name} has something else than numbers") from None


def _with_scores(outputs: Sequence[Any], name: str | None = None) -> Any:
    """The output of that name; else `predictions`, the only one of floats, or the only one of numbers."""
    if name is not None:
        chosen = [output for output in outputs if output.name == name]
    else:
        numeric = [output for output in outputs if output.datatype in DTYPES]
        floats = [output for output in numeric if output.datatype in _FLOATS]
        named = [output for output in numeric if output.name == PREDICTIONS]
        chosen = named or (floats if len(floats) == 1 else numeric)
    if len(chosen) != 1 or chosen[0].datatype not in DTYPES:
        wanted = "one of numbers" if name is None else f"numbers in {name!r}"
        raise Mismatch(f"its outputs are {_names(outputs) or 'none'}, where {wanted} belongs; see remote.output")
    return chosen[0]


def _names(tensors: Sequence[Any]) -> str:
    return ", ".join(f"{tensor.name} {tensor.datatype}" for tensor in tensors)[:200]
