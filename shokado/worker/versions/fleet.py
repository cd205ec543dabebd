"""The fleet: all runners of this worker, as the routing state wants them.

In: each newer state, on the event loop, before requests are routed by it. Out: `runners`, a mapping that is replaced
whole, and a report on every version.

    candidate --(a state has it)--> found or fetched --> digest checked --> engine opened, checked, warmed up: ready
    ready candidate --(a state loads it)--> in `runners`, in one step; the runner that it replaces drains
    version --(a state unloads it)--> out of `runners`, drains

What fails is remembered and reported, and touches no other runner. What could crash this process, or hang it, has shown
in a process of its own that it does not (see `trials`); what hangs nevertheless is left behind, with its thread.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from configuration.settings import Placement, Settings, VersionSettings
from runners.artefacts.artefact import Artefact, ArtefactError, ArtefactMissing
from runners.artefacts.repository import find_artefact, remove_artefact
from runners.batching.observer import BatchObserver
from runners.engines.watchdog import Watchdog
from runners.remote_runner import RemoteRunner
from runners.runner import Runner
from runners.trial import TrialFailed
from runners.version_state import VersionState
from shokado.dispatch.state import Load, RoutingState, VersionReport
from shokado.worker.versions.fetching import command, fetch, import_options, is_address
from shokado.worker.versions.trials import Trials

_LOST_AFTER_S = 10.0
"""How long a thread that is not waited for any more may take to come back."""

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
    deaths: int = 0
    """How many workers in a row have died while they opened it."""
    expired: bool = False
    """Whether it is a candidate whose time was over when this process started."""
    imported: bool = False
    """Whether it was imported into the store of this machine for this slot."""
    jobs_seen: int = 0

    @property
    def state(self) -> VersionState:
        if not self.load.in_memory:
            return VersionState.UNLOADED
        if self.failure is not None:
            return VersionState.FAILED
        return self.runner.state if self.runner is not None else VersionState.STARTING

    def holds(self, load: Load) -> bool:
        """Whether it is for the same artefact, and as much in memory."""
        return (self.load.digest, self.load.in_memory) == (load.digest, load.in_memory)


class Fleet:
    """The runners of one worker, and how they follow the routing state. Methods belong to the event loop."""

    def __init__(
        self,
        settings: Settings,
        artefacts: Mapping[str, Artefact],
        observer: BatchObserver,
        service_urls: Mapping[str, str],
        changed: Callable[[], None],
        trials: Trials,
        clock: Callable[[], float] = time.time,
        settle: Callable[[], Awaitable[None]] | None = None,
        lost: Callable[[str], None] = logger.error,
        watch: Watchdog | None = None,
    ) -> None:
        """`artefacts` are the configured ones; `service_urls` say where the versions listen that have a service.

        `changed` is called when `runners` or a report has become another one by itself, after `adopt` has returned.
        `settle` waits for requests that are on their way to a runner, before it drains. `lost` is told when an engine
        does not give back its thread; `watch` sees engines at work.
        """
        self.runners: Mapping[str, Runner] = {}
        """The runners of the versions in memory, ready or not. Never changed, but replaced."""
        self._settings = settings
        self._configured = artefacts
        self._observer = observer
        self._service_urls = service_urls
        self._changed = changed
        self._trials = trials
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
        self._left: set[asyncio.Task[None]] = set()

    async def start(self, state: RoutingState) -> None:
        """Start all versions that the state wants in memory; returns when each is ready or has failed.

        What the store of this machine lacks is not fetched: a server starts from what it has. What a worker has died of
        is not waited for: the others serve while it is tried.
        """
        self._started = True
        self._adopt(state, fetching=False)
        await _ended(slot.preparation for slot in self._slots.values() if slot.preparation and not slot.deaths)

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
        """The artefact of each known version, in memory or not, as far as the store of this machine has it."""
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
            self._retire(version, slot, unwanted=True)
        for version, load in state.candidates.items():
            if version not in self._candidates:
                # A clock that is set while this process serves makes no difference.
                expired = not fetching and (load.expires_at or 0) <= self._clock()
                self._candidates[version] = self._begin(version, load, fetching=True, expired=expired)
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

    def _begin(self, version: str, load: Load, *, fetching: bool, expired: bool = False) -> Slot:
        slot = Slot(load, expired=expired)
        if not is_elsewhere(version, self._settings):
            slot.deaths = self._trials.deaths(version, load)
        slot.preparation = self._run(self._prepare(version, slot, fetching=fetching))
        return slot

    async def _prepare(self, version: str, slot: Slot, *, fetching: bool) -> None:
        try:
            if slot.expired:
                raise TrialFailed("its time was over before this worker began")
            slot.artefact = await self._find(version, slot, fetching=fetching)
            if slot.load.in_memory:
                if is_elsewhere(version, self._settings):
                    slot.runner = self._new_runner(version, slot.artefact)
                    self._publish()
                    await slot.runner.start(self._observer)
                else:
                    await self._start_here(version, slot, slot.artefact, new=fetching)
                logger.info("version %s is %s: %s", version, slot.state, slot.load.tag)
        except Exception as error:
            slot.failure = slot.runner.failure if slot.runner and slot.runner.failure else str(error)
            # The version says so in /readyz and /v1/models, and others answer in its place.
            logger.error("version %s cannot be served: %s", version, slot.failure)
        self._changed()

    async def _start_here(self, version: str, slot: Slot, artefact: Artefact, *, new: bool) -> None:
        """Raises what went wrong; `new` is what was not there when this process started."""
        if new or slot.deaths:
            left_s = self._left_s(slot.load)
            since = self._clock() + left_s - self._settings.loading.timeout_s
            await self._trials.passed(version, artefact, since, left_s)
        # Engines that measured themselves at the same time would disturb each other.
        async with self._one_at_a_time:
            with self._trials.opening(version, slot.load, slot.deaths):
                slot.runner = self._new_runner(version, artefact)
                self._publish()
                try:
                    await self._opened(slot.runner, self._left_s(slot.load))
                except TimeoutError:
                    slot.runner = None
                    self._publish()
                    raise

    async def _opened(self, runner: Runner, seconds: float) -> None:
        """Raises what the runner raises, or `TimeoutError`, and waits no longer: foreign code may never return."""
        opening = asyncio.get_running_loop().create_task(runner.start(self._observer))
        try:
            await asyncio.wait([opening], timeout=max(seconds, 0))
        finally:
            if not opening.done():
                self._leave(runner, opening)
        if not opening.done():
            raise TimeoutError(f"its engine was not ready within {seconds:.0f} s")
        opening.result()

    def _leave(self, runner: Runner, opening: "asyncio.Task[None]") -> None:
        """Let it end whenever it does, if ever, and what it opened be closed then."""

        def ended(_: "asyncio.Task[None]") -> None:
            self._left.discard(opening)
            watch.cancel()
            if runner.ready:
                self._run(runner.drain())

        watch = asyncio.get_running_loop().call_later(_LOST_AFTER_S, runner.engine_lost)
        self._left.add(opening)
        opening.add_done_callback(ended)
        opening.cancel()

    def _left_s(self, load: Load) -> float:
        """How long a version may take to be ready: what is left of its load, unless the clock was set since."""
        seconds = self._settings.loading.timeout_s
        left_s = seconds if load.expires_at is None else load.expires_at - self._clock()
        return left_s if 0 < left_s <= seconds else seconds

    async def _find(self, version: str, slot: Slot, *, fetching: bool) -> Artefact:
        load = slot.load
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
            max_bytes = self._settings.loading.max_trial_bytes
            fetched = await fetch(
                self._trials.machine,
                load.source,
                label,
                model,
                self._left_s(load),
                max_bytes,
                *import_options(self._settings),
            )
            slot.imported = fetched.new
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

    def _retire(self, version: str, slot: Slot, *, unwanted: bool = False) -> None:
        self._draining[slot] = version
        self._run(self._close(slot, unwanted=unwanted))

    async def _close(self, slot: Slot, *, unwanted: bool) -> None:
        """Close the runner; what was imported for an `unwanted` one, whose load was refused, leaves the store."""
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
        if unwanted and slot.imported and not self._uses(slot.load.tag):
            await asyncio.to_thread(remove_artefact, slot.load.tag)
        self._draining.pop(slot, None)
        self._changed()

    def _uses(self, tag: str) -> bool:
        return any(slot.load.tag == tag for slot in (*self._slots.values(), *self._candidates.values()))

    def _report(self, version: str, slot: Slot) -> VersionReport:
        if slot.runner is not None and slot.runner.jobs != slot.jobs_seen:
            slot.jobs_seen = slot.runner.jobs
            self._used_at[version] = self._clock()
        still_here = slot.state is VersionState.UNLOADED and version in self._draining.values()
        state = VersionState.DRAINING if still_here else slot.state
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
