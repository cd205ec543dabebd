"""The fleet: all runners of this worker, as the routing state wants them.

In: each newer state, on the event loop, before requests are routed by it. Out: `runners`, a mapping that is replaced
whole, and a report on every version.

    candidate --(a state has it)--> found or fetched --> digest checked --> engine opened, checked, warmed up: ready
    ready candidate --(a state loads it)--> in `runners`, in one step; the runner that it replaces drains
    version --(a state unloads it)--> out of `runners`, drains

What fails is remembered and reported, and touches no other runner.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from configuration.settings import Placement, Settings, VersionSettings
from dispatch.fetching import command, fetch, is_address
from dispatch.state import Load, RoutingState, VersionReport
from runners.artefact import Artefact, ArtefactError, ArtefactMissing, find_artefact
from runners.batcher import BatchObserver
from runners.remote_runner import RemoteRunner
from runners.runner import Runner, RunnerState
from runners.watch import Watch

UNLOADED = "unloaded"

logger = logging.getLogger("bentoml.shokado")


def known_loads(state: RoutingState, artefacts: Mapping[str, Artefact], settings: Settings) -> dict[str, Load]:
    """All versions, in memory or not: the configured `artefacts`, and over them what was loaded since.

    A version with a service of its own, or a remote one, is what is configured: nothing else is served there.
    """
    known = {version: Load(artefact.tag, artefact.digest, artefact.tag) for version, artefact in artefacts.items()}
    return known | {version: load for version, load in state.loads.items() if not is_elsewhere(version, settings)}


def is_elsewhere(version: str, settings: Settings) -> bool:
    """Whether the version runs in a service of its own or in another server, and takes no memory of the workers."""
    configured = settings.versions.get(version)
    return configured is not None and configured.placement is not Placement.EMBEDDED


@dataclass(eq=False)
class Slot:
    """One artefact of one version in this worker: known but not in memory, on its way, running, or failed."""

    load: Load
    artefact: Artefact | None = None
    runner: Runner | None = None
    failure: str | None = None
    preparation: "asyncio.Task[None] | None" = None
    jobs_seen: int = 0

    @property
    def state(self) -> str:
        if not self.load.in_memory:
            return UNLOADED
        if self.failure is not None:
            return RunnerState.FAILED
        return self.runner.state if self.runner is not None else RunnerState.STARTING

    def holds(self, load: Load) -> bool:
        """Whether it is for the same artefact, and as much in memory."""
        return (self.load.digest, self.load.in_memory) == (load.digest, load.in_memory)


class Fleet:
    """Methods belong to the event loop."""

    def __init__(
        self,
        settings: Settings,
        artefacts: Mapping[str, Artefact],
        observer: BatchObserver,
        service_urls: Mapping[str, str],
        changed: Callable[[], None],
        clock: Callable[[], float] = time.time,
        settle: Callable[[], Awaitable[None]] | None = None,
        lost: Callable[[str], None] = logger.error,
        watch: Watch | None = None,
    ) -> None:
        """`artefacts` are the configured ones; `service_urls` say where the versions listen that have a service.

        `changed` is called when `runners` or a report has become another one by itself, after `adopt` has returned.
        `settle` waits for requests that are on their way to a runner, before it drains. `lost` is told when an engine
        does not give back its thread; `watch` sees engines at work.
        """
        self.runners: Mapping[str, Runner] = {}
        """Of the versions in memory, ready or not. Never changed, but replaced."""
        self._settings = settings
        self._configured = artefacts
        self._observer = observer
        self._service_urls = service_urls
        self._changed = changed
        self._settle = settle
        self._lost = lost
        self._watch = watch
        self._clock = clock
        self._slots: dict[str, Slot] = {}
        self._candidates: dict[str, Slot] = {}
        self._draining: dict[Slot, str] = {}
        self._used_at: dict[str, float] = {}
        self._one_at_a_time = asyncio.Lock()
        self._started = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, state: RoutingState) -> None:
        """Start all versions that the state wants in memory; returns when each is ready or has failed.

        What the store of this machine lacks is not fetched: a server starts from what it has.
        """
        self._started = True
        self._adopt(state, fetching=False)
        await _ended(slot.preparation for slot in self._slots.values() if slot.preparation)

    def adopt(self, state: RoutingState) -> None:
        """Make `runners` what the state wants, as far as it is ready, and set about the rest.

        Does nothing before `start`, which is told a state of its own.
        """
        if self._started:
            self._adopt(state, fetching=True)

    async def stop(self) -> None:
        """Answer what is under way, give up what is being prepared, and let go of the engines."""
        for version, slot in [*self._slots.items(), *self._candidates.items()]:
            self._retire(version, slot)
        await _ended(self._tasks)

    def versions(self) -> dict[str, VersionReport]:
        """How each known version is here."""
        return {version: self._report(version, slot) for version, slot in self._slots.items()}

    def candidates(self) -> dict[str, VersionReport]:
        """How far each candidate is here."""
        return {
            version: VersionReport(slot.load.digest, slot.state, slot.failure, 0.0)
            for version, slot in self._candidates.items()
        }

    @property
    def artefacts(self) -> dict[str, Artefact]:
        """Of each known version, in memory or not, as far as the store of this machine has it."""
        return {version: slot.artefact for version, slot in self._slots.items() if slot.artefact is not None}

    def _adopt(self, state: RoutingState, *, fetching: bool) -> None:
        known = known_loads(state, self._configured, self._settings)
        leaving = [version for version, slot in self._candidates.items() if state.candidates.get(version) != slot.load]
        prepared = {version: self._candidates.pop(version) for version in leaving}
        for version in [version for version in self._slots if version not in known]:
            self._retire(version, self._slots.pop(version))
        for version, load in known.items():
            self._seat(version, load, prepared, fetching=fetching)
        for version, slot in prepared.items():
            self._retire(version, slot)
        for version, load in state.candidates.items():
            if version not in self._candidates:
                self._candidates[version] = self._begin(version, load, fetching=True)
        self._publish()

    def _seat(self, version: str, load: Load, prepared: dict[str, Slot], *, fetching: bool) -> None:
        """Let the version's slot be one for this load: the one that is there, one that is prepared, or a new one."""
        slot, candidate = self._slots.get(version), prepared.get(version)
        suits = candidate is not None and candidate.holds(load)
        if slot is not None and slot.holds(load) and not (suits and slot.failure is not None):
            return
        if candidate is not None and suits:
            self._slots[version] = prepared.pop(version)
            candidate.load = load
            # Being loaded counts as being used: what was loaded last is not the first to be unloaded.
            self._used_at[version] = self._clock()
        else:
            self._slots[version] = self._begin(version, load, fetching=fetching)
        if slot is not None:
            self._retire(version, slot)

    def _begin(self, version: str, load: Load, *, fetching: bool) -> Slot:
        slot = Slot(load)
        slot.preparation = self._run(self._prepare(version, slot, fetching=fetching))
        return slot

    async def _prepare(self, version: str, slot: Slot, *, fetching: bool) -> None:
        try:
            slot.artefact = await self._find(version, slot.load, fetching=fetching)
            if slot.load.in_memory:
                # Engines that measured themselves at the same time would disturb each other; other servers would not.
                elsewhere = is_elsewhere(version, self._settings)
                async with contextlib.nullcontext() if elsewhere else self._one_at_a_time:
                    slot.runner = self._new_runner(version, slot.artefact)
                    self._publish()
                    await slot.runner.start(self._observer)
                    logger.info("version %s is %s: %s", version, slot.runner.state, slot.load.tag)
        except Exception as error:
            slot.failure = slot.runner.failure if slot.runner and slot.runner.failure else str(error)
            # The version says so in /readyz and /v1/models, and others answer in its place.
            logger.error("version %s cannot be served: %s", version, slot.failure)
        self._changed()

    async def _find(self, version: str, load: Load, *, fetching: bool) -> Artefact:
        configured = self._configured.get(version)
        if configured is not None and configured.digest == load.digest:
            return configured
        try:
            artefact = await asyncio.to_thread(find_artefact, version, load.tag)
        except ArtefactMissing as error:
            model, label = load.tag.split(":")
            if not is_address(load.source):
                raise
            if not (fetching and self._settings.loading.registry):
                hint = f"bring it back with: {command(load.source, label, model)}"
                raise ArtefactMissing(f"{error} of this machine; {hint}") from error
            seconds = self._settings.loading.timeout_s
            # No longer than that, wherever the clock was set since.
            timeout_s = seconds if load.expires_at is None else min(load.expires_at - self._clock(), seconds)
            await fetch(load.source, label, model, timeout_s)
            artefact = await asyncio.to_thread(find_artefact, version, load.tag)
        if artefact.digest != load.digest:
            raise ArtefactError(
                f"{load.tag} in the BentoML model store of this machine is another model than the one that was loaded"
            )
        return artefact

    def _new_runner(self, version: str, artefact: Artefact) -> Runner:
        settings, batching = self._settings.versions.get(version, VersionSettings()), self._settings.batching
        far = self._settings.remote_of(version) or self._service_urls.get(version)
        if far is not None:
            return RemoteRunner(version, artefact.card, settings, batching, far)
        return Runner(version, artefact.card, artefact.folder, settings, batching, self._watch, self._lost)

    def _publish(self) -> None:
        self.runners = {
            version: slot.runner
            for version, slot in self._slots.items()
            if slot.runner is not None and slot.load.in_memory
        }

    def _retire(self, version: str, slot: Slot) -> None:
        self._draining[slot] = version
        self._run(self._close(slot))

    async def _close(self, slot: Slot) -> None:
        if slot.preparation is not None:
            slot.preparation.cancel()
            await _ended([slot.preparation])
        if slot.runner is not None:
            if self._settle is not None:
                await self._settle()
            await slot.runner.drain()
            # Freeing a large engine takes a while too.
            last_one = [slot.runner]
            slot.runner = None
            await asyncio.to_thread(last_one.clear)
        self._draining.pop(slot, None)
        self._changed()

    def _report(self, version: str, slot: Slot) -> VersionReport:
        if slot.runner is not None and slot.runner.jobs != slot.jobs_seen:
            slot.jobs_seen = slot.runner.jobs
            self._used_at[version] = self._clock()
        still_here = slot.state == UNLOADED and version in self._draining.values()
        state = RunnerState.DRAINING if still_here else slot.state
        failure = slot.failure or (slot.runner.failure if slot.runner is not None else None)
        return VersionReport(slot.load.digest, state, failure, self._used_at.get(version, 0.0))

    def _run(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _ended(tasks: Iterable["asyncio.Task[None]"]) -> None:
    """Wait until all have ended, however they did."""
    await asyncio.gather(*tasks, return_exceptions=True)
