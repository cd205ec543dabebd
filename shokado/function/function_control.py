"""Control routes of a function: what it serves, the split, feedback; changes only where they reach everybody.

Imported when the first one is asked for: their framework takes as long to import as all that predictions need.
"""

import os
import tempfile
from pathlib import Path
from typing import NoReturn

from fastapi import FastAPI
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from configuration.settings import Settings
from shokado.access.keys import Role
from shokado.control import explanation, feedback, health, history, split, split_preview, versions
from shokado.control import open_inference_metadata as open_inference
from shokado.control.control_app import Served, served_app
from shokado.control.control_first import ControlFirst
from shokado.control.http.authorization import is_changing, role_for
from shokado.control.http.methods import allowed_methods
from shokado.dialects.error_shapes import error_body
from shokado.dialects.head import read_head
from shokado.dialects.problem import Problem
from shokado.dispatch.change import ConflictingChange
from shokado.dispatch.dispatcher import Dispatcher
from shokado.experiments.feedback_collector import FeedbackCollector
from shokado.experiments.prediction_id import PredictionIds
from shokado.experiments.seals import Seals
from shokado.monitoring.statistics import Statistics
from shokado.monitoring.timeline import Timeline
from shokado.stores.follower import Follower
from shokado.stores.tally_sums import TallySums
from shokado.transports.exchange import new_id
from shokado.transports.routes import without_prefix
from shokado.worker.parts import VersionsHere, WorkerParts

_FILES = (explanation, health, history, open_inference, split, split_preview, versions)
_OF_SHARED_STORES = (feedback,)


def control_of_function(
    served: Served,
    dispatcher: Dispatcher,
    follower: Follower,
    fleet: VersionsHere,
    ids: PredictionIds,
    seals: Seals | None,
) -> ASGIApp:
    """The app of these routes. Without `seals` the store is this instance's alone, and nothing of it may be changed."""
    settings = served.control.settings
    # No route here asks for what is measured, of which a server's name is a part.
    folder = Path(tempfile.gettempdir()) / f"shokado-function-{os.getpid()}-0"
    shared = seals is not None
    served.control.parts = WorkerParts(
        dispatcher,
        follower,
        fleet,
        _NoLoader(),
        FeedbackCollector(
            follower,
            ids,
            lambda: {version: artefact.card for version, artefact in fleet.artefacts.items()},
            settings.feedback.max_age_hours * 3600,
            seals.look_again if seals is not None else _nothing_new,
        ),
        Timeline(Statistics(folder)),
        folder,
        TallySums(follower.store),
    )
    app = served_app(served, (*_FILES, *_OF_SHARED_STORES) if shared else _FILES)
    first = ControlFirst(PlainTextResponse("", 404), app, served.predictions, ())
    return first if shared and served.gate.watch is not None else _WithoutChanges(first, app, settings)


async def _nothing_new() -> bool:
    return True


class _NoLoader:
    """Loads and unloads nothing."""

    async def load(self, version: str, uri: str | None, by: str, why: str = "") -> NoReturn:  # noqa: ARG002
        raise _fixed(version)

    async def unload(self, version: str, by: str, why: str = "") -> NoReturn:  # noqa: ARG002
        raise _fixed(version)


def _fixed(version: str) -> ConflictingChange:
    message = f"{version}: a function has the versions that it was built with; build another one: shokado lambda build"
    return ConflictingChange("cannot_load_here", message)


class _WithoutChanges:
    """ASGI middleware: refuses what would change an instance alone, or could be changed by anybody."""

    def __init__(self, app: ASGIApp, control_app: FastAPI, settings: Settings) -> None:
        """`control_app` has the routes; what is none, or is asked by another method, `app` answers as ever."""
        self._app = app
        self._control = control_app
        self._prefix = settings.prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = without_prefix(scope["path"], self._prefix), scope["method"]
        answer = self._app
        changes = is_changing(method) and role_for(method, path, open_metrics=False) is Role.ADMIN
        if changes and method in allowed_methods(self._control, {**scope, "path": path}):
            request_id = read_head(scope["headers"]).request_id or new_id()
            message = (
                "a function makes changes where it shares a store, and where there are keys: set store to the "
                "redis://.. of servers, and access.keys_file"
            )
            problem = Problem("keys_needed", message)
            headers = {"content-type": "application/json", "x-request-id": request_id}
            answer = Response(error_body(path, problem, request_id), problem.status, headers=headers)
        await answer(scope, receive, send)
