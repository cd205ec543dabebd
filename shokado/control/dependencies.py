"""What routes are given: parts of the worker that answers, and what this server is set up with."""

from typing import Annotated

from fastapi import Depends, Request

from configuration.settings import Settings
from shokado.access.gate import Gate
from shokado.dialects.problem import Problem
from shokado.transports.body_quota import BodyQuota
from shokado.worker.parts import Control, WorkerParts


def control_of(request: Request) -> Control:
    """What all dependencies come from."""
    control: Control = request.app.state.control
    return control


def _gate(request: Request) -> Gate | None:
    return control_of(request).gate


def _settings(request: Request) -> Settings:
    return control_of(request).settings


def _parts(request: Request) -> WorkerParts:
    parts = control_of(request).parts
    if parts is None:
        raise Problem("not_ready", "the server is starting")
    return parts


def _body_quota(request: Request) -> BodyQuota:
    return control_of(request).body_quota


Parts = Annotated[WorkerParts, Depends(_parts)]
FrontGate = Annotated[Gate | None, Depends(_gate)]
Configuration = Annotated[Settings, Depends(_settings)]
Quota = Annotated[BodyQuota, Depends(_body_quota)]
