"""Versions in the manifests: one comes or goes in all files together, or in none.

refusals --> edits --> made in a copy of the folder --> rendered and checked there --> written

The cluster follows with the next `shokado deploy`, which also deletes what is gone.
"""

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from configuration.settings import SettingsError, load_settings
from shokado.lifecycle.errors import LifecycleError, ManifestsRefused
from shokado.lifecycle.progress import step
from shokado.lifecycle.rollout.deploying import hold_to_schemas
from shokado.lifecycle.rollout.gateway_client import GatewayClient
from shokado.lifecycle.rollout.kubectl import Manifest
from shokado.lifecycle.rollout.manifests import OVERLAYS, namespace_of, render
from shokado.lifecycle.rollout.version_files import (
    PREFIX,
    Changes,
    additions,
    exclusive,
    gateway_files,
    is_version,
    mentions,
    put,
    removals,
    write,
)

FOLDER = OVERLAYS.parent
MAX_NAME_CHARACTERS = 63 - len(PREFIX)
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_COMPONENT, _VERSION = "app.kubernetes.io/component", "app.kubernetes.io/version"


@dataclass(frozen=True, slots=True)
class OverlayEnvironment:
    """What an overlay makes of the manifests."""

    name: str
    """The overlay's name."""
    namespace: str
    calls_itself: str
    """The gateways' default environment."""
    routed: frozenset[str]
    """The versions that the gateways ask."""
    run: frozenset[str]
    """The versions that have runners."""
    objects: tuple[Manifest, ...]

    def has(self, version: str) -> bool:
        return version in self.routed | self.run


@dataclass(frozen=True, slots=True)
class Edit:
    """What was changed."""

    files: tuple[str, ...]
    """`added k8s/base/v3/serving.yaml`, one a file."""
    environments: tuple[str, ...]
    """The environments that it is in, or was."""


def add(version: str, tag: str | None = None, folder: Path = FOLDER) -> Edit:
    """Write a version into the manifests of all environments, without traffic. Raises `LifecycleError`.

    Args:
        tag: its artefact's in the image's BentoML store; None: `<model>:<version>`.
    """
    with exclusive(folder), _explained(folder):
        _require_name(version)
        environments = _environments(folder)
        names = {
            f"{item['kind']} {item['metadata']['name']}"
            for environment in environments
            for item in environment.objects
            if item["metadata"]["name"] == PREFIX + version
        }
        if taken := mentions(folder, version) or sorted(names):
            raise ManifestsRefused(f"{version} is in the manifests already: {', '.join(taken)}.")
        changes = additions(folder, version, tag)
        _check(folder, changes, lambda after: version in after.routed and version in after.run)
        return Edit(write(folder, changes), tuple(each.name for each in environments))


def remove(
    version: str, gateways: Sequence[GatewayClient], unasked: Collection[str] = (), folder: Path = FOLDER
) -> Edit:
    """Take a version that has no traffic out of the manifests of all environments. Raises `LifecycleError`.

    Args:
        gateways: one of each environment that it is in; they say whether it has traffic.
        unasked: environments (their overlays) without gateways that run.
    """
    with exclusive(folder), _explained(folder):
        _require_name(version)
        environments = _environments(folder)
        if not mentions(folder, version):
            known = sorted(frozenset[str]().union(*(each.routed for each in environments)))
            raise ManifestsRefused(f"There is no version {version} in the manifests; there are {', '.join(known)}.")
        if (folder / "base" / version).exists() and not is_version(folder, version):
            raise ManifestsRefused(f"{folder.name}/base/{version} is not the folder of a version.")
        if unknown := sorted(set(unasked) - {each.name for each in environments}):
            raise ManifestsRefused(f"There is no environment {', '.join(unknown)} in {folder / 'overlays'}.")
        _require_no_split(folder, version)
        concerned = [each for each in environments if each.has(version)]
        _require_no_traffic(version, gateways, [each for each in concerned if each.name not in unasked])
        changes = removals(folder, version)
        _check(folder, changes, lambda after: not after.has(version))
        return Edit(write(folder, changes), tuple(each.name for each in concerned))


def _require_name(version: str) -> None:
    if not _LABEL.fullmatch(version) or len(version) > MAX_NAME_CHARACTERS:
        raise ManifestsRefused(
            f"{version!r} cannot name a version here, as it becomes a part of a Service's name: a to z, 0 to 9 and,"
            f" between them, -; at most {MAX_NAME_CHARACTERS} of them."
        )


def _require_no_split(folder: Path, version: str) -> None:
    for file in gateway_files(folder):
        for name, environment in load_settings(folder / file).environments.items():
            uses = {
                "as the active version": environment.active == version,
                "in the weights": version in environment.weights,
                "as the shadow": environment.shadow == version,
            }
            for use in (use for use, is_so in uses.items() if is_so):
                raise ManifestsRefused(
                    f"{folder.name}/{file} names {version} {use} of {name}, by which a new store begins:"
                    " take it out there first."
                )


def _require_no_traffic(
    version: str, gateways: Sequence[GatewayClient], environments: Sequence[OverlayEnvironment]
) -> None:
    told = Counter[str]()
    for gateway in {gateway.url: gateway for gateway in gateways}.values():
        if uses := gateway.uses_of(version):
            message = f"{version} has traffic, by the gateway at {gateway.url}: {', '.join(uses)}."
            raise ManifestsRefused(message, f"shokado canary status --url {gateway.url}")
        told[gateway.routing().environment] += 1
    silent = []
    for environment in environments:
        if told[environment.calls_itself] > 0:
            told[environment.calls_itself] -= 1
        else:
            silent.append(environment)
    if silent:
        raise ManifestsRefused(
            f"No gateway has said whether {version} has traffic in {' and '.join(each.name for each in silent)}: name"
            " one of each by --url, or, for an environment that has none, its name by --unasked.",
            f"kubectl --namespace={silent[0].namespace} port-forward service/{PREFIX}gateway 3000",
        )


def _check(folder: Path, changes: Changes, is_as_meant: Callable[[OverlayEnvironment], bool]) -> None:
    """Check that every environment is as it is meant to be after the changes, and valid. Raises `LifecycleError`."""
    with tempfile.TemporaryDirectory(prefix="shokado-k8s-") as scratch:
        copy = Path(scratch) / folder.name
        shutil.copytree(folder, copy)
        for path, content in changes.items():
            put(copy / path, content)
        with _explained(copy, folder):
            for file in (*copy.glob("base/*/serving.yaml"), *copy.glob("overlays/*/serving.yaml")):
                load_settings(file)
            for environment in _environments(copy):
                if not is_as_meant(environment):
                    raise ManifestsRefused(
                        f"{environment.name} has versions that are named elsewhere than in base/kustomization.yaml and"
                        f" {' and '.join(map(str, gateway_files(folder)))}: edit them by hand."
                    )
                hold_to_schemas(list(environment.objects))


def _environments(folder: Path) -> list[OverlayEnvironment]:
    overlays = folder / "overlays"
    names = sorted(path.parent.name for path in overlays.glob("*/kustomization.yaml"))
    with step(f"render {', '.join(names)}"):
        return [_environment(name, render(name, overlays=overlays)) for name in names]


def _environment(name: str, objects: list[Manifest]) -> OverlayEnvironment:
    texts = [
        item["data"]["serving.yaml"]
        for item in objects
        if item["kind"] == "ConfigMap" and re.fullmatch(rf"{PREFIX}gateway-[a-z0-9]{{10}}", item["metadata"]["name"])
    ]
    content = yaml.safe_load(texts[0]) if len(texts) == 1 else {}
    pods = [item["spec"]["template"]["metadata"]["labels"] for item in objects if item["kind"] == "Deployment"]
    return OverlayEnvironment(
        name,
        namespace_of(objects),
        content.get("default_environment", "production"),
        frozenset(content.get("versions", {})),
        frozenset(labels.get(_VERSION, "") for labels in pods if labels.get(_COMPONENT) == "runner"),
        tuple(objects),
    )


@contextmanager
def _explained(folder: Path, shown: Path | None = None) -> Iterator[None]:
    """What is wrong with the files is said in a line, by the folder that the user knows."""
    shown = shown or folder
    try:
        yield
    except (OSError, UnicodeDecodeError, yaml.YAMLError, SettingsError) as error:
        text = str(error).replace(str(folder), str(shown))
        use = "cannot be used" if shown == folder else "could not be used then"
        raise ManifestsRefused(f"The manifests in {shown} {use}: {text}") from error
    except LifecycleError as error:
        raise ManifestsRefused(str(error).replace(str(folder), str(shown)), error.next_command) from error
