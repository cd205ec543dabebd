"""A candidate of a running server, asked for over HTTP with the version pinned, no faster than it is told.

Each logged request is one request again, with all of its rows, so that its latency can be compared with that of before.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any

import httpx
import numpy as np

from runners.artefacts.card import Task
from runners.inputs.schema import Feature
from shokado.client import AccessDenied, AsyncClient, Client, NoAnswer, NotFound, Retries, ShokadoError
from shokado.client.answers import Prediction, Version
from shokado.lifecycle.errors import GatewayAway, GatewayRefused, LifecycleError, ReplayRefused
from shokado.lifecycle.replaying.candidate import CandidateSignature, Progress, ReplayedCall
from shokado.lifecycle.replaying.logged_calls import REPLAY_PREFIX, LoggedCall
from shokado.lifecycle.rollout.gateway_client import checked_address

MOST_UNANSWERED = 10
"""So many requests in a row without any answer, and the server is given up."""
_RETRIES = Retries(max_attempts=3, max_total_s=10)


class Schedule:
    """Gives turns no closer together than a rate allows. What was not used is not made up for."""

    def __init__(
        self,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`rate` is how many turns a second there are at most."""
        self._interval_s = 1 / rate
        self._clock = clock
        self._sleep = sleep
        self._next_at = clock()

    async def turn(self) -> None:
        """Wait for a turn."""
        now = self._clock()
        at = max(now, self._next_at)
        self._next_at = at + self._interval_s
        if at > now:
            await self._sleep(at - now)


class ServedCandidate:
    """A version of a server."""

    has_latency = True

    def __init__(self, url: str, version: str, key: str | None, rate: float, concurrency: int) -> None:
        """`rate` is how many requests a second are sent at most, `concurrency` how many at a time.

        Raises `GatewayAway`, `GatewayRefused` and `ReplayRefused`.
        """
        self._url = checked_address(url)
        self._key = key
        self._rate = rate
        self._concurrency = concurrency
        self.signature = self._found(version)
        self.address = f"{self.signature.version} of {self._url}"
        self._run = secrets.token_hex(4)
        self._unanswered = 0

    def _found(self, version: str) -> CandidateSignature:
        try:
            with Client(self._url, key=self._key) as client:
                found = client.version(version)
        except ValueError as error:
            raise GatewayRefused(f"No server can be asked so: {error}.") from None
        except ShokadoError as error:
            raise self._said(error) from error
        if not found.ready:
            raise ReplayRefused(
                f"Version {found.version} of {self._url} is {found.state}.", f"curl {self._url}/v1/models"
            )
        return _signature(found)

    def replay(self, calls: Sequence[LoggedCall], progress: Progress) -> list[ReplayedCall]:
        return asyncio.run(self._replay(calls, progress))

    async def _replay(self, calls: Sequence[LoggedCall], progress: Progress) -> list[ReplayedCall]:
        found: list[ReplayedCall | None] = [None] * len(calls)
        waiting = iter(enumerate(calls))
        schedule = Schedule(self._rate)
        http = httpx.AsyncClient(limits=httpx.Limits(max_connections=self._concurrency))
        async with http, AsyncClient(self._url, key=self._key, retries=_RETRIES, http=http) as client:

            async def work() -> None:
                for position, call in waiting:
                    await schedule.turn()
                    replayed = found[position] = await self._asked(client, position, call)
                    progress([replayed])

            try:
                async with asyncio.TaskGroup() as workers:
                    for _ in range(min(self._concurrency, len(calls))):
                        workers.create_task(work())
            except BaseExceptionGroup as group:
                expected = group.subgroup(LifecycleError)
                raise group if expected is None else expected.exceptions[0] from None
        return [one for one in found if one is not None]

    async def _asked(self, client: AsyncClient, position: int, call: LoggedCall) -> ReplayedCall:
        signature = self.signature
        try:
            answer = await client.predict(
                signature.rows_of(call),
                version=signature.version,
                request_id=f"{REPLAY_PREFIX}{self._run}-{position}",
            )
        except NoAnswer as error:
            self._unanswered += 1
            if self._unanswered >= MOST_UNANSWERED:
                raise self._said(error) from error
            return ReplayedCall(fault="no_answer", message=error.message)
        except (AccessDenied, NotFound) as error:
            raise self._said(error) from error
        except ShokadoError as error:
            self._unanswered = 0
            return ReplayedCall(fault=error.code or str(error.status), message=error.message)
        self._unanswered = 0
        if answer.version != signature.version:
            return ReplayedCall(fault="another_version", message=f"{answer.version} answered: {answer.reason}")
        return _replayed(signature, answer)

    def _said(self, error: ShokadoError) -> LifecycleError:
        """The client's error in words for the person at the keyboard."""
        if isinstance(error, NoAnswer):
            return GatewayAway(f"No server answers at {self._url}: {error.message}.", f"curl {self._url}/readyz")
        if isinstance(error, AccessDenied):
            return GatewayRefused(f"The server wants a key: {error.message}.", "shokado replay .. --key-file FILE")
        if isinstance(error, NotFound):
            return GatewayRefused(f"{self._url}: {error.message}.", f"curl {self._url}/v1/models")
        return GatewayRefused(f"The server at {self._url} refuses: {error.message}.", f"curl {self._url}/readyz")


def _signature(found: Version) -> CandidateSignature:
    signed = found.signature
    if signed is None:
        raise ReplayRefused(f"The server does not know what {found.version} takes.", "curl URL/v1/models")
    features = tuple(Feature.model_validate(asdict(one)) for one in signed.features)
    classes, outputs = tuple(signed.classes), tuple(signed.outputs)
    return CandidateSignature(found.version, found.model, Task(signed.task), features, classes, outputs)


def _replayed(signature: CandidateSignature, answer: Prediction) -> ReplayedCall:
    scores: Any = np.array(answer.predictions, dtype=np.float32)
    positions = None
    if signature.classes:
        at = {name: position for position, name in enumerate(signature.classes)}
        positions = np.array(
            [
                [at[name] for name in label] if signature.task.has_labels else at[label]
                for label in answer.classes or ()
            ],
            dtype=np.int64,
        )
    return ReplayedCall(scores, positions, answer.latency_ms)
