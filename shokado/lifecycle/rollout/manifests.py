"""Manifests: an environment's folder under `k8s/overlays` goes in, the objects come out, and what they need and hold.

Rendered by the kustomize inside kubectl; no cluster is asked.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.rollout.kubectl import Kubectl, Manifest

OVERLAYS = Path(__file__).resolve().parents[3] / "k8s" / "overlays"
IMAGE = "shokado"
"""The last part of the repository of the images that `--image` replaces."""
Identity = tuple[str, str, str, str]
"""(apiVersion, kind, namespace, name)."""
_WORKLOADS = ("StatefulSet", "Deployment")
_PINNED = re.compile(r".+(:(?!latest$)[\w][\w.-]{0,127}|@sha256:[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Workload:
    """Something that has pods and is rolled out."""

    kind: str
    name: str
    namespace: str
    labels: Mapping[str, str]
    """Labels that its pods have."""

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
    if image is not None:
        refuse_unpinned(image)
    objects = [item for item in yaml.load_all(Kubectl().run("kustomize", str(folder)), yaml.CSafeLoader) if item]
    for container in _containers(objects) if image is not None else ():
        if _repository(container["image"]).rpartition("/")[2] == IMAGE:
            container["image"] = image
    return objects


def refuse_unpinned(image: str) -> None:
    """Raise `LifecycleError` for an image without a digest, and without a tag other than `latest`."""
    if not _PINNED.fullmatch(image):
        raise LifecycleError(f"The image {image} names no version: add its tag, other than latest, or its digest.")


def identity(item: Manifest) -> Identity:
    """What a cluster tells an object from all others by."""
    metadata = item["metadata"]
    return item["apiVersion"], item["kind"], metadata.get("namespace", ""), metadata["name"]


def identities(objects: Iterable[Manifest]) -> frozenset[Identity]:
    """Identities of what may be taken away again: all but namespaces, which hold what others put there."""
    return frozenset(identity(item) for item in objects if item["kind"] != "Namespace")


def namespace_of(objects: list[Manifest]) -> str:
    """The namespace of an environment."""
    named = (item["metadata"].get("namespace") for item in objects)
    return next((name for name in named if name), "default")


def bundle_image(objects: Iterable[Manifest]) -> str | None:
    """What the gateways and the runners are made of; None where there are several, or no image."""
    images = {container["image"] for container in _containers(objects)}
    ours = {image for image in images if _repository(image).rpartition("/")[2] == IMAGE}
    return ours.pop() if len(ours) == 1 else None


def within(objects: list[Manifest], seconds: float) -> list[Manifest]:
    """The objects with as much time for the progress of each Deployment as a deploy waits for it."""
    return [
        item | {"spec": item["spec"] | {"progressDeadlineSeconds": _deadline(item["spec"], seconds)}}
        if item["kind"] == "Deployment"
        else item
        for item in objects
    ]


def _deadline(spec: Mapping[str, Any], seconds: float) -> int:
    least: int = spec.get("minReadySeconds", 0) + 1
    return max(math.ceil(seconds), least)


def workloads(objects: list[Manifest]) -> list[Workload]:
    """The workloads in the order of waiting: a gateway is ready only when its runners and its store are."""
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


def _containers(objects: Iterable[Manifest]) -> Iterator[dict[str, Any]]:
    for item in objects:
        if item["kind"] in _WORKLOADS:
            yield from _of_pod(item["spec"]["template"]["spec"])


def _of_pod(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def _repository(image: str) -> str:
    """`registry:5000/team/shokado` of `registry:5000/team/shokado:1.0@sha256:..`."""
    path, slash, name = image.partition("@")[0].rpartition("/")
    return f"{path}{slash}{name.partition(':')[0]}"
