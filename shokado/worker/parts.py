"""What the control routes work with: the parts of this worker, once it has started.

Here are their names alone: who makes the parts imports them.
"""

import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from configuration.settings import Settings
from runners.artefacts.artefact import Artefact
from shokado.access.gate import Gate
from shokado.dialects.problem import Problem
from shokado.dispatch.dispatcher import Dispatcher
from shokado.dispatch.state import RoutingState, VersionReport
from shokado.stores.follower import Follower
from shokado.stores.store import Entry
from shokado.transports.body_quota import BodyQuota

if TYPE_CHECKING:
    from shokado.batches.batch_jobs import BatchJobs
    from shokado.experiments.feedback_collector import FeedbackCollector
    from shokado.monitoring.drift_watch import DriftWatch
    from shokado.monitoring.recent_units import RecentUnits
    from shokado.monitoring.timeline import Timeline
    from shokado.request_log.last_rows import LastRows
    from shokado.retraining.hook import RetrainingHook
    from shokado.stores.tally_sums import TallySums


class VersionsHere(Protocol):
    """The versions as this process has them."""

    @property
    def artefacts(self) -> Mapping[str, Artefact]:
        """The artefact of each known version, in memory or not, as far as the store of this machine has it."""
        ...

    def versions(self) -> Mapping[str, VersionReport]:
        """How each known version is here."""
        ...

    def candidates(self) -> Mapping[str, VersionReport]:
        """How far each candidate is here."""
        ...


class VersionLoader(Protocol):
    """What loads and unloads versions; see `shokado.worker.versions.loading`."""

    async def load(self, version: str, uri: str | None, by: str, why: str = "") -> Entry: ...

    async def unload(self, version: str, by: str, why: str = "") -> Entry: ...


async def _nothing() -> None:
    """Nothing was counted."""


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """The parts of a worker that has started."""

    dispatcher: Dispatcher
    follower: Follower
    fleet: VersionsHere
    loader: VersionLoader
    feedback: "FeedbackCollector"
    timeline: "Timeline"
    metrics_folder: Path
    tally_sums: "TallySums"
    """Over the window of feedback."""
    is_stopping: Callable[[], bool] = lambda: False
    """Whether the process was told to stop."""
    clock: Callable[[], float] = time.time
    """The time of day in Unix seconds."""
    last_rows: "LastRows | None" = None
    """Finds the last rows of the request log; None where nothing is recorded."""
    tally: Callable[[], Coroutine[Any, Any, None]] = _nothing
    """Adds what this worker has counted to the tallies of all."""
    drift: "DriftWatch | None" = None
    """None where it is off."""
    recent_units: "RecentUnits | None" = None
    """Finds what was asked lately; None where nobody looks."""
    retraining: "RetrainingHook | None" = None
    """None where nobody is to be told."""
    batches: "BatchJobs | None" = None
    """Tables that are scored beside the server; None where no address is allowed."""


class Control:
    """What the routes read; `parts` are set when the worker has started."""

    def __init__(self, settings: Settings, gate: Gate | None = None, body_quota: BodyQuota | None = None) -> None:
        """Without a gate, everybody may ask for everything."""
        self.settings = settings
        self.gate = gate
        self.body_quota = body_quota or BodyQuota(settings.limits.receiving_bytes)
        """What all transports of this process count arriving bodies in."""
        self.parts: WorkerParts | None = None


def known_routing(parts: WorkerParts) -> RoutingState:
    """The routing that this worker serves by. Raises `Problem` (503) while there is none."""
    state = parts.dispatcher.state
    if not state.environments:
        why = parts.follower.failure or "the store was not read yet"
        raise Problem("not_ready", f"the routing is not known yet: {why}")
    return state
