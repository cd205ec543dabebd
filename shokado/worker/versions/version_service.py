"""The BentoML service of a version that is placed in processes of its own."""

import asyncio
from typing import Any

import bentoml
from bentoml.models import BentoModel
from starlette.requests import Request
from starlette.responses import Response

from shokado.transports import plain
from shokado.transports.bentoml_io import RowsInput, RowsOutput
from shokado.transports.body_quota import BodyQuota
from shokado.transports.express_lane.context import LaneLimits
from shokado.transports.express_lane.lane import open_lane
from shokado.transports.routes import Found, Routes
from shokado.worker.process import QUIET, Configured, freeze_garbage
from shokado.worker.stopping import Stopping, outlasts_s
from shokado.worker.supervision import end_with_supervisor

MAX_BATCH_BYTES = 2**31
"""Size of one batch on its way to a version's own service."""
MAX_BATCHES_BYTES = 2**40
"""Size of all batches together, which the gateway bounds: it sends them."""
_DAY_S = 86_400
"""A time that never passes on a hop: the gateway, which bounds times, is the only client."""


def version_service(server: Configured, version: str) -> Any:
    """A service that scores the batches of the gateway's workers.

    What only its workers need is imported where they make it: the supervisor makes the service as well.
    """
    from shokado.transports.hop_handler import HopHandler

    artefact, settings = server.artefacts[version], server.settings

    @bentoml.service(name=f"shokado-{version}", workers=settings.versions[version].workers, **QUIET)
    class VersionService:
        model = BentoModel(artefact.tag)

        @bentoml.on_startup
        async def start(self) -> None:
            from shokado.stores.machine import Machine
            from shokado.worker.versions.trials import Trials
            from shokado.worker.versions.version_process import open_rows

            end_with_supervisor()
            trials = Trials(settings, Machine.of(settings.store, settings.model))
            rows = await open_rows(version, artefact, settings, trials)
            self._found = Found(rows)
            self._body_quota = BodyQuota(MAX_BATCHES_BYTES)
            # The gateway closes its connections when it has drained: until then it may send batches after a SIGTERM.
            limits = LaneLimits(
                MAX_BATCH_BYTES, settings.limits.max_header_bytes, idle_s=_DAY_S, request_s=_DAY_S, drain_s=None
            )
            open_lane(Routes([rows] if settings.express_lane else (), settings.model), limits, self._body_quota)
            drain_s = settings.shutdown.drain_s + outlasts_s(settings)
            Stopping(settings.shutdown.pause_s, drain_s).catch(asyncio.get_running_loop())
            freeze_garbage()

        @bentoml.api(route=HopHandler.path, input_spec=RowsInput, output_spec=RowsOutput)
        async def rows(self, rows: Request) -> Response:
            return await plain.answer(self._found, rows, MAX_BATCH_BYTES, self._body_quota)

    return VersionService
