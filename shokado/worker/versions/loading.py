"""Loading and unloading versions while the server runs, in every worker of every machine.

    source -> artefact in the store -> checked, tried -> candidate: every worker gets it ready, aside -> it serves
                                           \\-> refused      \\-> one failed, or too late: given up, no traffic touched

While a version is being loaded there is one more in memory than `loading.max_versions_in_memory` allows; when it
serves, the one that was used least recently, and that no environment needs, is unloaded. One load at a time, imports
included, and one that waits for its turn. What was imported for a load that is refused leaves the store again.
"""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import TypeAdapter, ValidationError

from configuration.settings import Name, Placement, Settings
from runners.artefacts.artefact import Artefact, ArtefactError, check_alike, check_files
from runners.artefacts.repository import find_artefact, remove_artefact
from runners.trial import TrialFailed
from runners.version_state import VersionState
from shokado.dispatch.change import (
    ChangeRefused,
    ConflictingChange,
    InvalidChange,
    with_candidate,
    with_load,
    with_unloaded,
    without_candidate,
)
from shokado.dispatch.request import UnknownVersion
from shokado.dispatch.state import Load, RoutingState, VersionReport
from shokado.stores.follower import Follower
from shokado.stores.store import Action, Entry, StoreUnavailable, WorkerReport
from shokado.worker.versions.fetching import FORMS, CannotFetch, FetchFailed, fetch, import_options, is_address
from shokado.worker.versions.fleet import is_elsewhere, known_loads
from shokado.worker.versions.trials import Trials

POLL_S = 0.15
"""How soon it is seen that all workers have a version; loads take seconds."""
_CLOCKS_APART_S = 60.0
"""How far the clocks of two machines may differ."""
SERVER = "shokado"
"""Who makes the changes that nobody asked for by name."""
_BUSY = "a version is being loaded, and another load waits for its turn: try again when GET /v1/models shows both"

_TAG = re.compile(r"[a-z0-9]([-._a-z0-9]{0,61}[a-z0-9])?:[a-z0-9]([-._a-z0-9]{0,61}[a-z0-9])?")
_check_name = TypeAdapter[str](Name).validate_python

logger = logging.getLogger("bentoml.shokado")


class Loader:
    """What loads and unloads versions while the server runs. Methods belong to the event loop of any worker."""

    def __init__(
        self,
        settings: Settings,
        artefacts: Mapping[str, Artefact],
        follower: Follower,
        trials: Trials,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
        known: Callable[[], Mapping[str, Artefact]] = dict,
    ) -> None:
        """`artefacts` are the configured ones, and `known` gives those of all versions that this worker knows by now:
        what is loaded must give the same as they do, and what it takes go together with theirs.

        `clock` gives Unix seconds, which all workers understand; what this one waits for is measured by `timer`.
        """
        self._settings = settings
        self._limits = settings.loading
        self._artefacts = artefacts
        self._follower = follower
        self._trials = trials
        self._known_artefacts = known
        self._clock = clock
        self._timer = timer
        self._tasks: set[asyncio.Task[Entry]] = set()

    async def load(self, version: str, uri: str | None, by: str, why: str = "") -> Entry:
        """Load a version, new or known, and return the generation that serves it, once every worker does.

        `uri` is an address of the MLflow registry (see `shokado.worker.versions.fetching.ADDRESS`), or the tag
        `<name>:<version>` of an artefact in the BentoML model store; None: what the version is known as, for one that
        was unloaded. Raises `ChangeRefused` with the reason, `UnknownVersion`, and `StoreUnavailable`. It goes on when
        its caller is cancelled.
        """
        return await self._finished(self._load(version, uri, by, why))

    async def unload(self, version: str, by: str, why: str = "") -> Entry:
        """Take a version out of the memory of every worker; returns when all have answered what they had for it.

        Raises like `load`; `ConflictingChange` while an environment needs it.
        """
        return await self._finished(self._unload(version, by, why))

    async def drop_expired(self) -> None:
        """Give up the candidates whose time is over: their loader has died. To be called every few seconds."""
        state = self._follower.state
        for version, load in dict(state.candidates if state else {}).items():
            left_s = (load.expires_at or 0) - self._clock()
            # One that has longer than any load was begun before a clock was set back.
            if not 0 < left_s <= self._limits.timeout_s + _CLOCKS_APART_S:
                logger.warning("the load of version %s did not end in time and is given up", version)
                await self._abandon(version, load, SERVER, "it did not end in time")

    async def stop(self) -> None:
        """Give up what is under way, and end its processes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _finished(self, work: Coroutine[Any, Any, Entry]) -> Entry:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait([task])
        if task.cancelled():
            raise ChangeRefused("stopping", "the server is stopping")
        return task.result()

    async def _load(self, version: str, uri: str | None, by: str, why: str) -> Entry:
        since = self._clock()
        deadline = self._timer() + self._limits.timeout_s
        self._check_version(version)
        self._check_source(uri)
        async with self._turn(deadline), contextlib.AsyncExitStack() as refused:
            await self.drop_expired()
            load, artefact = await self._obtain(version, uri, deadline, refused)
            if await self._serves(version, load):
                entry = self._entry
            else:
                await self._tried(version, artefact, since, deadline)
                candidate = replace(load, expires_at=self._clock() + deadline - self._timer())
                entry = await self._change(version, candidate, deadline, by, why)
            refused.pop_all()
            try:
                await self._arrived(version, load, entry, VersionState.READY, deadline)
            finally:
                await self._make_room(version, by)
            return entry

    @contextlib.asynccontextmanager
    async def _turn(self, deadline: float) -> AsyncIterator[None]:
        """Wait for this load's turn: on this machine one is under way, and one waits. Raises `ConflictingChange`."""
        machine = self._trials.machine
        async with contextlib.AsyncExitStack() as turn:
            try:
                if not turn.enter_context(machine.held("load")):
                    with machine.held("next-load") as free:
                        if not free:
                            raise ConflictingChange("load_in_progress", _BUSY)
                        await turn.enter_async_context(machine.turn("load", deadline - self._timer()))
            except TimeoutError:
                message = f"{self._limits.timeout_s:g} s were not enough: still waiting for the load before this one"
                raise ConflictingChange("load_timed_out", message) from None
            except OSError as error:
                raise ConflictingChange("cannot_load_here", f"loads cannot take turns: {error}") from error
            yield

    async def _tried(self, version: str, artefact: Artefact, since: float, deadline: float) -> None:
        try:
            await self._trials.passed(version, artefact, since, deadline - self._timer())
        except TrialFailed as error:
            message = f"{artefact.tag} cannot be served: {error}"
            raise InvalidChange("load_failed", message, version=version) from error

    async def _change(self, version: str, candidate: Load, deadline: float, by: str, why: str) -> Entry:
        """Make it a candidate and, when every worker has it ready, a load. Raises as `load` does."""
        try:
            entry = await self._follower.change(
                lambda state: with_candidate(self._with_room(state, version), version, candidate),
                by=by,
                action=Action.PREPARE,
                why=why,
            )
            await self._prepared(version, candidate, entry.generation, deadline)
            return await self._follower.change(
                lambda state: with_load(_with_ours(state, version, candidate), version),
                by=by,
                action=Action.LOAD,
                why=why,
            )
        except BaseException as error:
            await self._abandon(version, candidate, by, str(error) or "the server stopped")
            raise

    async def _unload(self, version: str, by: str, why: str) -> Entry:
        self._check_version(version)
        known = self._known()
        if version not in known:
            raise UnknownVersion("version", version, list(known))
        if not known[version].in_memory:
            return self._entry
        entry = await self._follower.change(
            lambda state: with_unloaded(state, version, self._known(state)[version]),
            by=by,
            action=Action.UNLOAD,
            why=why,
        )
        deadline = self._timer() + self._limits.timeout_s
        await self._arrived(version, known[version], entry, VersionState.UNLOADED, deadline)
        return entry

    @property
    def _entry(self) -> Entry:
        entry = self._follower.entry
        if entry is None:
            raise StoreUnavailable(self._follower.failure or "the store was not read yet")
        return entry

    def _known(self, state: RoutingState | None = None) -> dict[str, Load]:
        """All versions of a state, by default of the newest one."""
        return known_loads(state or self._entry.state, self._artefacts, self._settings)

    def _check_version(self, version: str) -> None:
        if version in self._settings.aliases:
            message = f"{version} is an alias of {self._settings.aliases[version]}; name the version itself"
            raise InvalidChange("alias", message, version=version)
        try:
            _check_name(version)
        except ValidationError:
            message = f"{version[:100]!r} cannot be a version: 1 to 63 of small letters, digits, '.', '_' and '-' can"
            raise InvalidChange("invalid_name", message) from None
        if is_elsewhere(version, self._settings):
            placement = self._settings.versions[version].placement
            where = "has a service of its own" if placement is Placement.SERVICE else "runs in another server"
            message = f"version {version} {where} (placement: {placement}), which only a restart changes"
            raise ConflictingChange(f"{placement}_placement", message, version=version)

    def _check_source(self, uri: str | None) -> None:
        if uri is None or _TAG.fullmatch(uri) or (is_address(uri) and self._limits.registry):
            return
        registry = f"{FORMS} of the MLflow registry, or "
        raise InvalidChange(
            "source_not_allowed",
            f"{uri[:300]!r} cannot be loaded; these can: {registry if self._limits.registry else ''}"
            "<name>:<version> of the BentoML model store",
        )

    async def _obtain(
        self, version: str, uri: str | None, deadline: float, refused: contextlib.AsyncExitStack
    ) -> tuple[Load, Artefact]:
        """What is to be loaded, in the store of this machine and checked; `refused` takes an import out again."""
        known = self._known()
        if uri is None and version not in known:
            raise UnknownVersion("version", version, list(known))
        tag = uri or known[version].tag
        if is_address(tag):
            # Before minutes are spent.
            self._with_room(self._entry.state, version)
            tag = await self._imported(version, tag, deadline, refused)
        try:
            beside = [artefact for name, artefact in self._known_artefacts().items() if name != version]
            artefact = await asyncio.to_thread(self._checked, version, tag, beside)
        except ArtefactError as error:
            raise InvalidChange("unfit_artefact", str(error), version=version) from error
        if uri is None and known[version].digest == artefact.digest:
            return replace(known[version], in_memory=True, expires_at=None), artefact
        source = artefact.card.source.uri if uri is not None and is_address(uri) else tag
        return Load(tag, artefact.digest, source), artefact

    async def _imported(self, version: str, uri: str, deadline: float, refused: contextlib.AsyncExitStack) -> str:
        try:
            seconds = deadline - self._timer()
            model, max_bytes = self._settings.model, self._limits.max_trial_bytes
            options = ("--beside", *import_options(self._settings))
            fetched = await fetch(self._trials.machine, uri, version, model, seconds, max_bytes, *options)
        except CannotFetch as error:
            raise ConflictingChange("cannot_import_here", str(error), version=version) from error
        except FetchFailed as error:
            raise InvalidChange("import_failed", str(error), version=version) from error
        if fetched.new:
            refused.push_async_exit(partial(self._take_back, fetched.tag))
        return fetched.tag

    async def _take_back(self, tag: str, _: object, error: BaseException | None, __: object) -> None:
        """Take what was imported for a refused load out of the store."""
        if isinstance(error, StoreUnavailable):
            # The load may have been made, as will be known when the routing can be read again.
            return
        with contextlib.suppress(OSError):
            await asyncio.to_thread(remove_artefact, tag)

    def _checked(self, version: str, tag: str, beside: Iterable[Artefact]) -> Artefact:
        """The artefact, if it may serve here, `beside` those. Reads all of it.

        Raises `ArtefactError` and `InvalidChange`.
        """
        artefact = find_artefact(version, tag)
        size, limit = artefact.card.size_bytes, self._limits.max_version_bytes
        if size > limit:
            message = f"the model files of {tag} have {size} bytes; at most {limit} may be loaded"
            raise InvalidChange("version_too_large", message, size_bytes=size, limit=limit)
        for other in (next(iter(self._artefacts.values())), *beside):
            check_alike([other, artefact])
        check_files(artefact)
        return artefact

    async def _serves(self, version: str, load: Load) -> bool:
        known = self._known().get(version)
        if known is None or not known.in_memory or known.digest != load.digest:
            return False
        reports = await self._follower.ask(self._follower.store.reports, self._clock())
        # Where it failed, loading it again may mend it.
        return not any(_is(report.versions.get(version), load.digest, VersionState.FAILED) for report in reports)

    def _excess(self, state: RoutingState, version: str) -> tuple[int, set[str]]:
        """How many versions must leave memory for this one, and which others could."""
        known = self._known(state)
        inside = {name for name, load in known.items() if load.in_memory and not is_elsewhere(name, self._settings)}
        inside.add(version)
        return len(inside) - self._limits.max_versions_in_memory, inside - state.needed - {version}

    def _with_room(self, state: RoutingState, version: str) -> RoutingState:
        """The state itself. Raises `ConflictingChange` when it has no room for one more version."""
        for other in state.candidates:
            raise ConflictingChange("load_in_progress", f"version {other} is being loaded; try again", version=other)
        excess, spare = self._excess(state, version)
        if excess > len(spare):
            limit = self._limits.max_versions_in_memory
            message = f"{limit} versions may be in memory, and an environment needs each of those that are"
            raise ConflictingChange("memory_full", message, limit=limit)
        return state

    async def _make_room(self, version: str, by: str) -> None:
        """Unload what was used least recently, anywhere, until memory is no fuller than it may be."""
        try:
            reports = await self._follower.ask(self._follower.store.reports, self._clock())
            for other in self._by_last_use(version, reports):
                if self._excess(self._entry.state, version)[0] <= 0:
                    return
                # What was given traffic in the meantime stays.
                with contextlib.suppress(ConflictingChange):
                    await self._unload(other, by, f"makes room for version {version}")
        except StoreUnavailable as error:
            logger.warning("nothing could be unloaded to make room for version %s: %s", version, error)

    def _by_last_use(self, version: str, reports: Iterable[WorkerReport]) -> list[str]:
        """Versions that may leave memory for this one, the least recently used first."""
        used_at: dict[str, float] = {}
        for report in reports:
            for name, found in report.versions.items():
                used_at[name] = max(used_at.get(name, 0), found.last_used_at)
        _, spare = self._excess(self._entry.state, version)
        return sorted(spare, key=lambda name: (used_at.get(name, 0), name))

    async def _prepared(self, version: str, candidate: Load, generation: int, deadline: float) -> None:
        def ready(report: WorkerReport) -> bool:
            _with_ours(self._entry.state, version, candidate)
            return _reached(report, report.candidates.get(version), candidate.digest, VersionState.READY)

        await self._everywhere(generation, deadline, ready)

    async def _arrived(self, version: str, load: Load, entry: Entry, state: str, deadline: float) -> None:
        """Wait until every worker has the load as the entry says, or somebody has changed it again."""

        def there(report: WorkerReport) -> bool:
            changed = self._entry.state.loads.get(version) != entry.state.loads.get(version)
            return changed or _reached(report, report.versions.get(version), load.digest, state)

        await self._everywhere(entry.generation, deadline, there)

    async def _everywhere(self, generation: int, deadline: float, holds: Callable[[WorkerReport], bool]) -> None:
        """Wait until something holds in all workers that live. Raises `ConflictingChange` when the time is over."""
        while True:
            waiting = "the store"
            # A store that cannot be read now may be back in time.
            with contextlib.suppress(StoreUnavailable):
                reports = await self._follower.ask(self._follower.store.reports, self._clock())
                late = [report for report in reports if report.generation < generation or not holds(report)]
                if reports and not late:
                    return
                waiting = ", ".join(map(_name_of, late)) or "a first report"
            if self._timer() >= deadline:
                message = f"{self._limits.timeout_s:g} s were not enough: still waiting for {waiting}"
                raise ConflictingChange("load_timed_out", message)
            await asyncio.sleep(POLL_S)

    async def _abandon(self, version: str, candidate: Load, by: str, why: str) -> None:
        """Drop the candidate unless somebody did; where that fails, it expires."""
        with contextlib.suppress(ChangeRefused, StoreUnavailable):
            await self._follower.change(
                lambda state: without_candidate(_with_ours(state, version, candidate), version),
                by=by,
                action=Action.ABANDON,
                why=why,
            )


def _with_ours(state: RoutingState, version: str, candidate: Load) -> RoutingState:
    """The state itself. Raises `ConflictingChange` unless it has this very candidate."""
    if state.candidates.get(version) != candidate:
        raise ConflictingChange("load_given_up", f"the load of version {version} was given up", version=version)
    return state


def _is(found: VersionReport | None, digest: str, state: str) -> bool:
    return found is not None and (found.digest, found.state) == (digest, state)


def _reached(report: WorkerReport, found: VersionReport | None, digest: str, state: str) -> bool:
    """Whether a worker has the artefact in that state. Raises `InvalidChange` when it failed there."""
    if found is not None and _is(found, digest, VersionState.FAILED):
        raise InvalidChange("load_failed", f"{_name_of(report)} cannot serve it: {found.failure}")
    return _is(found, digest, state)


def _name_of(report: WorkerReport) -> str:
    return f"worker {report.pid} on {report.machine}"
