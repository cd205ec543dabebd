"""Readiness: which versions could be given traffic, as all workers of all machines say."""

from collections.abc import Iterable, Mapping

from runners.runner import RunnerState
from shokado.dispatch.change import READY, Versions
from shokado.dispatch.state import VersionReport
from shokado.stores.store import WorkerReport
from shokado.worker.started import Started

_READY_SOON = {READY, RunnerState.NEW, RunnerState.STARTING}


async def versions_everywhere(parts: Started) -> Versions:
    """The versions as a change must see them. Raises `StoreUnavailable`."""
    reports = await parts.follower.ask(parts.follower.store.reports, parts.clock())
    return joined(parts.fleet.versions(), reports, parts.dispatcher.aliases)


def joined(own: Mapping[str, VersionReport], reports: Iterable[WorkerReport], aliases: Mapping[str, str]) -> Versions:
    """The versions that this worker knows, each ready if it is in every worker; else the state says where it is not.

    A worker that has just begun, and a version that is starting in one, do not count: new workers come all the time,
    the active version answers for what they do not have yet, and a rollback must not wait for them.
    """
    states: dict[str, str] = {version: found.state for version, found in own.items()}
    for report in reports:
        if not report.versions:
            continue
        for version, state in states.items():
            found = report.versions.get(version)
            there = found.state if found is not None else "unknown"
            if state == READY and there not in _READY_SOON:
                states[version] = f"{there} in worker {report.pid} on {report.machine}"
    return Versions(states, aliases)


def known_versions(parts: Started) -> Versions:
    """The versions as this worker alone has them."""
    return joined(parts.fleet.versions(), [], parts.dispatcher.aliases)
