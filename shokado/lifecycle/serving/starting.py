"""Serving in one command: an order goes in, and this process becomes the server.

    addresses -> artefacts (`bringing`) -> serving.yaml (`serving_file`) -> split in the store (`beginning`)
              -> `bentoml serve` in place of this process

Whatever is refused, or interrupted, before the last step leaves imported versions at most.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from configuration.settings import FILE_VARIABLE, SettingsError, load_settings
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.importing import registry
from shokado.lifecycle.isolation import ProcessLimits
from shokado.lifecycle.serving import serving_file
from shokado.lifecycle.serving.beginning import begin
from shokado.lifecycle.serving.bringing import Brought, bring_isolated
from shokado.lifecycle.serving.order import ServeOrder

SERVICE = "service:Shokado"


@dataclass(frozen=True)
class Written:
    """The configuration of an order."""

    versions: list[Brought]
    new: bool
    """Whether the file has changed, or was not there."""


def write_configuration(order: ServeOrder, limits: ProcessLimits) -> Written:
    """Import the order's versions, and let its file say them. Raises `LifecycleError`."""
    refuse_without_service()
    serving_file.refuse_edited(order)
    brought = bring_isolated(order, limits)
    return Written(brought, serving_file.write(order.file, serving_file.text_of(order, brought)))


def settle_split(order: ServeOrder) -> str:
    """Let the server begin with the split that the order means, and say in words which that is.

    Raises `LifecycleError`, also for what is wrong with the order's file or the environment.
    """
    refuse_without_service()
    if not order.file.is_file():
        raise LifecycleError(f"There is no file {order.file}; with the addresses of versions before it, it is written.")
    try:
        settings = load_settings(order.file)
    except SettingsError as error:
        raise LifecycleError(str(error)) from error
    if order.addresses and settings.model != order.name:
        raise LifecycleError(f"SHOKADO_MODEL is {settings.model}, and the versions are of {order.name}: unset it.")
    state = begin(settings, registry.PROJECT, anew=order.replace)
    split = state.environments[state.default_environment]
    shares = ", ".join(f"{version} {100 * split.shares.get(version, 0):.3g} %" for version in split.weights)
    if split.weights == settings.environments[settings.default_environment].weights:
        return shares
    return f"{shares}, as it was left in {settings.store.replace('{model}', settings.model)} (--replace begins anew)"


def become_server(order: ServeOrder) -> NoReturn:
    """Run `bentoml serve` in place of this process, whose id, signals and exit code are the server's from here on."""
    program = str(Path(sys.executable).with_name("bentoml"))
    where = ["--host", order.host, "--port", str(order.port)]
    # Before the folder is another one, from which a relative path would lead elsewhere.
    environment = os.environ | {FILE_VARIABLE: str(order.file)}
    serving_file.lock(order.file)
    sys.stdout.flush()
    os.chdir(registry.PROJECT)
    os.execve(program, [program, "serve", SERVICE, *where], environment)  # noqa: S606  # no shell is wanted


def refuse_without_service() -> None:
    """Raise `LifecycleError` where there is nothing to serve with, as beside an installed package."""
    if not (registry.PROJECT / "service.py").is_file():
        raise LifecycleError(f"There is no service.py in {registry.PROJECT}: run this in a checkout of the project.")
