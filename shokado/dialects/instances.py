"""Bodies whose rows are in `instances`, as several dialects have them."""

from typing import Any, TypeVar

import msgspec

from runners.inputs.matrix import LARGE_BYTES
from runners.inputs.rows import RequestRows, RowReader
from shokado.dialects.json_rows import explain_body, refuse_excess, truth_reader

Instances = TypeVar("Instances")
"""What a body's struct has as `instances`: a list of the format's rows, or their JSON as it came."""


class Bodies:
    """Decodes such bodies of one dialect. `body` is a struct with a field `instances` of the type `Instances`."""

    def __init__(self, body: Any, row_format: RowReader) -> None:
        self.type = body[list[row_format.row_type]]  # type: ignore[name-defined]
        """What is described to clients."""
        self._row_format = row_format
        self._decode = msgspec.json.Decoder(body[list[row_format.quick_row_type]]).decode  # type: ignore[name-defined]
        self._read_truths = truth_reader(row_format, lambda row: body[list[row]])  # type: ignore[valid-type]
        self._decode_around = msgspec.json.Decoder(body[msgspec.Raw]).decode

    def decode(self, body: bytes) -> tuple[Any, RequestRows, int]:
        """The body but for its rows, these packed, and how many they are. Raises `Problem` and `InputFault`."""
        row_format = self._row_format
        # No shorter one is large, or has more than is allowed.
        if len(body) >= LARGE_BYTES:
            refuse_excess(row_format, body)
            if len(body) >= row_format.large_bytes and (found := self._decode_large(body)) is not None:
                return found
        try:
            content = self._decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            content = self._read_truths(body)
            if content is None:
                raise explain_body(row_format, body, "instances", str(error)) from None
            return content, row_format.pack_values(content.instances), len(content.instances)
        return content, row_format.pack(content.instances), len(content.instances)

    def _decode_large(self, body: bytes) -> tuple[Any, RequestRows, int] | None:
        """Decode a body whose rows are lists; None if they are not, or anything is wrong."""
        try:
            content = self._decode_around(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        packed = self._row_format.pack_json(bytes(content.instances))
        return None if packed is None else (content, *packed)
