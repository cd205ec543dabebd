"""Manifests: an environment's folder under `k8s/overlays` goes in, the objects come out, and what they need and hold.

Rendered by the kustomize inside kubectl; no cluster is asked.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lifecycle.errors import LifecycleError
from lifecycle.kubectl import Kubectl, Manifest

OVERLAYS = Path(__file__).resolve().parents[1] / "k8s" / "overlays"
IMAGE = "shokado"
"""The last part of the repository of the images that `--image` replaces."""
_WORKLOADS = ("StatefulSet", "Deployment")
_PINNED = re.compile(r".+(:(?!latest$)[\w][\w.-]{0,127}|@sha256:[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Workload:
    """Something that has pods and is rolled out."""

    kind: str
    name: str
    namespace: str
    labels: Mapping[str, str]
    """That its pods have."""

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name}"


def render(environment: str, image: str | None = None, overlays: Path | None = None) -> list[Manifest]:
    """The objects of an environment. Raises `LifecycleError`.

    Args:
        image: takes the place of every image `shokado`; it names a tag that is not `latest`, or a digest.
    """
    overlays = overlays or OVERLAYS
    folder = overlays / environment
    if not (folder / "kustomization.yaml").is_file():
        known = ", ".join(sorted(path.parent.name for path in overlays.glob("*/kustomization.yaml"))) or "none"
        raise LifecycleError(f"There is no environment {environment} in {overlays}; there are: {known}.")
    if image is not None and not _PINNED.fullmatch(image):
        raise LifecycleError(f"The image {image} names no version: add its tag, other than latest, or its digest.")
    objects = [item for item in yaml.safe_load_all(Kubectl().run("kustomize", str(folder))) if item]
    for container in _containers(objects) if image is not None else ():
        if _repository(container["image"]).rpartition("/")[2] == IMAGE:
            container["image"] = image
    return objects


def workloads(objects: list[Manifest]) -> list[Workload]:
    """In the order in which they are waited for: a gateway is ready only when its runners and its store are."""
    found = [
        Workload(
            item["kind"],
            item["metadata"]["name"],
            item["metadata"].get("namespace", "default"),
            item["spec"]["selector"]["matchLabels"],
        )
        for item in objects
        if item["kind"] in _WORKLOADS
    ]
    return sorted(
        found,
        key=lambda item: (item.labels.get("app.kubernetes.io/component") == "gateway", _WORKLOADS.index(item.kind)),
    )


def services(objects: list[Manifest]) -> list[tuple[str, str]]:
    """(namespace, name) of each Service that chooses pods."""
    return [
        (item["metadata"].get("namespace", "default"), item["metadata"]["name"])
        for item in objects
        if item["kind"] == "Service" and item["spec"].get("selector")
    ]


def needed_secrets(objects: list[Manifest]) -> dict[tuple[str, str], set[str]]:
    """The keys of each Secret that pods cannot start without, by (namespace, name), unless it is among the objects."""
    needed: dict[tuple[str, str], set[str]] = {}
    for item in objects:
        namespace = item["metadata"].get("namespace", "default")
        for name, key in _secret_keys(item["spec"]["template"]["spec"]) if item["kind"] in _WORKLOADS else ():
            needed.setdefault((namespace, name), set()).update([key] if key else [])
    for item in objects:
        if item["kind"] == "Secret":
            needed.pop((item["metadata"].get("namespace", "default"), item["metadata"]["name"]), None)
    return needed


def _secret_keys(pod: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """(Secret, key) that a pod names; no key where it takes them all."""
    for volume in pod.get("volumes", []):
        secret = volume.get("secret")
        if secret and not secret.get("optional"):
            keys = [entry["key"] for entry in secret.get("items", [])]
            yield from ((secret["secretName"], key) for key in keys or [None])
    for container in _of_pod(pod):
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if reference and not reference.get("optional"):
                yield reference["name"], reference["key"]


def _containers(objects: list[Manifest]) -> Iterator[dict[str, Any]]:
    for item in objects:
        if item["kind"] in _WORKLOADS:
            yield from _of_pod(item["spec"]["template"]["spec"])


def _of_pod(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def _repository(image: str) -> str:
    """`registry:5000/team/shokado` of `registry:5000/team/shokado:1.0@sha256:..`."""
    path, slash, name = image.partition("@")[0].rpartition("/")
    return f"{path}{slash}{name.partition(':')[0]}"
