"""Trials: no worker opens an artefact that could take it down.

new here     --> tried in a process of its own, once for all workers of this machine --> opened by each
at a start   --> opened at once, as it served before --(a process died of it)--> tried first from then on
died of it again, though the trial had passed --> given up
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from configuration.settings import Settings, VersionSettings
from runners.artefacts.artefact import Artefact
from runners.trial import TrialFailed, TrialOrder, run_trial
from shokado.dispatch.state import Load
from shokado.stores.machine import Machine
from shokado.worker.versions.attempts import Attempts

MAX_DEATHS = 2
"""Workers in a row that may die of opening an artefact before it is given up."""


class _Verdict(msgspec.Struct):
    """How a trial ended, and when."""

    at: float
    failure: str | None


class Trials:
    """The trials of one machine. Methods belong to the event loop."""

    def __init__(self, settings: Settings, machine: Machine, clock: Callable[[], float] = time.time) -> None:
        self.machine = machine
        self._attempts = Attempts(machine)
        self._settings = settings
        self._clock = clock

    async def passed(self, version: str, artefact: Artefact, since: float, timeout_s: float) -> None:
        """Return when the artefact has passed a trial on this machine. Raises `TrialFailed`.

        What another worker finds out counts as well, if it did so after `since`, by the clock, or if it passed
        shortly before.
        """
        key = self._key(version, artefact.digest)
        ends_at = time.monotonic() + timeout_s
        try:
            async with self.machine.turn(f"{key}.trial", timeout_s):
                await self._tried(version, artefact, key, since, ends_at)
        except TimeoutError:
            raise TrialFailed("another worker has not tried it in time") from None
        except OSError as error:
            raise TrialFailed(f"it cannot be tried here: {error}") from error

    async def _tried(self, version: str, artefact: Artefact, key: str, since: float, ends_at: float) -> None:
        noted = self.machine.folder / f"{key}.verdict"
        verdict = None
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            verdict = msgspec.json.decode(noted.read_bytes(), type=_Verdict)
        earliest = since if verdict is None or verdict.failure else since - self._settings.loading.timeout_s
        if verdict is None or not earliest <= verdict.at <= self._clock():
            failure = await self._failure(version, artefact, ends_at)
            verdict = _Verdict(self._clock(), failure)
            noted.write_bytes(msgspec.json.encode(verdict))
        if verdict.failure is not None:
            raise TrialFailed(verdict.failure)

    async def _failure(self, version: str, artefact: Artefact, ends_at: float) -> str | None:
        order = TrialOrder(
            version=version,
            folder=artefact.folder,
            settings=self._settings.versions.get(version, VersionSettings()),
            batching=self._settings.batching,
            max_bytes=self._settings.loading.max_trial_bytes,
        )
        try:
            await run_trial(order, ends_at - time.monotonic())
        except TrialFailed as error:
            return str(error)
        return None

    def deaths(self, version: str, load: Load) -> int:
        """How many workers of this machine in a row have died while they opened it."""
        return self._attempts.deaths(self._name(version, load))

    @contextmanager
    def opening(self, version: str, load: Load, deaths: int) -> Iterator[None]:
        """Around the opening in this process, of which so many have died. Raises `TrialFailed` if they are too many."""
        if deaths >= MAX_DEATHS:
            raise TrialFailed(
                f"{deaths} workers in a row died while they opened it, though it passed in a process of its own: "
                "memory may be too short for it in every worker; load it again to have it tried anew"
            )
        with self._attempts.begin(self._name(version, load), deaths):
            yield

    def _name(self, version: str, load: Load) -> str:
        """The name of the attempts at a start, or at one load: a new load begins anew."""
        scope = "start" if load.expires_at is None else f"load-{load.expires_at:.0f}"
        return f"{self._key(version, load.digest)}-{scope}"

    def _key(self, version: str, digest: str) -> str:
        """What an artefact is known by, and how it is opened."""
        return f"{digest[:32]}-{self._settings.versions.get(version, VersionSettings()).engine}"
