"""The process of a version that has a service of its own: its engine, opened as safely as a worker opens one.

artefact --(a process has died of it: tried first, in another one)--> opened, its examples scored and checked
             |--> a handler that scores the gateway's batches
             `--(it cannot be served)--> a handler that answers each with the reason
"""

import asyncio
import logging
import time
from pathlib import Path

from configuration.settings import EngineChoice, Settings
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import Card
from runners.engines.engine import Engine, example_rows, import_xgboost_alone, likely_rows, open_engine
from runners.engines.thread import begin_in_own_thread
from runners.engines.watchdog import Watchdog
from runners.runner import check_examples
from shokado.dispatch.state import Load
from shokado.transports.hop_handler import HopHandler, UnservableHandler
from shokado.worker.stopping import end_process
from shokado.worker.versions.trials import Trials

logger = logging.getLogger("bentoml.shokado")


async def open_rows(
    version: str, artefact: Artefact, settings: Settings, trials: Trials
) -> HopHandler | UnservableHandler:
    """What answers the gateway's batches. Ends this process where the engine does not come back from its opening.

    Whoever starts this process again starts one that tries first what this one died of.
    """
    import_xgboost_alone()
    load = Load(artefact.tag, artefact.digest, artefact.tag)
    deaths, timeout_s = trials.deaths(version, load), settings.loading.timeout_s
    try:
        if deaths:
            await trials.passed(version, artefact, time.time(), timeout_s)
        with trials.opening(version, load, deaths):
            choice, most = settings.versions[version].engine, settings.batching.max_batch_rows
            opening = begin_in_own_thread(_open, artefact.folder, artefact.card, choice, most)
            engine = await asyncio.wait_for(opening, timeout_s)
    except TimeoutError:
        end_process(f"the engine of version {version} was not ready within {timeout_s:.0f} s")
    except Exception as error:
        # The gateway says so in /readyz and /v1/models, and others answer in its place.
        logger.error("version %s cannot be served: %s", version, error)
        return UnservableHandler(str(error))
    rows = HopHandler(engine, artefact.card, version, settings.batching.max_run_s)
    Watchdog(None, end_process).add(rows)
    return rows


def _open(folder: Path, card: Card, choice: EngineChoice, most_rows: int) -> Engine:
    engine = open_engine(folder, card, choice)
    check_examples(engine.predict(example_rows(card)), card, folder)
    engine.predict(likely_rows(card, most_rows))
    return engine
