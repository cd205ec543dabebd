"""Shokado: the composition root. `bentoml serve service:Shokado` starts here, and so does each of its workers.

Top to bottom: the configuration, the versions' artefacts, a BentoML service for each version that has its own, and
the gateway, which embeds the other versions and dispatches to all.
"""

import asyncio
import gc
import logging
import sys
from typing import Any

import bentoml
from bentoml.models import BentoModel
from starlette.requests import Request
from starlette.responses import Response

from configuration.settings import Placement, SettingsError, load_settings
from control.app import Control, ControlFirst, create_app
from control.documentation import PredictionRoute, describe_predictions, example_row
from dispatch.dispatcher import Dispatcher
from dispatch.state import initial_state
from monitoring.metrics import FLUSH_EVERY_S, Metrics, prepare_folder
from protocols import express_lane, plain
from protocols.call import Entrance, PredictionHandler
from protocols.express_lane import LaneLimits, open_lane
from protocols.native import Native
from protocols.rows import RowsHandler
from protocols.signature import Signature
from protocols.single import Single
from runners.artefact import ArtefactError, find_artefacts
from runners.engine import import_xgboost_alone, open_engine
from runners.runner import Runner

logger = logging.getLogger("bentoml.shokado")

try:
    SETTINGS = load_settings()
    ARTEFACTS = find_artefacts(SETTINGS)
except (SettingsError, ArtefactError) as error:
    sys.exit(f"shokado: {error}")

if SETTINGS.express_lane:
    express_lane.register()

LIMITS = SETTINGS.limits
MAX_BATCH_BYTES = 2**31
"""Of one batch on its way to a version's own service."""
# What Shokado measures and logs itself, per version, BentoML need not do once more for each request.
QUIET: dict[str, Any] = {"metrics": {"enabled": False}, "logging": {"access": {"enabled": False}}}


def freeze_garbage() -> None:
    """Keep the collector off everything loaded so far: walking it stalls the event loop for up to 250 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def version_service(version: str) -> Any:
    """The BentoML service of a version that is placed in processes of its own."""
    artefact = ARTEFACTS[version]

    @bentoml.service(name=f"shokado-{version}", workers=SETTINGS.versions[version].workers, **QUIET)
    class VersionService:
        model = BentoModel(artefact.tag)

        @bentoml.on_startup
        def start(self) -> None:
            card = artefact.card
            import_xgboost_alone()
            engine = open_engine(artefact.folder, card, SETTINGS.versions[version].engine)
            self._rows = RowsHandler(engine, len(card.features), card.scores_per_row)
            # The gateway closes its connections when it has drained: until then it may send batches after a SIGTERM.
            limits = LaneLimits(MAX_BATCH_BYTES, LIMITS.max_header_bytes, idle_s=86_400, drain_s=None)
            open_lane([self._rows], limits)
            freeze_garbage()

        @bentoml.api(route=RowsHandler.route.decode(), input_spec=plain.RowsInput, output_spec=plain.RowsOutput)
        async def rows(self, rows: Request) -> Response:
            return await plain.answer(self._rows, rows, MAX_BATCH_BYTES)

    return VersionService


VERSION_SERVICES = {
    version: version_service(version)
    for version, spec in SETTINGS.versions.items()
    if spec.placement is Placement.SERVICE
}
CONTROL = Control(SETTINGS)
CONTROL_APP = create_app(CONTROL)
ROW = example_row(next(iter(ARTEFACTS.values())).card)
describe_predictions(
    CONTROL_APP,
    [
        PredictionRoute(
            Native.route.decode(),
            "Score rows",
            plain.NativeInput,
            plain.NativeOutput,
            {"instances": [ROW, list(ROW.values())]},
            binary=True,
        ),
        PredictionRoute(
            Single.route.decode(), "Score one row", plain.SingleInput, plain.SingleOutput, {"features": ROW}
        ),
    ],
)


@bentoml.service(name="shokado", workers=SETTINGS.worker_count, **QUIET)
@bentoml.asgi_app(CONTROL_APP)
class Shokado:
    """Several versions of one model side by side, with live traffic split between them."""

    vars().update({f"model_{version}": BentoModel(artefact.tag) for version, artefact in ARTEFACTS.items()})
    vars().update({f"runner_{version}": bentoml.depends(service) for version, service in VERSION_SERVICES.items()})

    @bentoml.on_startup
    async def start(self) -> None:
        """Make this worker's runners, and open its doors."""
        import_xgboost_alone()
        CONTROL.metrics_folder = prepare_folder()
        self._metrics = Metrics(SETTINGS.versions)
        self._runners = {version: self._new_runner(version) for version in SETTINGS.versions}
        starts = [runner.start(self._metrics) for runner in self._runners.values()]
        for failure in await asyncio.gather(*starts, return_exceptions=True):
            if failure is not None:
                # The version says so in /readyz and /v1/models, and others answer in its place.
                logger.error("a version cannot be served: %s", failure)
        aliases = {alias: version for version, spec in SETTINGS.versions.items() for alias in spec.aliases}
        dispatcher = Dispatcher(self._runners, aliases, initial_state(SETTINGS))
        features = next(iter(ARTEFACTS.values())).card.feature_names
        entrance = Entrance(dispatcher, Signature(features, LIMITS.max_rows), self._metrics)
        self._native = PredictionHandler(entrance, Native())
        self._single = PredictionHandler(entrance, Single())
        open_lane([self._native, self._single], LaneLimits(LIMITS.max_body_bytes, LIMITS.max_header_bytes))
        CONTROL.dispatcher = dispatcher
        self._flushing = asyncio.create_task(self._flush_metrics())
        freeze_garbage()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Answer what is under way and let go of the engines."""
        await asyncio.gather(*(runner.drain() for runner in self._runners.values()))
        self._flushing.cancel()
        self._metrics.flush()

    @bentoml.api(route=Native.route.decode(), input_spec=plain.NativeInput, output_spec=plain.NativeOutput)
    async def predict(self, instances: Request, version: Any = None, unit: Any = None) -> Response:
        """Score rows with the version that the split, or the request, names."""
        return await plain.answer(self._native, instances, LIMITS.max_body_bytes)

    @bentoml.api(route=Single.route.decode(), input_spec=plain.SingleInput, output_spec=plain.SingleOutput)
    async def predict_one(self, features: Request, model_version: Any = None, use_ab_testing: Any = True) -> Response:
        """Score one row."""
        return await plain.answer(self._single, features, LIMITS.max_body_bytes)

    def _new_runner(self, version: str) -> Runner:
        artefact, service = ARTEFACTS[version], VERSION_SERVICES.get(version)
        return Runner(
            version,
            artefact.card,
            artefact.folder,
            SETTINGS.versions[version],
            SETTINGS.batching,
            service_url=service.url if service is not None else None,
        )

    async def _flush_metrics(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            self._metrics.flush()


# The decorator has made a Service of the class, which mypy cannot see.
Shokado.add_asgi_middleware(  # type: ignore[attr-defined]
    ControlFirst,
    control_app=CONTROL_APP,
    apis=[api.route for api in Shokado.apis.values()],  # type: ignore[attr-defined]
)
