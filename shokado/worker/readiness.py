"""Readiness: whether this worker can answer, and which versions all workers of all machines could give traffic to."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from configuration.settings import Placement, Settings
from runners.inputs.union import UnionRows
from runners.runner import Runner
from runners.version_state import READY_SOON, VersionState
from shokado.dialects.served_models import ServedModels
from shokado.dispatch.change import KnownVersions
from shokado.dispatch.seen_rows import SEEN, SEEN_WITHIN_S, Shortfall, shortfalls_of
from shokado.dispatch.state import VersionReport
from shokado.stores.store import StoreUnavailable, WorkerReport
from shokado.worker.parts import WorkerParts

_HEARD_WITHIN_S = 15.0
"""Longer than a worker that has gone counts, and several times as long as one that lives needs."""
_LOOK_EVERY_S = 0.1

logger = logging.getLogger("bentoml.shokado")


async def versions_everywhere(parts: WorkerParts) -> KnownVersions:
    """The versions as a change must see them. Raises `StoreUnavailable`."""
    reports = await parts.follower.ask(parts.follower.store.reports, parts.clock())
    return joined(parts.fleet.versions(), reports, parts.dispatcher.aliases)


async def shortfalls_everywhere(parts: WorkerParts) -> Mapping[tuple[str, str], Shortfall]:
    """What versions need and the rows lacked that all workers have seen lately, by environment and version.

    After versions with other features have come, this waits until all workers have seen rows beside them for a while.
    Raises `StoreUnavailable`, also for a worker that does not tell what it has seen.
    """
    union = parts.dispatcher.row_format
    if not isinstance(union, UnionRows):
        return {}
    await _all_have_heard(parts, union.formats)
    await parts.tally()
    tallies = await parts.follower.ask(parts.follower.store.tallies, parts.clock() - SEEN_WITHIN_S)
    seen: defaultdict[tuple[str, str], float] = defaultdict(float)
    for (_, tally), number in tallies.items():
        if tally.name.startswith(SEEN):
            seen[tally.environment, tally.name] += number
    return shortfalls_of(seen, union)


async def _all_have_heard(parts: WorkerParts, versions: Collection[str]) -> None:
    give_up_at = time.monotonic() + _HEARD_WITHIN_S
    while True:
        reports = await parts.follower.ask(parts.follower.store.reports, parts.clock())
        late = next((report for report in reports if _is_to_tell(report, versions)), None)
        if late is None:
            return
        if time.monotonic() > give_up_at:
            raise StoreUnavailable(f"worker {late.pid} on {late.machine} does not tell what the rows lack that it sees")
        await asyncio.sleep(_LOOK_EVERY_S)


def _is_to_tell(report: WorkerReport, versions: Collection[str]) -> bool:
    """Whether the worker has one of the versions ready, and has not told yet what it saw beside it."""
    ready = [version for version, found in report.versions.items() if found.state == VersionState.READY]
    return report.heard is not None and any(version not in report.heard for version in ready if version in versions)


def joined(
    own: Mapping[str, VersionReport], reports: Iterable[WorkerReport], aliases: Mapping[str, str]
) -> KnownVersions:
    """The versions that this worker knows, each ready if it is in every worker; else the state says where it is not.

    A worker that has just begun, and a version that is starting in one, do not count: new workers come all the time,
    the active version answers for what they do not have yet, and a rollback must not wait for them.
    """
    states: dict[str, str] = {version: found.state for version, found in own.items()}
    artefacts = {version: found.digest for version, found in own.items()}
    for report in reports:
        if not report.versions:
            continue
        for version, state in states.items():
            found = report.versions.get(version)
            there = found.state if found is not None else "unknown"
            if state == VersionState.READY and there not in READY_SOON:
                states[version] = f"{there} in worker {report.pid} on {report.machine}"
            if found is not None and found.digest != artefacts[version]:
                artefacts[version] = ""
    return KnownVersions(states, aliases, artefacts)


def known_versions(parts: WorkerParts) -> KnownVersions:
    """The versions as this worker alone has them."""
    return joined(parts.fleet.versions(), [], parts.dispatcher.aliases)


def why_not_ready(parts: WorkerParts) -> str | None:
    """Why this worker cannot answer; None when it can."""
    if parts.is_stopping():
        return "the server is stopping"
    state, runners = parts.dispatcher.state, parts.dispatcher.runners
    if not state.environments:
        return "the routing is not known yet"
    needed = {version for environment in state.environments.values() for version in environment.answering}
    missing = {version for version in needed if version not in runners or not runners[version].ready}
    excused = {version for version in missing if version in runners and _is_excused(runners[version])}
    excused.discard(state.environments[state.default_environment].active)
    return f"not ready: {', '.join(sorted(missing - excused))}" if missing - excused else None


def _is_excused(runner: Runner) -> bool:
    return runner.state.is_excused(elsewhere=runner.placement is not Placement.EMBEDDED)


def served_models(settings: Settings, parts: WorkerParts) -> ServedModels:
    """What this worker tells of its models to who asks in the words of the Open Inference Protocol."""
    return ServedModels(settings.model, parts.dispatcher, lambda: why_not_ready(parts) is None)


class ReadinessLog:
    """Tells the log why this worker cannot answer, once for each reason that two looks find, and when that is over.

    Where no probe's answer is kept, as in Kubernetes, a pod that is not ready says so in its log.
    """

    def __init__(self) -> None:
        self._seen: str | None = None
        self._told: str | None = None

    def look(self, parts: WorkerParts) -> None:
        """Look at the worker, and log a change; to be called once in a while."""
        if parts.is_stopping():
            return
        reason = why_not_ready(parts)
        lasts, self._seen = reason == self._seen, reason
        if not lasts or reason == self._told:
            return
        self._told = reason
        if reason is None:
            logger.info("ready again")
            return
        found = {version: report.failure for version, report in parts.fleet.versions().items() if report.failure}
        failures = "".join(f"; {version}: {failure}" for version, failure in found.items())
        logger.warning("not ready: %s%s", reason.removeprefix("not ready: "), failures)
