"""The clients: `Client` waits for each answer, `AsyncClient` is awaited. What they ask: `shokado.client.operations`.

In: a server's address, and who asks. Out: methods that send an operation, again where that is right, and read its
answer; all raise `ShokadoError`. Both may be shared: by threads, and by tasks of one event loop.
"""

import asyncio
import inspect
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, get_args

import httpx

from shokado.client import operations
from shokado.client.answers import HistoryEntry
from shokado.client.errors import error_of, no_answer
from shokado.client.operations import Operation
from shokado.client.retries import DEFAULT_RETRIES, Retries, RetryState, retry_after

Answer = TypeVar("Answer")
Arguments = ParamSpec("Arguments")

TIMEOUT_S = 30.0
"""How long a request may take, unless the caller says otherwise: as long as the server lets one arrive."""
_GRACE_S = 0.5
"""How long after a deadline the refusal which says that it has passed may take to arrive."""
_PAGE = 100
"""Entries asked for at once: few requests for a long history, and none that takes long."""


class _Asking:
    """What both clients know: the server, who asks, and how patiently."""

    def __init__(
        self, url: str, key: str | None, environment: str | None, actor: str | None, timeout_s: float, retries: Retries
    ) -> None:
        self.url = _checked_address(url)
        named = {"X-API-Key": key, "X-Environment": environment, "X-Actor": actor}
        self._headers = {name: value for name, value in named.items() if value is not None}
        _encoded(self._headers)
        self._timeout_s = timeout_s
        self._retries = retries

    def attempts(self, operation: Operation[Any]) -> RetryState:
        return RetryState(
            self._retries, operation.repeatable, operation.deadline_s, clock=time.monotonic, chance=random.random
        )

    def request(self, operation: Operation[Any], left_s: float | None) -> dict[str, Any]:
        """What httpx sends for an attempt that has so many seconds left."""
        headers = {**self._headers, **operation.headers}
        timeout_s = self._timeout_s if operation.timeout_s is None else operation.timeout_s
        if left_s is not None:
            headers["X-Request-Deadline-Ms"] = f"{1000 * left_s:.3f}"
            timeout_s = min(timeout_s, left_s + _GRACE_S)
        return {
            "method": operation.method,
            "url": self.url + operation.path,
            "params": operation.query or None,
            "headers": _encoded(headers),
            "content": operation.content,
            "timeout": timeout_s,
        }

    def settled(self, operation: Operation[Answer], outcome: httpx.Response | httpx.TransportError) -> Answer:
        """What the outcome of the last attempt comes to. Raises `ShokadoError`."""
        if isinstance(outcome, httpx.TransportError):
            shown = httpx.URL(self.url).copy_with(userinfo=b"")
            raise no_answer(outcome, f"{operation.method} {shown}{operation.path}") from outcome
        if not outcome.is_success:
            raise error_of(outcome, retry_after(outcome))
        return operation.read(outcome)


def _sent(
    ask: Callable[Arguments, Operation[Answer]],
) -> Callable[Concatenate["Client", Arguments], Answer]:
    """The method that sends an operation and waits for its answer."""

    def method(self: "Client", /, *arguments: Arguments.args, **named: Arguments.kwargs) -> Answer:
        return self.send(ask(*arguments, **named))

    return _described(method, ask)


def _awaited(
    ask: Callable[Arguments, Operation[Answer]],
) -> Callable[Concatenate["AsyncClient", Arguments], Awaitable[Answer]]:
    """The method that sends an operation and is awaited."""

    async def method(self: "AsyncClient", /, *arguments: Arguments.args, **named: Arguments.kwargs) -> Answer:
        return await self.send(ask(*arguments, **named))

    return _described(method, ask)


Method = TypeVar("Method", bound=Callable[..., Any])


def _described(method: Method, ask: Callable[..., Any]) -> Method:
    """The method with the operation's name, description and arguments, for `help` and notebooks."""
    method.__name__ = method.__qualname__ = ask.__name__
    method.__doc__ = ask.__doc__
    receiver = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    asked = inspect.signature(ask)
    (answer,) = get_args(asked.return_annotation)
    described: Any = method
    described.__signature__ = asked.replace(parameters=[receiver, *asked.parameters.values()], return_annotation=answer)
    return method


class Client:
    """Waits for each answer. A context manager; `close` ends its connections."""

    def __init__(
        self, url: str, *, key: str | None = None, environment: str | None = None, actor: str | None = None,
        timeout_s: float = TIMEOUT_S, retries: Retries = DEFAULT_RETRIES, http: httpx.Client | None = None,
    ) -> None:  # fmt: skip
        """Nothing is sent yet.

        Args:
            url: of the server, such as `http://localhost:3000`; behind a proxy, with the path under which it has it.
            key: shown as `X-API-Key`.
            environment: whose split decides, and is changed; None: the server's default one.
            actor: who makes changes, for their history; None: the key's name, or this machine's address.
            timeout_s: seconds without a sign of the server after which a request is given up.
            http: sends the requests, with proxies, certificates and limits of its own; it is not closed here.

        Raises `ValueError` for an address, key or name that cannot be one.
        """
        self._asking = _Asking(url, key, environment, actor, timeout_s, retries)
        self._http = httpx.Client() if http is None else http
        self._owns_http = http is None

    @property
    def url(self) -> str:
        """The server's address, without a slash at its end."""
        return self._asking.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        if self._owns_http:
            self._http.close()

    def send(self, operation: Operation[Answer]) -> Answer:
        """Send any operation: what the other methods do with theirs. Raises `ShokadoError`."""
        attempts = self._asking.attempts(operation)
        while True:
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = self._http.request(**self._asking.request(operation, attempts.begin()))
            except httpx.TransportError as error:
                outcome = error
            wait_s = attempts.wait_after(outcome)
            if wait_s is None:
                return self._asking.settled(operation, outcome)
            time.sleep(wait_s)

    predict = _sent(operations.predict)
    explain = _sent(operations.explain)
    split = _sent(operations.split)
    change_split = _sent(operations.change_split)
    preview_split = _sent(operations.preview_split)
    preview_recent = _sent(operations.preview_recent)
    rollback = _sent(operations.rollback)
    history = _sent(operations.history)
    feedback = _sent(operations.feedback)
    feedback_batch = _sent(operations.feedback_batch)
    versions = _sent(operations.versions)
    version = _sent(operations.version)
    examples = _sent(operations.examples)
    load = _sent(operations.load)
    unload = _sent(operations.unload)
    activate = _sent(operations.activate)
    metrics = _sent(operations.metrics)
    drift = _sent(operations.drift)
    experiments = _sent(operations.experiments)
    experiment = _sent(operations.experiment)
    experiment_effects = _sent(operations.experiment_effects)
    start_experiment = _sent(operations.start_experiment)
    stop_experiment = _sent(operations.stop_experiment)

    def generations(self, *, page: int = _PAGE) -> Iterator[HistoryEntry]:
        """The whole history, newest first, asked for in pages of so many as it is read."""
        before: int | None = None
        while entries := self.history(limit=page, before=before).entries:
            yield from entries
            before = entries[-1].generation


class AsyncClient:
    """Is awaited. An async context manager; `aclose` ends its connections."""

    def __init__(
        self, url: str, *, key: str | None = None, environment: str | None = None, actor: str | None = None,
        timeout_s: float = TIMEOUT_S, retries: Retries = DEFAULT_RETRIES, http: httpx.AsyncClient | None = None,
    ) -> None:  # fmt: skip
        """The arguments are those of `Client`."""
        self._asking = _Asking(url, key, environment, actor, timeout_s, retries)
        self._http = httpx.AsyncClient() if http is None else http
        self._owns_http = http is None

    @property
    def url(self) -> str:
        """The server's address, without a slash at its end."""
        return self._asking.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the connections."""
        if self._owns_http:
            await self._http.aclose()

    async def send(self, operation: Operation[Answer]) -> Answer:
        """Send any operation: what the other methods do with theirs. Raises `ShokadoError`."""
        attempts = self._asking.attempts(operation)
        while True:
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = await self._http.request(**self._asking.request(operation, attempts.begin()))
            except httpx.TransportError as error:
                outcome = error
            wait_s = attempts.wait_after(outcome)
            if wait_s is None:
                return self._asking.settled(operation, outcome)
            await asyncio.sleep(wait_s)

    predict = _awaited(operations.predict)
    explain = _awaited(operations.explain)
    split = _awaited(operations.split)
    change_split = _awaited(operations.change_split)
    preview_split = _awaited(operations.preview_split)
    preview_recent = _awaited(operations.preview_recent)
    rollback = _awaited(operations.rollback)
    history = _awaited(operations.history)
    feedback = _awaited(operations.feedback)
    feedback_batch = _awaited(operations.feedback_batch)
    versions = _awaited(operations.versions)
    version = _awaited(operations.version)
    examples = _awaited(operations.examples)
    load = _awaited(operations.load)
    unload = _awaited(operations.unload)
    activate = _awaited(operations.activate)
    metrics = _awaited(operations.metrics)
    drift = _awaited(operations.drift)
    experiments = _awaited(operations.experiments)
    experiment = _awaited(operations.experiment)
    experiment_effects = _awaited(operations.experiment_effects)
    start_experiment = _awaited(operations.start_experiment)
    stop_experiment = _awaited(operations.stop_experiment)

    async def generations(self, *, page: int = _PAGE) -> AsyncIterator[HistoryEntry]:
        """The whole history, newest first, asked for in pages of so many as it is read."""
        before: int | None = None
        while entries := (await self.history(limit=page, before=before)).entries:
            for entry in entries:
                yield entry
            before = entries[-1].generation


def _checked_address(url: str) -> str:
    """The address without slashes at its end. Raises `ValueError`, whose words repeat no credentials."""
    try:
        parsed = httpx.URL(url)
        port = parsed.port
    except httpx.InvalidURL as error:
        raise ValueError(f"the address of the server is none: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host or (port is not None and not 0 < port < 2**16):
        shown = parsed.copy_with(userinfo=b"")
        raise ValueError(f"{shown} is no address of a server; one is http://localhost:3000")
    return url.rstrip("/")


def _encoded(headers: dict[str, str]) -> dict[bytes, bytes]:
    """The headers as UTF-8. Raises `ValueError` for what none can carry; it may be a key, so it is not shown."""
    for name, value in headers.items():
        if value != value.strip() or not value.isprintable():
            raise ValueError(f"{name} cannot be sent: it begins or ends with a space, or has characters that are none")
    return {name.encode(): value.encode() for name, value in headers.items()}
