"""The control app: everything that is not a prediction. In: the parts of this worker. Out: an ASGI app.

One file for each kind of route; here they are put together.
"""

from collections.abc import Collection

from fastapi import FastAPI
from starlette.types import ASGIApp

from shokado.control import (
    ab_test,
    batch_routes,
    dashboard,
    drift_route,
    experiment_effects,
    experiments,
    explanation,
    feedback,
    health,
    history,
    log_rows,
    quality,
    recent_preview,
    rollout_verdict,
    split,
    split_preview,
    version_examples,
    versions,
)
from shokado.control import open_inference_metadata as open_inference
from shokado.control import version_metrics as statistics
from shokado.control.control_app import Served, routed_app, served_app
from shokado.control.control_first import ControlFirst
from shokado.control.pages import dashboard_page, documentation_page, front_page
from shokado.worker.parts import Control

_FILES = (
    split, split_preview, recent_preview, history, explanation, versions, version_examples, ab_test, experiments,
    experiment_effects, rollout_verdict, quality, feedback, statistics, dashboard, drift_route, log_rows,
    batch_routes, health, open_inference, front_page, dashboard_page,
    documentation_page,
)  # fmt: skip


def control_first(app: ASGIApp, gateway: Served, apis: Collection[str]) -> ASGIApp:
    """The control routes of this worker, and behind them BentoML's `app`, which answers the routes `apis` itself."""
    return ControlFirst(app, served_app(gateway, _FILES), gateway.predictions, apis)


def create_app(control: Control) -> FastAPI:
    """The app with all routes; those that need a worker answer 503 until `control.parts` is set."""
    return routed_app(control, _FILES)
