"""How much there is in a ModelInferRequest, counted on the wire before it is parsed.

In: the message's bytes. Out: nothing, or the problem that it has more fields or values than any request that can be
answered. What a parser makes of two bytes, an empty tensor, is 88 bytes and an object.
Source: https://protobuf.dev/programming-guides/encoding
"""

from enum import Enum

import numpy as np

from runners.inputs.rows import RowReader
from shokado.dialects.problem import Problem

LONG_BYTES = 2**14
"""Shorter messages are parsed as they are: too few fields fit in to hold anybody up."""
_FIELDS = 1_000
"""Fields beside those of a tensor for each feature: parameters and outputs, of which no client sends as many."""
_FIELDS_PER_FEATURE = 16
"""Name, datatype, shape, contents and raw contents of a tensor, and some parameters."""
_VARINT, _FIXED64, _BYTES, _GROUP, _END_OF_GROUP, _FIXED32 = range(6)


class _Level(Enum):
    REQUEST = 1
    INPUT = 2
    OUTPUT = 3
    CONTENTS = 4


_INSIDE = {
    (_Level.REQUEST, 5): _Level.INPUT,
    (_Level.REQUEST, 6): _Level.OUTPUT,
    (_Level.INPUT, 5): _Level.CONTENTS,
}
"""What a field of bytes is, by the level that has it and its number; all others hold nothing that is counted."""
_PACKED_BYTES = {6: 4, 7: 8}
"""Bytes of a value in the fields of floats of `InferTensorContents`; the other numbers are of any length."""


def refuse_excess(message: bytes, row_format: RowReader) -> None:
    """Raise `Problem` (413) when it has more than requests of this model may. What is no message is not refused."""
    if len(message) < LONG_BYTES:
        return
    features = len(row_format.feature_names)
    counts = _Counts(message, _FIELDS + _FIELDS_PER_FEATURE * features, row_format.max_rows * features)
    try:
        counts.walk(0, len(message), _Level.REQUEST)
    except IndexError:
        # It ends within a field, which the parser will say.
        return


class _Counts:
    """How many more fields and values a message may have."""

    def __init__(self, message: bytes, max_fields: int, max_values: int) -> None:
        self._message = message
        self._max_fields, self._max_values = max_fields, max_values
        self._fields, self._values = max_fields, max_values

    def walk(self, at: int, end: int, level: _Level) -> None:
        """Count what is from `at` to `end`. Raises `Problem`, and `IndexError` where the message ends too soon."""
        message = self._message
        of_values = level is _Level.CONTENTS
        most = left = self._values if of_values else self._fields
        while at < end:
            tag, at = (message[at], at + 1) if message[at] < 0x80 else self._varint(at)
            kind, number = tag & 7, tag >> 3
            if kind == _BYTES:
                length, at = (message[at], at + 1) if message[at] < 0x80 else self._varint(at)
                stop = min(at + length, end)
                if stop > at + 1:
                    self._enter(level, number, at, stop)
                at += length
            elif kind == _VARINT:
                while message[at] >= 0x80:
                    at += 1
                at += 1
            elif kind in (_FIXED64, _FIXED32):
                at += 8 if kind == _FIXED64 else 4
            elif kind not in (_GROUP, _END_OF_GROUP):
                return
            left -= 1
            if left < 0:
                self._count(1 + most, of_values=of_values)
        self._count(most - left, of_values=of_values)

    def _enter(self, level: _Level, number: int, at: int, end: int) -> None:
        """Count what a field of bytes holds."""
        inner = _INSIDE.get((level, number))
        if inner is not None:
            self.walk(at, end, inner)
        elif level is _Level.CONTENTS and number < 8:
            # The field itself is counted as one.
            self._count(max(self._packed(at, end, number), 1) - 1, of_values=True)
        elif level is _Level.INPUT and number == 3:
            self._count(self._packed(at, end, number), of_values=False)

    def _count(self, more: int, *, of_values: bool) -> None:
        if of_values:
            self._values -= more
        else:
            self._fields -= more
        if self._fields < 0:
            message = f"the message has more than {self._max_fields} fields; no request of this model has as many"
            raise Problem("too_many_fields", message, {"limit": self._max_fields})
        if self._values < 0:
            message = f"the tensors have more than {self._max_values} values, which are allowed in one request"
            raise Problem("too_many_values", message, {"limit": self._max_values})

    def _packed(self, at: int, end: int, number: int) -> int:
        """How many values one field holds."""
        if number in _PACKED_BYTES:
            return (end - at) // _PACKED_BYTES[number]
        content = np.frombuffer(self._message, np.uint8, end - at, at)
        # The last byte of an integer alone has no sign that more follow.
        return int(np.count_nonzero(content < 0x80))

    def _varint(self, at: int) -> tuple[int, int]:
        """The number at an offset, and the offset after it."""
        message = self._message
        value = shift = 0
        while (byte := message[at]) >= 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            at += 1
            if shift > 63:
                # The parser refuses it.
                raise IndexError
        return value | byte << shift, at + 1
