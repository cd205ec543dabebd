"""Recent units: a sample of the requests that were answered lately, for who asks what a change of the split would move.

    answered --(each request as likely as any other)--> samples of this worker --(every few seconds)--> its file
    the files of all workers of this server --> the recent requests of each environment

Who asked is not kept: of a unit there is only the number that versions' scores are made of, 64 bits of a hash with the
environment's salt. It lies in memory, and in a file that only this user can read and that goes with the server.
"""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from shokado.dispatch.layer import Layer
from shokado.dispatch.observers import PredictionObserver
from shokado.dispatch.reason import Reason
from shokado.dispatch.request import Prediction
from shokado.dispatch.state import Environment
from shokado.monitoring.process_identity import machine_seconds
from shokado.monitoring.reservoir import Reservoir

SHARE_EVERY_S = 5.0
"""How often a worker puts what it has drawn where all workers find it."""
PERIOD_S = 300.0
"""A sample is of so many seconds, and the one before is kept as well: what is told reaches up to ten minutes back."""
SAMPLE_SIZE = 1000
"""Requests of an environment, worker and period: a share is then known to 3 % at worst (two standard errors)."""
_FILES = "recent_units_"


class DecidedBy(IntEnum):
    """Who decided which version a request got."""

    SPLIT = 0
    ROUTE = 1
    """It asked for the active version."""
    CLIENT = 2
    """It named a version."""
    LAYER = 3
    """Its unit is outside of the split's part of a layer."""


class RecentRequests(msgspec.Struct, frozen=True):
    """A sample of the requests of one environment that a worker has answered in a period."""

    environment: str
    salt: str
    """What the units were hashed with."""
    layer: Layer | None
    """Whose part units are in, or outside of as `decided` says."""
    begun_at: float
    """When the period began, in seconds since the machine was started."""
    answered: int
    """How many requests the sample was drawn of."""
    numbers: bytes
    """The hash of each request's unit: 64 bits each, little-endian."""
    decided: bytes
    """`DecidedBy` of each request."""

    @property
    def units(self) -> NDArray[np.uint64]:
        """Shape (requests,)."""
        return np.frombuffer(self.numbers, dtype="<u8")


_FILE = msgspec.msgpack.Decoder(list[RecentRequests])


class _Sample(Reservoir):
    """Requests of one environment, from now on."""

    __slots__ = ("_number_of", "begun_at", "drawn", "layer", "salt")

    def __init__(self, environment: Environment, begun_at: float, draw: Callable[[], float]) -> None:
        super().__init__(SAMPLE_SIZE, draw)
        self.salt, self._number_of = environment.salt, environment.rendezvous.number_of
        self.layer = environment.layer
        self.begun_at = begun_at
        self.drawn: list[tuple[int, DecidedBy]] = []

    def add(self, predictions: Sequence[Prediction], *, enabled: bool) -> None:
        """Requests that were answered; `enabled` says whether the environment is split."""
        if self.passed(len(predictions)):
            return
        start = self.seen
        self.seen = end = start + len(predictions)
        if start < SAMPLE_SIZE:
            fitting = predictions[: SAMPLE_SIZE - start]
            self.drawn += [self._known(prediction, enabled=enabled) for prediction in fitting]
            if end < SAMPLE_SIZE:
                return
            self._filled()
        for instead, number in self._drawn_since(start):
            self.drawn[instead] = self._known(predictions[number], enabled=enabled)

    def _known(self, prediction: Prediction, *, enabled: bool) -> tuple[int, DecidedBy]:
        decided = DecidedBy.SPLIT
        if prediction.reason is Reason.PINNED:
            decided = DecidedBy.CLIENT
        elif prediction.reason is Reason.ACTIVE and enabled:
            decided = DecidedBy.ROUTE
        elif self.layer is not None and not self.layer.has(prediction.unit):
            decided = DecidedBy.LAYER
        return self._number_of(prediction.unit), decided

    def told(self, environment: str) -> RecentRequests:
        numbers = np.array([number for number, _ in self.drawn], dtype="<u8")
        decided = bytes(decided for _, decided in self.drawn)
        return RecentRequests(environment, self.salt, self.layer, self.begun_at, self.seen, numbers.tobytes(), decided)


class RecentUnits(PredictionObserver):
    """Samples what this worker answers, and finds what all workers of the server have. Belongs to the event loop."""

    def __init__(
        self,
        environments: Callable[[], Mapping[str, Environment]],
        folder: Path,
        worker: str,
        clock: Callable[[], float] = machine_seconds,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`environments` are those that this worker serves, `folder` is where all workers of the server write.

        `worker` is its name, which no other one has, and `clock` one for all processes of the machine.
        """
        self._environments = environments
        self._folder = folder
        self._path = folder / f"{_FILES}{worker}"
        self._clock = clock
        self._draw = draw
        self._samples: dict[str, list[_Sample]] = {}
        """The samples of this period and of the one before, by environment."""
        self._changed = False

    def answered(self, version: str, predictions: Sequence[Prediction]) -> None:  # noqa: ARG002
        self._changed = True
        names = {prediction.origin.environment for prediction in predictions}
        for name in names:
            environment = self._environments().get(name)
            if environment is None:
                continue
            if len(names) == 1:
                its = predictions
            else:
                its = [prediction for prediction in predictions if prediction.origin.environment == name]
            self._sample_of(environment).add(its, enabled=environment.enabled)

    async def share(self) -> None:
        """Put what was drawn where all workers find it; where that cannot be, they know of what was drawn before."""
        self._let_go()
        if self._changed:
            self._changed = False
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._write, msgspec.msgpack.encode(self._told()))

    async def recent(self, environment: Environment) -> list[list[RecentRequests]]:
        """What each worker that answered any has drawn lately of the environment's requests.

        Raises `OSError`.
        """
        self._let_go()
        found = [self._told(), *await asyncio.to_thread(self._read)]
        oldest = self._clock() - 2 * PERIOD_S - SHARE_EVERY_S
        # Units that were hashed with another salt are no units of this environment, and of those from before a layer
        # nobody knows any more whether they are inside.
        wanted = environment.name, environment.salt, environment.layer
        of_it = [[one for one in told if (one.environment, one.salt, one.layer) == wanted] for told in found]
        return [late for told in of_it if (late := [one for one in told if one.begun_at >= oldest])]

    def _told(self) -> list[RecentRequests]:
        return [sample.told(name) for name, samples in self._samples.items() for sample in samples if sample.seen]

    def _sample_of(self, environment: Environment) -> _Sample:
        samples = self._samples.setdefault(environment.name, [])
        if not samples or (samples[0].salt, samples[0].layer) != (environment.salt, environment.layer):
            samples[:] = [_Sample(environment, self._clock(), self._draw)]
        return samples[0]

    def _let_go(self) -> None:
        """Begin new periods, and drop those that are too old."""
        now, environments = self._clock(), self._environments()
        for name, samples in self._samples.items():
            if samples[0].begun_at <= now - PERIOD_S and name in environments:
                samples[:] = [_Sample(environments[name], now, self._draw), samples[0]]
            samples[:] = [sample for sample in samples if sample.begun_at > now - 2 * PERIOD_S]
        self._samples = {name: samples for name, samples in self._samples.items() if samples}

    def _write(self, content: bytes) -> None:
        fresh = self._folder / f"new_{self._path.name}"
        try:
            with open(fresh, "wb", opener=_for_this_user) as file:
                file.write(content)
            fresh.replace(self._path)
        finally:
            fresh.unlink(missing_ok=True)
        for path in self._folder.glob(f"{_FILES}*"):
            # A worker that has ended tells nothing more.
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - 3 * PERIOD_S:
                    path.unlink()

    def _read(self) -> list[list[RecentRequests]]:
        """What the other workers have put there."""
        found: list[list[RecentRequests]] = []
        for path in self._folder.glob(f"{_FILES}*"):
            with contextlib.suppress(FileNotFoundError):
                if path != self._path:
                    found.append(_FILE.decode(path.read_bytes()))
        return found


def _for_this_user(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
