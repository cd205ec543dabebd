"""The seals: the secrets that make and verify prediction ids, which all workers share through the store.

    store --(each second)--> known secrets --> prediction ids: one of the secrets makes them, each verifies them
      ^--- what it has lost <---'    '--> a file of this machine, for those who start while the store is away

A secret that has sealed an id is forgotten when the id has expired, not before: whoever knows one that the store has
lost puts it back. An id that no known secret made is called forged when the others have had time for that.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf

import msgspec

from shokado.experiments.prediction_id import PredictionIds
from shokado.stores.follower import Follower
from shokado.stores.machine import Machine
from shokado.stores.store import GIVEN, Secret, StoreUnavailable

LEARN_EVERY_S = 1.0
"""How soon a worker seals by what others have put into the store."""
SETTLES_S = 5.0
"""Within this time everybody who can reach the store has put back into it what it had lost."""
LOOK_EVERY_S = 0.5
"""How long to wait between looks at the store, which bounds what ids that are no good cost it."""
_LEEWAY_S = 86_400.0
"""How much longer than an id lives an idle secret is kept: a new leader may count minutes that another one counted."""
_TURN_S = 2.0
"""How long a worker waits for its turn at the file of this machine's secrets."""
_FILE = "secrets"

logger = logging.getLogger("bentoml.shokado")


class _Remembered(msgspec.Struct, array_like=True):
    value: bytes
    made_at: float
    idle_s: float


_decode = msgspec.json.Decoder(list[_Remembered]).decode


class Seals:
    """The secrets as one worker knows them. Methods belong to the event loop."""

    def __init__(
        self,
        follower: Follower,
        ids: PredictionIds,
        machine: Machine,
        given: bytes | None,
        max_age_s: float,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`given` is the configured secret, which seals; `max_age_s` is that of `ids`."""
        self._follower = follower
        self._ids = ids
        self._machine = machine
        self._given = given
        self._limit_s = max_age_s + _LEEWAY_S
        self._clock = clock
        self._monotonic = monotonic
        self._known = {given: Secret(given, GIVEN, 0.0, "")} if given is not None else {}
        self._used: list[bytes] = []
        """Secrets that `ids` uses; the first one seals."""
        self._expired: set[bytes] = set()
        self._remembered: frozenset[bytes] = frozenset()
        self._troubled_at = monotonic()
        """When the store may last have lacked what somebody else had sealed with."""
        self._turn = asyncio.Lock()
        self._next_look: asyncio.Task[bool] | None = None
        self._looked_at = -inf

    async def start(self) -> None:
        """Have something to seal with, which survives this worker; to be awaited before ids are made."""
        self._recall()
        with contextlib.suppress(StoreUnavailable):
            await self.learn()
        if not self._used:
            await self._do_without_store()

    async def learn(self) -> None:
        """Take over what the store knows, and give it what it lacks. Raises `StoreUnavailable`."""
        async with self._turn:
            store = self._follower.store
            try:
                lacking = self._take(await self._follower.ask(store.secrets))
                fresh = None if self._can_seal else self._fresh()
                if lacking or fresh is not None:
                    self._take(await self._follower.ask(store.keep_secrets, lacking, fresh))
            except StoreUnavailable:
                self._troubled_at = self._monotonic()
                raise
            finally:
                self._use()
            self._remember()

    async def look_again(self) -> bool:
        """Learn what others have put into the store by now, and tell whether that must be all that there is.

        Those who ask at the same time share a look, which begins after they have asked. Raises `StoreUnavailable`.
        """
        if self._next_look is None:
            self._next_look = asyncio.create_task(self._look())
        return await asyncio.shield(self._next_look)

    async def age(self, by_s: float) -> None:
        """Let as much time pass for the secrets that are not in use: for one worker. Raises `StoreUnavailable`."""
        await self._follower.ask(self._follower.store.age_secrets, by_s, self._limit_s, self._used[0])

    @property
    def _can_seal(self) -> bool:
        return self._given is not None or any(secret.made_at > GIVEN for secret in self._known.values())

    def _fresh(self) -> Secret:
        return Secret(secrets.token_bytes(32), self._clock(), 0.0, _placing())

    async def _look(self) -> bool:
        await asyncio.sleep(self._looked_at + LOOK_EVERY_S - self._monotonic())
        self._next_look = None
        self._looked_at = began = self._monotonic()
        await self.learn()
        return began - self._troubled_at >= SETTLES_S

    def _take(self, found: Sequence[Secret]) -> list[Secret]:
        """Know what was found in the store as well; returns what is to be put into it."""
        kept = {secret.value: secret for secret in found}
        for value, secret in self._known.items():
            if value not in kept or kept[value].placed != secret.placed:
                # Others may not have put back yet what they know.
                self._troubled_at = self._monotonic()
        known = self._known | kept
        for value in self._used[:1]:
            known[value] = replace(known[value], idle_s=0.0)
        sealing = max(known.values(), key=self._rank, default=None)
        expired = {secret.value for secret in known.values() if secret.idle_s > self._limit_s and secret != sealing}
        self._expired |= expired
        self._known = {value: secret for value, secret in known.items() if value not in expired}
        return [
            replace(secret, placed=_placing())
            for value, secret in self._known.items()
            if value not in kept or secret.idle_s < kept[value].idle_s
        ]

    def _rank(self, secret: Secret) -> tuple[bool, float, bytes]:
        return secret.value == self._given, secret.made_at, secret.value

    def _use(self) -> None:
        values = [secret.value for secret in sorted(self._known.values(), key=self._rank, reverse=True)]
        if self._can_seal and values != self._used:
            self._ids.use(values)
            self._used = values

    async def _do_without_store(self) -> None:
        """Seal with what is known here, or with a secret that all of this machine agree on, until the store is back."""
        try:
            async with self._machine.turn(_FILE, _TURN_S):
                self._recall()
                self._provide()
                self._write()
        except (OSError, TimeoutError) as error:
            logger.warning("what seals prediction ids is not remembered on this machine: %r", error)
            self._provide()
        self._use()

    def _provide(self) -> None:
        if not self._can_seal:
            fresh = self._fresh()
            self._known[fresh.value] = fresh

    def _recall(self) -> None:
        """Take up what workers of this machine knew."""
        for secret in self._read():
            self._known.setdefault(secret.value, secret)

    def _remember(self) -> None:
        """Have this machine know what is known here, at the next call if somebody else is about it."""
        if frozenset(self._known) == self._remembered:
            return
        try:
            with self._machine.held(_FILE) as free:
                if free:
                    self._write()
        except OSError as error:
            logger.warning("what seals prediction ids is not remembered on this machine: %s", error)
            # Once is enough to be told.
            self._remembered = frozenset(self._known)

    def _read(self) -> list[Secret]:
        try:
            found = _decode((self._machine.folder / _FILE).read_bytes())
        except (OSError, ValueError):
            return []
        return [Secret(one.value, one.made_at, one.idle_s, "") for one in found if len(one.value) == 32]

    def _write(self) -> None:
        """Write the file, with the lock held; what others of this machine wrote stays."""
        remembered = {secret.value: secret for secret in self._read() if secret.value not in self._expired}
        remembered |= self._known
        content = [_Remembered(secret.value, secret.made_at, secret.idle_s) for secret in remembered.values()]
        path = self._machine.folder / _FILE
        scratch = path.with_name(f"{_FILE}.{os.getpid()}")
        scratch.touch(mode=0o600)
        scratch.write_bytes(msgspec.json.encode(content))
        scratch.replace(path)
        self._remembered = frozenset(self._known)


def _placing() -> str:
    return secrets.token_hex(8)
