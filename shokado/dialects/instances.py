"""Bodies whose rows are in `instances`, as several dialects have them."""

from typing import Any, TypeVar

import msgspec

from runners.inputs.rows import RequestRows
from shokado.dialects.matrix import LARGE_BYTES
from shokado.dialects.signature import Signature

Instances = TypeVar("Instances")
"""What a body's struct has as `instances`: a list of the signature's rows, or their JSON as it came."""


class Bodies:
    """Decodes them. `body` is a struct with a field `instances` of the type `Instances`."""

    def __init__(self, body: Any, signature: Signature) -> None:
        self.type = body[list[signature.row_type]]  # type: ignore[name-defined]
        """What is described to clients."""
        self._signature = signature
        self._decode = msgspec.json.Decoder(self.type).decode
        self._read_truths = signature.truth_reader(lambda row: body[list[row]])  # type: ignore[valid-type]
        self._decode_around = msgspec.json.Decoder(body[msgspec.Raw]).decode

    def decode(self, body: bytes) -> tuple[Any, RequestRows, int]:
        """The body but for its rows, these packed, and how many they are. Raises `Problem`."""
        signature = self._signature
        # No shorter one is large, or has more than is allowed.
        if len(body) >= LARGE_BYTES:
            signature.refuse_excess(body)
            if signature.is_large(body) and (found := self._decode_large(body)) is not None:
                return found
        try:
            content = self._decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            content = self._read_truths(body)
            if content is None:
                raise signature.explain_body(body, "instances", str(error)) from None
            return content, signature.pack_values(content.instances), len(content.instances)
        return content, signature.pack(content.instances), len(content.instances)

    def _decode_large(self, body: bytes) -> tuple[Any, RequestRows, int] | None:
        """The same if the rows are lists and nothing is wrong."""
        try:
            content = self._decode_around(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        packed = self._signature.pack_text(content.instances)
        return None if packed is None else (content, *packed)
