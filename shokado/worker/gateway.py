"""The gateway: what answers predictions in one worker, over the express lane, BentoML's own routes, and gRPC alike."""

import asyncio
from collections.abc import Mapping
from typing import Any

from runners.artefacts.card import Card
from runners.inputs.rows import RowReader
from shokado.access.gate import Gate
from shokado.dialects.dialect import Dialect
from shokado.transports.call import PredictionHandler
from shokado.transports.entity_call import EntityHandler, FeatureSource
from shokado.transports.exchange import Handler
from shokado.transports.express_lane.context import LaneLimits
from shokado.transports.express_lane.lane import open_lane
from shokado.transports.plain import Predictions
from shokado.transports.prediction_handlers import behind, dialects_of, prediction_handlers
from shokado.transports.refused_heads import answer_heads
from shokado.transports.routes import Routes
from shokado.worker.descriptors import allow_connections
from shokado.worker.parts import Control
from shokado.worker.process import Configured, freeze_garbage
from shokado.worker.readiness import served_models
from shokado.worker.worker import Worker


class Gateway:
    """Make one per process; it answers from `start` to `stop`."""

    def __init__(self, server: Configured, predictions: Predictions) -> None:
        """`predictions` answer BentoML's own routes; they get the same handlers as all others."""
        self.server = server
        self.predictions = predictions
        self.control = Control(server.settings, server.gate, predictions.body_quota)
        """What control routes read."""
        self.row_format = server.row_format
        """How requests are read by now."""
        self._handlers: list[PredictionHandler] = []
        self._worker: Worker
        self._grpc: Any = None

    @property
    def card(self) -> Card:
        return self.server.card

    @property
    def gate(self) -> Gate:
        return self.server.gate

    @property
    def dialects(self) -> list[Dialect]:
        """The dialects of what the versions take; the last one is that of explanations."""
        return dialects_of(self.row_format, self.server.settings)

    async def start(self, urls: Mapping[str, str]) -> None:
        """Make this process's parts, and let requests in. `urls` are those of versions with a service of their own."""
        server = self.server
        self._worker = Worker(
            server.settings,
            server.artefacts,
            urls,
            server.gate,
            server.secret,
            self._read_as,
            server.log_key,
            server.trace_export,
        )
        await self._worker.start()
        await self._open()
        self._worker.stopping.catch(asyncio.get_running_loop())
        freeze_garbage()

    async def stop(self) -> None:
        """Answer what is under way and let go of everything."""
        if self._grpc is not None:
            await self._grpc.stop()
        await self._worker.stop()

    async def _open(self) -> None:
        settings, gate = self.server.settings, self.server.gate
        self._handlers = prediction_handlers(self._worker.entrance, self._worker.explainer, self.row_format, settings)
        routes = self.predictions.routes = Routes(behind(gate, self._before_entities()), settings.model)
        grpc_wanted = [settings.grpc.max_connections] if settings.grpc.port is not None else []
        http_room, *grpc_room = allow_connections(settings.limits.max_connections, *grpc_wanted)
        refuse_head = answer_heads(routes, settings.prefix, gate.note_bad_head)
        lane = routes if settings.express_lane else Routes()
        open_lane(lane, self._lane_limits(http_room), self.control.body_quota, refuse_head)
        self.control.parts = self._worker.parts
        if grpc_room:
            await self._open_grpc(*grpc_room)

    def _before_entities(self) -> list[Handler]:
        """The handlers, behind one that looks up features where those are configured and the dialect has them."""
        settings, lookup = self.server.settings, self._worker.features
        if lookup is None:
            return [*self._handlers]
        limits = settings.limits
        source = FeatureSource(settings.features, lookup, limits.max_text_characters, limits.max_body_bytes)
        return [
            EntityHandler(handler, dialect, source) if dialect.entities_beside is not None else handler
            for handler, dialect in zip(self._handlers, self.dialects, strict=True)
        ]

    async def _open_grpc(self, max_connections: int) -> None:
        from shokado.transports.grpc.server import GrpcServer

        settings = self.server.settings
        self._grpc = GrpcServer(
            settings.grpc.model_copy(update={"max_connections": max_connections}),
            settings.limits,
            served_models(settings, self._worker.parts),
            self.server.card,
            self._worker.entrance,
            self.server.gate,
            self.control.body_quota,
        )
        self._grpc.row_format = self.row_format
        await self._grpc.start()

    def _read_as(self, row_format: RowReader) -> None:
        """Read requests so from the next one on, over all transports."""
        self.row_format = row_format
        for handler, dialect in zip(self._handlers, self.dialects, strict=False):
            handler.dialect = dialect
        if self._grpc is not None:
            self._grpc.row_format = row_format

    def _lane_limits(self, max_connections: int) -> LaneLimits:
        """The lane's limits, with as many connections as this process may have open."""
        settings = self.server.settings
        limits = settings.limits
        # With CORS on, one implementation answers pages: Starlette's, behind BentoML's routes.
        left = frozenset((b"origin",)) if settings.access.cors.origins else frozenset()
        return LaneLimits(
            limits.max_body_bytes,
            limits.max_header_bytes,
            left_headers=left,
            request_s=limits.request_timeout_s,
            max_connections=max_connections,
            max_age_s=limits.max_connection_age_s,
            spread_s=settings.shutdown.drain_s / 2,
        )
