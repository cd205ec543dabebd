"""Shokado: the composition root. `bentoml serve service:Shokado` starts here, and so does each of its workers.

Top to bottom: the configuration, the versions' artefacts, a BentoML service for each version that has its own, and
the gateway, which embeds the other versions and dispatches to all. `worker` has what each of its processes is made of.

What only workers need is imported where they make it: the supervisor reads this module as well, and answers nobody.
"""

import gc

# What imports leave is hardly garbage, and walking it again and again would take a fifth of the start.
gc.disable()

import asyncio
import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
from bentoml.models import BentoModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from configuration.secret_file import read_secret
from configuration.settings import Placement, SettingsError, load_settings
from configuration.temporary import share_temporary_folder
from runners.artefacts.artefact import ArtefactError
from runners.artefacts.configured import find_artefacts
from shokado.access.gate import Gate
from shokado.access.keys import KeyFileError
from shokado.dialects.batch import Batch
from shokado.dialects.native import Native
from shokado.dialects.single import Single
from shokado.transports import express_lane, plain
from shokado.transports.door import Handler
from shokado.transports.express_lane import LaneLimits, open_lane
from shokado.transports.receiving import Receiving
from shokado.transports.routes import Found, Routes
from shokado.worker.descriptors import allow_connections
from shokado.worker.listening import refuse_unfit_address
from shokado.worker.stopping import LEEWAY_S, Stopping
from shokado.worker.supervision import end_with_supervisor, refuse_long_folder, supervise
from shokado.worker.untimed import lift_time_limit

if TYPE_CHECKING:
    from shokado.dialects.dialect import Dialect
    from shokado.worker.started import Control

try:
    SETTINGS = load_settings()
    ARTEFACTS = find_artefacts(SETTINGS)
    GATE = Gate(SETTINGS.access, SETTINGS.model, Path(__file__).parent)
    SECRET = read_secret(Path(__file__).parent, SETTINGS.feedback.secret_file)
except (SettingsError, ArtefactError, KeyFileError) as error:
    sys.exit(f"shokado: {error}")

# Whose word on a client's address is taken is set in `access.trusted_proxies`; uvicorn would trust all of this machine.
os.environ["FORWARDED_ALLOW_IPS"] = ""
lift_time_limit()
# Without routes of its own the lane still bounds connections, judges framing, and ends them when the server stops.
express_lane.register()

LIMITS = SETTINGS.limits
SHUTDOWN = SETTINGS.shutdown
OUTLAST_S = LEEWAY_S + (SETTINGS.grpc.drain_s if SETTINGS.grpc.port is not None else 0.0)
"""How much longer than the gateway's HTTP a version's own service may take to stop."""
STOP_WITHIN_S = SHUTDOWN.pause_s + SHUTDOWN.drain_s + OUTLAST_S + 2 * LEEWAY_S
"""After which no process ends by itself any more."""
MAX_BATCH_BYTES = 2**31
"""Of one batch on its way to a version's own service."""
MAX_BATCHES_BYTES = 2**40
"""Of all of them: they are the gateway's, which bounds what it takes in."""
# What Shokado measures and logs itself, per version, BentoML need not do once more for each request.
QUIET: dict[str, Any] = {"metrics": {"enabled": False}, "logging": {"access": {"enabled": False}}}


def freeze_garbage() -> None:
    """Keep the collector off everything loaded so far: walking it stalls the event loop for up to 250 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def lane_limits(max_connections: int) -> LaneLimits:
    """Of the gateway's connections, as many as this process may have open."""
    # With CORS on, one implementation answers pages: Starlette's, behind the plain door.
    left = frozenset((b"origin",)) if SETTINGS.access.cors.origins else frozenset()
    return LaneLimits(
        LIMITS.max_body_bytes,
        LIMITS.max_header_bytes,
        left_headers=left,
        request_s=LIMITS.request_timeout_s,
        max_connections=max_connections,
        max_age_s=LIMITS.max_connection_age_s,
        spread_s=SHUTDOWN.drain_s / 2,
    )


def lane_routes(handlers: Iterable[Handler]) -> Routes:
    """What the express lane answers itself."""
    return Routes(handlers if SETTINGS.express_lane else (), SETTINGS.model)


def version_service(version: str) -> Any:
    """The BentoML service of a version that is placed in processes of its own."""
    from shokado.transports.rows import RowsHandler

    artefact = ARTEFACTS[version]

    @bentoml.service(name=f"shokado-{version}", workers=SETTINGS.versions[version].workers, **QUIET)
    class VersionService:
        model = BentoModel(artefact.tag)

        @bentoml.on_startup
        async def start(self) -> None:
            from shokado.dispatch.machine import Machine
            from shokado.dispatch.trials import Trials
            from shokado.worker.version_process import open_rows

            end_with_supervisor()
            trials = Trials(SETTINGS, Machine.of(SETTINGS.store, SETTINGS.model))
            rows = await open_rows(version, artefact, SETTINGS, trials)
            self._found = Found(rows)
            # The gateway closes its connections when it has drained: until then it may send batches after a SIGTERM.
            day = 86_400
            limits = LaneLimits(MAX_BATCH_BYTES, LIMITS.max_header_bytes, idle_s=day, request_s=day, drain_s=None)
            self._receiving = Receiving(MAX_BATCHES_BYTES)
            open_lane(lane_routes([rows]), limits, self._receiving)
            Stopping(SHUTDOWN.pause_s, SHUTDOWN.drain_s + OUTLAST_S).catch(asyncio.get_running_loop())
            freeze_garbage()

        @bentoml.api(route=RowsHandler.path, input_spec=plain.RowsInput, output_spec=plain.RowsOutput)
        async def rows(self, rows: Request) -> Response:
            return await plain.answer(self._found, rows, MAX_BATCH_BYTES, self._receiving)

    return VersionService


VERSION_SERVICES = {
    version: version_service(version)
    for version, spec in SETTINGS.versions.items()
    if spec.placement is Placement.SERVICE
}
RECEIVING = Receiving(LIMITS.receiving_bytes)
PREDICTIONS = plain.Predictions(LIMITS.max_body_bytes, RECEIVING)
CARD = next(iter(ARTEFACTS.values())).card
ROW: Any = plain.TextRow if CARD.takes_text else plain.NumberRow


@cache
def control() -> "Control":
    """What the control routes of this worker read."""
    from shokado.worker.started import Control

    return Control(SETTINGS, GATE, RECEIVING)


def made_dialects() -> "list[Dialect]":
    """The dialects of what the versions take."""
    from shokado.dialects.dialects import all_dialects
    from shokado.dialects.signatures import signature_of

    return all_dialects(signature_of(CARD, LIMITS), SETTINGS.dialects)


def answer_control_first(app: ASGIApp) -> ASGIApp:
    """The control routes in front of BentoML's."""
    from shokado.control.app import ControlFirst, create_app
    from shokado.control.http.documentation import describe_predictions
    from shokado.control.http.refusals import describe_refusals

    control_app = create_app(control())
    describe_predictions(control_app, made_dialects(), CARD)
    describe_refusals(control_app, GATE)
    apis = [api.route for api in Shokado.apis.values()]  # type: ignore[attr-defined]
    return ControlFirst(app, control_app, PREDICTIONS, apis)


@bentoml.service(name="shokado", workers=SETTINGS.worker_count, **QUIET)
class Shokado:
    """Several versions of one model side by side, with live traffic split between them."""

    vars().update({f"model_{name}": BentoModel(found.tag) for name, found in ARTEFACTS.items() if found.in_store})
    vars().update({f"runner_{version}": bentoml.depends(service) for version, service in VERSION_SERVICES.items()})

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Once, in the process that will start the workers: what none of them could see."""
        refuse_unfit_address(SETTINGS.grpc)
        share_temporary_folder()
        supervise(STOP_WITHIN_S, GATE.tell_what_is_open)
        if VERSION_SERVICES:
            refuse_long_folder()
        if SETTINGS.grpc.port is not None:
            from shokado.transports.grpc.server import refuse_taken_port

            try:
                refuse_taken_port(SETTINGS.grpc)
            except OSError as error:
                sys.exit(f"shokado: grpc.port: cannot listen at {SETTINGS.grpc.host}:{SETTINGS.grpc.port}: {error}")

    @bentoml.on_startup
    async def start(self) -> None:
        """Make this process's parts, and open its doors."""
        from shokado.control.http.errors import answer_heads
        from shokado.transports.call import PredictionHandler
        from shokado.transports.guard import GuardedHandler
        from shokado.worker.readiness import why_not_ready
        from shokado.worker.worker import Worker

        end_with_supervisor()
        urls = {version: service.url for version, service in VERSION_SERVICES.items()}
        self._worker = Worker(SETTINGS, ARTEFACTS, urls, GATE, SECRET)
        await self._worker.start()
        handlers: list[Handler]
        handlers = [PredictionHandler(self._worker.entrance, dialect) for dialect in made_dialects()]
        if GATE.guards_predictions:
            handlers = [GuardedHandler(handler, GATE) for handler in handlers]
        PREDICTIONS.routes = Routes(handlers, SETTINGS.model)
        wanted = [LIMITS.max_connections, *([SETTINGS.grpc.max_connections] if SETTINGS.grpc.port is not None else [])]
        http_room, *grpc_room = allow_connections(*wanted)
        refuse_head = answer_heads(PREDICTIONS.routes, SETTINGS.prefix, GATE.note_bad_head)
        open_lane(lane_routes(handlers), lane_limits(http_room), RECEIVING, refuse_head)
        control().started = parts = self._worker.parts
        self._grpc: Any = None
        if SETTINGS.grpc.port is not None:
            from shokado.transports.grpc.server import GrpcServer

            self._grpc = GrpcServer(
                SETTINGS.grpc.model_copy(update={"max_connections": grpc_room[0]}),
                LIMITS,
                SETTINGS.model,
                CARD,
                self._worker.entrance,
                lambda: not why_not_ready(parts),
                GATE,
                RECEIVING,
            )
            await self._grpc.start()
        self._worker.stopping.catch(asyncio.get_running_loop())
        freeze_garbage()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Answer what is under way and let go of everything."""
        if self._grpc is not None:
            await self._grpc.stop()
        await self._worker.stop()

    @bentoml.api(route=Native.path, input_spec=plain.NativeInput[ROW], output_spec=plain.NativeOutput)
    async def predict(self, instances: Request, **_: Any) -> Response:
        """Score rows with the version that the split, or the request, names."""
        return await PREDICTIONS.answer(instances)

    @bentoml.api(route=Single.path, input_spec=plain.SingleInput[ROW], output_spec=plain.SingleOutput)
    async def predict_one(self, features: Request, **_: Any) -> Response:
        """Score one row."""
        return await PREDICTIONS.answer(features)

    @bentoml.api(route=Batch.path, input_spec=plain.BatchInput[ROW], output_spec=plain.BatchOutput)
    async def predict_batch(self, instances: Request, **_: Any) -> Response:
        """Score rows one by one."""
        return await PREDICTIONS.answer(instances)


# The decorator has made a Service of the class, which mypy cannot see.
if SETTINGS.access.cors.origins:
    from starlette.middleware.cors import CORSMiddleware

    from shokado.control.http.cors import cors_options

    Shokado.add_asgi_middleware(CORSMiddleware, **cors_options(SETTINGS.access.cors))  # type: ignore[attr-defined]
Shokado.add_asgi_middleware(answer_control_first)  # type: ignore[attr-defined]

gc.freeze()
gc.enable()
