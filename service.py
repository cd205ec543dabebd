"""Shokado: the composition root. `bentoml serve service:Shokado` starts here, and so does each of its workers.

Top to bottom: what is configured, a BentoML service for each version that has its own, and the gateway, which embeds
the other versions and dispatches to all.

What only workers need is imported where they make it: the supervisor reads this module as well, and answers nobody.
"""

import gc

# What imports leave is hardly garbage, and walking it again and again would take a fifth of the start.
gc.disable()

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
from bentoml.models import BentoModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from configuration.settings import Placement
from shokado.dialects.batch import Batch
from shokado.dialects.native import Native
from shokado.dialects.single import Single
from shokado.transports import plain
from shokado.transports.bentoml_io import descriptors_of
from shokado.transports.body_quota import BodyQuota
from shokado.worker.process import QUIET, configured, prepare_server, take_over
from shokado.worker.supervision import end_with_supervisor
from shokado.worker.versions.version_service import version_service

if TYPE_CHECKING:
    from shokado.worker.gateway import Gateway

SERVER = configured(Path(__file__).parent)
take_over(SERVER.settings)
SETTINGS, ARTEFACTS = SERVER.settings, SERVER.artefacts
VERSION_SERVICES = {
    version: version_service(SERVER, version)
    for version, spec in SETTINGS.versions.items()
    if spec.placement is Placement.SERVICE
}
PREDICTIONS = plain.Predictions(SETTINGS.limits.max_body_bytes, BodyQuota(SETTINGS.limits.receiving_bytes))
ROW_FORMAT = SERVER.row_format


@cache
def gateway() -> "Gateway":
    """What answers in this worker."""
    from shokado.worker.gateway import Gateway

    return Gateway(SERVER, PREDICTIONS)


@bentoml.service(name="shokado", workers=SETTINGS.worker_count, **QUIET)
class Shokado:
    """Several versions of one model side by side, with live traffic split between them."""

    vars().update({f"model_{name}": BentoModel(found.tag) for name, found in ARTEFACTS.items() if found.in_store})
    vars().update({f"runner_{version}": bentoml.depends(service) for version, service in VERSION_SERVICES.items()})

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Check what is configured, once, in the process that will start the workers."""
        prepare_server(SERVER)

    @bentoml.on_startup
    async def start(self) -> None:
        end_with_supervisor()
        await gateway().start({version: service.url for version, service in VERSION_SERVICES.items()})

    @bentoml.on_shutdown
    async def stop(self) -> None:
        await gateway().stop()

    @bentoml.api(route=Native.path, **descriptors_of(Native(ROW_FORMAT)))
    async def predict(self, instances: Request, **_: Any) -> Response:
        """Score rows with the version that the split, or the request, names."""
        return await PREDICTIONS.answer(instances)

    @bentoml.api(route=Single.path, **descriptors_of(Single(ROW_FORMAT)))
    async def predict_one(self, features: Request, **_: Any) -> Response:
        """Score one row."""
        return await PREDICTIONS.answer(features)

    @bentoml.api(route=Batch.path, **descriptors_of(Batch(ROW_FORMAT)))
    async def predict_batch(self, instances: Request, **_: Any) -> Response:
        """Score rows one by one."""
        return await PREDICTIONS.answer(instances)


def answer_control_first(app: ASGIApp) -> ASGIApp:
    """The control routes in front of BentoML's."""
    from shokado.control.app import control_first

    return control_first(app, gateway(), [api.route for api in Shokado.apis.values()])  # type: ignore[attr-defined]


# The decorator has made a Service of the class, which mypy cannot see.
if SETTINGS.access.cors.origins:
    from starlette.middleware.cors import CORSMiddleware

    from shokado.control.http.cors import cors_options

    Shokado.add_asgi_middleware(CORSMiddleware, **cors_options(SETTINGS.access.cors))  # type: ignore[attr-defined]
Shokado.add_asgi_middleware(answer_control_first)  # type: ignore[attr-defined]

gc.freeze()
gc.enable()
