"""Releases: which manifests were Ready in a cluster, so that one command brings them back.

They are kept where `deploy` finds them, in a Secret of the environment's namespace (manifests may hold Secrets of their
own): the newest that was Ready, the one before it, and one that is being applied and has not become Ready.
"""

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

import yaml

from shokado.lifecycle.errors import DeployFailed
from shokado.lifecycle.rollout.kubectl import Kubectl, Manifest
from shokado.lifecycle.rollout.manifests import Identity, bundle_image, identities

SECRET = "shokado-releases"  # noqa: S105
_MAX_BYTES = 2**20
"""Size of a Secret that Kubernetes takes."""


@dataclass(frozen=True, slots=True)
class Release:
    """All objects of an environment as they were applied together."""

    objects: tuple[Manifest, ...]
    at: str
    """When it was applied, as ISO 8601 in UTC."""

    def __str__(self) -> str:
        image = bundle_image(self.objects)
        return f"the release of {self.at}" + (f" ({image})" if image else "")


@dataclass(frozen=True, slots=True)
class Releases:
    """The releases of one environment in one cluster."""

    ready: Release | None = None
    """The newest that was Ready."""
    before: Release | None = None
    """The one that was Ready before it."""
    attempt: Release | None = None
    """What was begun after that and has not become ready; None: nothing was."""
    strays: frozenset[Identity] = frozenset()
    """Objects of earlier releases that may still be in the cluster."""

    def begun(self, release: Release) -> Self:
        """The releases with that one being applied in place of what is there."""
        there = [known.objects for known in (self.ready, self.before, self.attempt) if known is not None]
        strays = self.strays.union(*(identities(objects) for objects in there))
        return replace(self, attempt=release, strays=strays - identities(release.objects))

    def succeeded(self) -> Self:
        """The releases with what was being applied as the newest that was ready."""
        if self.attempt is None or self.ready is None or self.attempt.objects == self.ready.objects:
            before = self.before
        else:
            before = self.ready
        return replace(self, ready=self.attempt, before=before, attempt=None, strays=frozenset())

    @property
    def superfluous(self) -> frozenset[Identity]:
        """What is to be taken out of the cluster when the attempt has become Ready.

        Not the configuration of the release before it: `kubectl rollout undo` would ask for that.
        """
        kept = [item for item in self.ready.objects if item["kind"] == "ConfigMap"] if self.ready is not None else []
        return self.strays - identities(kept)

    @property
    def way_back(self) -> Release | None:
        """What an undo would bring back: the newest that was Ready, or if that is what is there, the one before."""
        return self.ready if self.attempt is not None else self.before


def read(kubectl: Kubectl, namespace: str) -> Releases:
    """The releases of a namespace. Raises `DeployFailed`."""
    found = kubectl.found("secret", SECRET, f"--namespace={namespace}")
    data = {name: base64.b64decode(text) for name, text in (found or {}).get("data", {}).items()}
    try:
        kept = {name: _unpacked(data[name]) for name in ("ready", "before", "attempt") if name in data}
        strays = json.loads(data.get("strays", b"[]"))
        return Releases(strays=frozenset((api, kind, space, name) for api, kind, space, name in strays), **kept)
    except (ValueError, KeyError, TypeError, OSError, EOFError) as error:
        message = f"Secret {SECRET} in namespace {namespace} is not one that this version of shokado deploy wrote"
        command = f"kubectl --namespace={namespace} delete secret/{SECRET}, which forgets the way back"
        raise DeployFailed(f"{message}: {error}.", command) from error


def keep(kubectl: Kubectl, namespace: str, releases: Releases) -> None:
    """Write them down. Raises `DeployFailed`."""
    named = {"ready": releases.ready, "before": releases.before, "attempt": releases.attempt}
    data = {name: _packed(release) for name, release in named.items() if release is not None}
    data["strays"] = json.dumps(sorted(releases.strays)).encode()
    if sum(map(len, data.values())) > _MAX_BYTES:
        raise DeployFailed(f"The manifests are too many to be kept in a Secret: more than {_MAX_BYTES} bytes, packed.")
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": namespace, "labels": {"app.kubernetes.io/name": "shokado"}},
        "type": "Opaque",
        "data": {name: base64.b64encode(content).decode() for name, content in data.items()},
    }
    options = ["--server-side", "--force-conflicts", "--field-manager=shokado-releases", "--filename=-"]
    kubectl.run("apply", *options, content=yaml.safe_dump(secret))


def release_of(objects: list[Manifest], at: datetime) -> Release:
    """A release that begins now."""
    return Release(tuple(objects), at.isoformat(timespec="seconds").replace("+00:00", "Z"))


def _packed(release: Release) -> bytes:
    content = {"at": release.at, "objects": release.objects}
    return gzip.compress(json.dumps(content, separators=(",", ":")).encode(), mtime=0)


def _unpacked(content: bytes) -> Release:
    found: Mapping[str, Any] = json.loads(gzip.decompress(content))
    return Release(tuple(found["objects"]), found["at"])
