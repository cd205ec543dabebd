"""An instance of a function: the parts that answer in one process, which runs only while it answers.

event --> request --> (what others changed, if that was not looked at lately) --> ASGI app --> answer
                                               (what was counted is put into the store) --^

What a server does between requests is done before an answer, behind it, or not at all: an instance reports nothing,
judges nothing and forgets nothing in a store that it shares. That is the work of the servers beside it.
"""

import asyncio
import faulthandler
import json
import logging
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from starlette.types import ASGIApp

from configuration.function_settings import is_shared
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import Card
from runners.engines.watchdog import Watchdog
from runners.inputs.rows import RowReader
from runners.runner import Runner
from shokado.access.gate import Gate
from shokado.dialects.dialect import Dialect
from shokado.dialects.problem import Problem, problem_of
from shokado.dispatch.dispatcher import Dispatcher
from shokado.dispatch.explainer import Explainer
from shokado.dispatch.observers import Observers
from shokado.dispatch.opening_cache import open_cache
from shokado.dispatch.state import RoutingState, VersionReport, initial_state
from shokado.experiments.prediction_id import PredictionIds
from shokado.function.asgi_call import call
from shokado.function.bundle import Bundle
from shokado.function.function_app import function_app
from shokado.function.gateway_event import EventAnswer, EventRequest, answer_event, kind_of, read_event
from shokado.stores.follower import Follower
from shokado.stores.store import Entry
from shokado.transports.body_quota import BodyQuota
from shokado.transports.call import Entrance
from shokado.transports.exchange import new_id
from shokado.transports.plain import Predictions
from shokado.transports.prediction_handlers import behind, dialects_of, prediction_handlers
from shokado.transports.routes import Routes
from shokado.worker.parts import Control

if TYPE_CHECKING:
    from shokado.function.shared_store import SharedStore

_DEADLINE = b"x-request-deadline-ms"
_MARGIN_MS = 100
"""Time that is left for an answer when a deadline has passed, before the function itself is ended."""
_MAX_ANSWER_BYTES = 6 * 2**20
"""Size of an answer as JSON; see "Lambda quotas" in the Lambda developer guide."""
_STDERR = 2

logger = logging.getLogger("bentoml.shokado")


class Instance:
    """Make one per process, on its event loop, and `start` it."""

    def __init__(self, bundle: Bundle) -> None:
        settings, loop = bundle.settings, asyncio.get_running_loop()
        self.bundle = bundle
        self.observers = Observers(loop.call_later)
        folder = Path(tempfile.gettempdir())
        watch = Watchdog(folder, _end)
        self.runners = {
            version: Runner(
                version, found.card, found.folder, settings.versions[version], settings.batching, watch, _end
            )
            for version, found in bundle.artefacts.items()
        }
        nowhere = RoutingState(0, {}, settings.default_environment)
        cache = open_cache(settings, loop.call_soon)
        self.dispatcher = Dispatcher({}, settings.aliases, nowhere, cache, self.observers)
        self.dispatcher.row_format = bundle.row_format
        self.ids = PredictionIds(bundle.secret or secrets.token_bytes(32), settings.feedback.max_age_hours * 3600)
        self.predictions = Predictions(settings.limits.max_body_bytes, BodyQuota(settings.limits.receiving_bytes))
        self.control = Control(settings, bundle.gate, self.predictions.body_quota)
        self.store = self._shared_store() if is_shared(settings) else None
        self._told: set[str] = set()
        """Versions of which the log says that servers have others by now."""
        self._app = function_app(settings, self.predictions, self._make_control)

    @property
    def row_format(self) -> RowReader:
        """How requests are read."""
        return self.bundle.row_format

    @property
    def card(self) -> Card:
        return self.bundle.card

    @property
    def gate(self) -> Gate:
        return self.bundle.gate

    @property
    def dialects(self) -> list[Dialect]:
        """The dialects of what the versions take; the last one is that of explanations."""
        return dialects_of(self.row_format, self.bundle.settings)

    @property
    def artefacts(self) -> Mapping[str, Artefact]:
        return self.bundle.artefacts

    def versions(self) -> dict[str, VersionReport]:
        """How each version is here."""
        return {
            version: VersionReport(self.artefacts[version].digest, runner.state, runner.failure, 0.0)
            for version, runner in self.runners.items()
        }

    def candidates(self) -> dict[str, VersionReport]:
        """None: an instance has the versions that it was built with."""
        return {}

    async def start(self) -> None:
        """Get all versions ready, and learn the routing. Raises what is wrong with a version."""
        for runner in self.runners.values():
            await runner.start(self.observers)
        if self.store is None:
            self._route(initial_state(self.bundle.settings))
        else:
            self.observers.subscribe(predictions=self.store.observers)
            await self.store.start()
        settings = self.bundle.settings
        entrance = Entrance(self.dispatcher, self.observers, self.ids, settings.limits.max_body_bytes)
        explainer = Explainer(settings.explanations, lambda: self.artefacts, lambda: self.runners)
        handlers = prediction_handlers(entrance, explainer, self.row_format, settings)
        self.predictions.routes = Routes(behind(self.bundle.gate, handlers), settings.model)

    async def answer(self, event: Any, context: Any = None) -> dict[str, Any]:
        """The answer to an event. Raises `NotHttp` for one whose sender could not read an answer.

        `context` is Lambda's, which says how much time is left; None: as much as is wanted.
        """
        kind = kind_of(event)
        try:
            request = read_event(event, kind)
        except Problem as problem:
            return answer_event(_refusal(problem), kind)
        if self.store is not None:
            await self.store.refresh()
        answer = await self._answer(_with_deadline(request, context))
        if self.store is not None:
            self.observers.tell()
            await self.store.add()
        said = answer_event(answer, kind)
        return answer_event(_too_large(), kind) if _exceeds(said) else said

    async def _answer(self, request: EventRequest) -> EventAnswer:
        try:
            return await call(self._app, request)
        except Exception as error:
            logger.exception("%s %s failed", request.method, request.path)
            return _refusal(problem_of(error))

    def _shared_store(self) -> "SharedStore":
        # Only where it is used: it takes a while to import.
        from shokado.function.shared_store import SharedStore
        from shokado.stores.opening import open_store

        settings = self.bundle.settings
        store = open_store(settings.store, settings.model, Path())
        name = f"{os.environ.get('AWS_LAMBDA_FUNCTION_NAME', 'function')}-{secrets.token_hex(8)}"
        return SharedStore(store, self.bundle, self.dispatcher, self.ids, name, self._adopt)

    async def _make_control(self) -> ASGIApp:
        from shokado.function.function_control import control_of_function

        if self.store is not None:
            follower, seals = self.store.follower, self.store.seals
        else:
            follower, seals = await self._own_follower(), None
        return control_of_function(self, self.dispatcher, follower, self, self.ids, seals)

    async def _own_follower(self) -> Follower:
        """A follower of a store that only this instance has, which says what is configured and is never changed."""
        from shokado.function.shared_store import follower_of
        from shokado.stores.sqlite_store import SqliteStore

        path = Path(tempfile.gettempdir()) / f"shokado-{os.getpid()}-{secrets.token_hex(4)}.db"
        follower = follower_of(SqliteStore(path), self.bundle, lambda _: None)
        await follower.look()
        return follower

    def _adopt(self, entry: Entry) -> None:
        self._route(entry.state)

    def _route(self, state: RoutingState) -> None:
        """Go by this routing from the next request on, with the versions that are what it has loaded under their names.

        For others, which servers have loaded since this function was built, the active version answers.
        """
        here = {version: runner for version, runner in self.runners.items() if self._is_loaded(version, state)}
        if gone := self.runners.keys() - here.keys() - self._told:
            logger.warning("servers have loaded other models as %s: build this function anew", ", ".join(sorted(gone)))
        self._told = self.runners.keys() - here.keys()
        self.dispatcher.adopt(state, here, self.runners)
        if self.store is not None:
            self.store.evidence.adopt(state)

    def _is_loaded(self, version: str, state: RoutingState) -> bool:
        """Whether the version is in memory by this routing, and the same artefact as here."""
        load = state.loads.get(version)
        return load is None or (load.in_memory and load.digest == self.artefacts[version].digest)


def _with_deadline(request: EventRequest, context: Any) -> EventRequest:
    """The request, to be answered before the function is ended; what its client wants sooner, it says itself."""
    left_ms = getattr(context, "get_remaining_time_in_millis", None)
    if left_ms is not None and all(name != _DEADLINE for name, _ in request.headers):
        request.headers.append((_DEADLINE, b"%d" % max(1, left_ms() - _MARGIN_MS)))
    return request


def _exceeds(answer: dict[str, Any]) -> bool:
    """Whether Lambda would not pass the answer on, in whose place its client would get a 502."""
    # In JSON, a character of a body has two at most, but for a few that no answer has many of.
    return len(answer["body"]) > _MAX_ANSWER_BYTES / 2 and len(json.dumps(answer)) > _MAX_ANSWER_BYTES


def _too_large() -> EventAnswer:
    message = f"the answer has more than the {_MAX_ANSWER_BYTES} bytes that Lambda takes: ask for fewer rows at a time"
    return _refusal(Problem("too_many_rows", message, {"limit_bytes": _MAX_ANSWER_BYTES}))


def _refusal(problem: Problem) -> EventAnswer:
    request_id = new_id()
    headers = [(b"content-type", b"application/json"), (b"x-request-id", request_id.encode())]
    return EventAnswer(problem.status, headers, problem.body(request_id))


def _end(why: str) -> NoReturn:
    """End this process at once, from any thread; the next request gets another one."""
    logger.error("this instance ends, to be replaced by another one: %s", why)
    faulthandler.dump_traceback(file=_STDERR, all_threads=True)
    os._exit(1)
