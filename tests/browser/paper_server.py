"""A server of small models as one process, `python -m tests.browser.paper_server`: all of a worker, without BentoML.

It starts in a fraction of the time that `bentoml serve` takes, and answers over the same routes, lane and store. What
it is to be comes as JSON in the only argument: a folder, a port, settings, and what is otherwise in all cards.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from starlette.responses import PlainTextResponse

from configuration.settings import Settings
from runners.artefacts import repository
from runners.artefacts.artefact import Artefact
from runners.artefacts.background import write_background
from runners.artefacts.card import Card, write_card
from runners.artefacts.reference import (
    DataOrigin,
    Distribution,
    Levels,
    Numbers,
    OriginKind,
    ReferenceProfile,
    write_reference,
)
from runners.engines.engine import example_rows
from shokado.access.gate import Gate
from shokado.control.app import control_first
from shokado.request_log.masking import KEY_BYTES
from shokado.transports import plain
from shokado.transports.body_quota import BodyQuota
from shokado.transports.express_lane.connection import LaneConnection
from shokado.worker.gateway import Gateway
from shokado.worker.process import Configured
from tests.support.backgrounds import background_of
from tests.support.cards import make_card
from tests.support.paper_models import put_model

ROWS = 2000
"""Of the reference of each version."""


def configured(folder: Path, settings: Settings, card: Mapping[str, Any]) -> Configured:
    """The parts of a server whose models are made on the spot, and lie in the model store of `BENTOML_HOME`."""
    artefacts = {version: stored(version, settings.model, card) for version in settings.versions}
    gate = Gate(settings.access, settings.model, folder)
    return Configured(settings, artefacts, gate, bytes(32), bytes(KEY_BYTES))


def stored(version: str, model: str, card: Mapping[str, Any]) -> Artefact:
    """The version's artefact in the store, which is made where there is none."""
    found = repository.look_up(model, version)
    if found is not None:
        return found
    with repository.staging() as stage:
        made = put_model(stage / version, make_card(**{"model": model, "version": version, **card}))
        rows = example_rows(made.card)
        changes = {
            "reference": write_reference(typical(made.card), made.folder),
            "background": write_background(background_of(rows, made.card), made.folder),
        }
        write_card(made.card.model_copy(update=changes), made.folder)
        return repository.put(made.folder, stage, {})


def typical(card: Card) -> ReferenceProfile:
    """A reference of made-up rows: whole numbers from 20 to 59, levels and truths alike often, numbers about 10."""
    random = np.random.default_rng(0)
    features: dict[str, Distribution] = {}
    for feature in card.features:
        if feature.type in ("category", "boolean"):
            levels = range(len(feature.levels) or 2)
            column = random.choice(levels, ROWS).astype(np.float64)
            features[feature.name] = Distribution.of(Levels(levels=tuple(map(float, levels))), column)
        else:
            whole = random.integers(20, 60, ROWS).astype(np.float64)
            column = whole if feature.type == "integer" else random.normal(10, 2, ROWS)
            bounds = tuple(np.unique(np.quantile(column, np.linspace(0.1, 1, 10), method="inverted_cdf")).tolist())
            features[feature.name] = Distribution.of(Numbers(lowest=column.min(), bounds=bounds), column)
    scores = Distribution.of(Numbers(lowest=0, bounds=(0.25, 0.5, 0.75, 1)), random.random(ROWS))
    return ReferenceProfile(
        origin=DataOrigin(kind=OriginKind.FILE, name="made up", rows=ROWS),
        made_at=datetime(2026, 1, 31, tzinfo=UTC),
        rows=ROWS,
        scored_rows=ROWS,
        features=features,
        scores=(scores,) * card.scores_per_row,
    )


async def serve(server: Configured, port: int) -> None:
    limits = server.settings.limits
    predictions = plain.Predictions(limits.max_body_bytes, BodyQuota(limits.receiving_bytes))
    gateway = Gateway(server, predictions)
    app = control_first(PlainTextResponse("", 404), gateway, [])
    await gateway.start({})
    config = uvicorn.Config(app, port=port, http=LaneConnection, log_level="warning", lifespan="off")
    try:
        await uvicorn.Server(config).serve()
    finally:
        await gateway.stop()


def main() -> None:
    wanted = json.loads(sys.argv[1])
    folder = Path(wanted["folder"])
    settings = Settings.model_validate(wanted["settings"])
    asyncio.run(serve(configured(folder, settings, wanted["card"]), wanted["port"]))


if __name__ == "__main__":
    main()
