"""Requests that name entities: their features are looked up before the call begins that all others begin with.

body --(names no entities)---------------------------------------------> call
  `--EntityReader--> entities --lookup--> features --filled--> body --> call
            `--(anything wrong)--> call that has failed

Made only where features are configured; then a body is searched for the name of the field, and nothing more is done
for one that lacks it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

import msgspec

from configuration.feature_settings import FeatureSettings
from runners.inputs.rows import RowReader
from shokado.dialects.compression import inflate
from shokado.dialects.dialect import Dialect
from shokado.dialects.entity_bodies import EntityBody, EntityReader, Filling
from shokado.dialects.head import JSON, RequestHead
from shokado.dialects.problem import Problem
from shokado.features.feature_lookup import FeatureLookup, Lookup
from shokado.transports.call import Call, PredictionHandler
from shokado.transports.exchange import Cancellable, Exchange


@dataclass(frozen=True, slots=True)
class FeatureSource:
    """Where entities' features come from, and what becomes of those that are missing."""

    settings: FeatureSettings
    lookup: FeatureLookup
    max_text_characters: int
    max_body_bytes: int
    wall_clock: Callable[[], float] = time.time


class EntityHandler:
    """A handler before one of a dialect whose bodies may name entities."""

    def __init__(self, handler: PredictionHandler, dialect: Dialect, source: FeatureSource) -> None:
        """`dialect` is the handler's as it is now; another one of the same route may take its place."""
        assert dialect.entities_beside is not None
        self.path = handler.path
        self.handler = handler
        self.source = source
        self._reader = EntityReader(source.settings, dialect.entities_beside, source.max_text_characters)
        self._filling: tuple[RowReader, Filling] = (dialect.row_format, Filling(source.settings, dialect.row_format))

    def judge(self, head: RequestHead, peer: str) -> Problem | None:
        return self.handler.judge(head, peer)

    def begin(self, head: RequestHead, body: bytes, exchange: Exchange) -> Cancellable | None:
        if head.content_type != JSON or head.problem is not None or self.handler.is_full:
            return self.handler.begin(head, body, exchange)
        received_at = time.monotonic()
        try:
            if head.coding:
                body, head = inflate(body, head.coding, self.source.max_body_bytes), replace(head, coding=b"")
            found = self._reader.read(body, self.row_format)
        except Exception as error:
            return self.handler.begin_failed(head, exchange, received_at, error)
        if found is None:
            return self.handler.begin(head, body, exchange)
        request = EntityRequest(self, head, exchange, received_at, found)
        request.start()
        return request

    @property
    def row_format(self) -> RowReader:
        """How rows are read by now."""
        row_format: RowReader = self.handler.dialect.row_format  # type: ignore[attr-defined]  # a `Dialect`
        return row_format

    @property
    def filling(self) -> Filling:
        """What becomes of what rows lack, as they are read by now."""
        if self._filling[0] is not self.row_format:
            self._filling = (self.row_format, Filling(self.source.settings, self.row_format))
        return self._filling[1]


class EntityRequest(msgspec.Struct, eq=False):
    """A request whose features are being looked up, and then its call."""

    handler: EntityHandler
    head: RequestHead
    exchange: Exchange
    received_at: float
    body: EntityBody
    lookup: Lookup | None = None
    call: Call | None = None

    def start(self) -> None:
        head = self.head
        deadline = inf if head.deadline_s is None else self.received_at + head.deadline_s
        try:
            lookup = self.handler.source.lookup.look_up(self.body.entities, deadline, self._looked_up)
        except Exception as error:
            self.call = self.handler.handler.begin_failed(head, self.exchange, self.received_at, error)
            return
        if not lookup.over:
            self.lookup = lookup

    def cancel(self) -> None:
        lookup, self.lookup = self.lookup, None
        if lookup is not None:
            lookup.cancel()
        if self.call is not None:
            self.call.cancel()

    def _looked_up(self, lookup: Lookup) -> None:
        self.lookup = None
        handler, source = self.handler.handler, self.handler.source
        head, body = self.head, self.body
        try:
            if lookup.error is not None:
                raise lookup.error
            unit = body.unit_of(source.settings.unit)
            if unit:
                # Before the request's id, which is what it would stick to last, and after all else.
                head = replace(head, id_unit=unit)
            lookups, filling = source.lookup, self.handler.filling
            filled = body.filled(lookup.found, lookups.names_for, filling, source.wall_clock(), lookups.note_lack)
        except Exception as error:
            self.call = handler.begin_failed(head, self.exchange, self.received_at, error)
            return
        self.call = handler.begin_filled(head, filled, self.exchange, self.received_at, body.blamed)
