"""Masking: values that must not be in the log are taken out of records before anything is written.

A dropped one is gone. A hashed one is a keyed BLAKE2b of 16 bytes: the same value has the same one under the same key,
and without the key nobody finds the value by trying all there could be.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np

from configuration.log_settings import LogSettings
from runners.inputs.rows import RowFormat, Rows
from shokado.request_log.records import LoggedRequest, LoggedRequests

KEY_BYTES = 32
_DIGEST_BYTES = 16
_USE = b"shokado.log.v1"

_json = msgspec.json.Encoder().encode


class Masking:
    """Takes values and units out of records of requests, as the settings say."""

    def __init__(self, settings: LogSettings, key: bytes) -> None:
        """The settings may name features that a version does not take. `key` has 32 bytes."""
        self._masked = frozenset((*settings.drop, *settings.hash))
        self._hashed = frozenset(settings.hash)
        self._unit = settings.unit
        # Copying it takes half as long as reading the key again.
        self._keyed = blake2b(key=key, digest_size=_DIGEST_BYTES, person=_USE)
        self.masks_any = bool(self._masked) or self._unit != "plain"
        """Whether there is anything to take out."""

    def of(self, row_format: RowFormat) -> tuple[str, ...]:
        """The features of the format whose values are taken out."""
        return tuple(name for name in row_format.feature_names if name in self._masked)

    def masked(self, record: LoggedRequests, row_format: RowFormat) -> LoggedRequests:
        """The record with something else in place of such values, and what stands for those that are hashed."""
        requests = (
            [self._with_unit(request) for request in record.requests] if self._unit != "plain" else record.requests
        )
        columns = {name: row_format.feature_names.index(name) for name in self.of(row_format)}
        if not columns:
            return msgspec.structs.replace(record, requests=requests)
        batch = row_format.from_wire(record.rows).copy()
        hashes = {
            name: self._hashes(row_format, batch, column) for name, column in columns.items() if name in self._hashed
        }
        # Zero is a number of any kind, and a level's.
        batch[:, list(columns.values())] = "" if batch.dtype == np.dtype(object) else 0
        return msgspec.structs.replace(record, requests=requests, rows=row_format.to_wire(batch), hashes=hashes)

    def hash(self, value: Any) -> str | None:
        """What stands for a value of JSON: 32 hexadecimal digits; None for None."""
        if value is None:
            return None
        keyed = self._keyed.copy()
        keyed.update(_json(value))
        return keyed.hexdigest()

    def _hashes(self, row_format: RowFormat, batch: Rows, column: int) -> Sequence[str | None]:
        """What stands for each value of a column; each is hashed once, however many rows have it."""
        # Minus zero is equal to zero, and so has its hash.
        values = [value or type(value)() for value in batch[:, column].tolist()]
        hashes = {value: self.hash(row_format.spelt(column, value)) for value in set(values)}
        return [hashes[value] for value in values]

    def _with_unit(self, request: LoggedRequest) -> LoggedRequest:
        unit = self.hash(request.unit) if self._unit == "hash" else ""
        return msgspec.structs.replace(request, unit=unit)
