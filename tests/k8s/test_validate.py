"""Validation: everything that can be applied is valid, and what is not would be found."""

from copy import deepcopy
from typing import Any

import pytest

from k8s.validate import FOLDER, VERSIONS, Rendering, RenderingFailed, problems, render, renderings
from tests.k8s.cluster import Cluster


def test_every_object_is_valid(rendered: Cluster) -> None:
    assert rendered.resources
    assert [problem for resource in rendered.resources for problem in problems(resource)] == []


def test_every_folder_is_rendered() -> None:
    targets = {rendering.target for rendering in renderings()}
    assert {f"overlays/{folder.name}" for folder in (FOLDER / "overlays").iterdir()} <= targets
    added = {component for rendering in renderings() for component in rendering.components}
    assert {folder.name for folder in (FOLDER / "components").iterdir()} == added | {"redis"}


def test_three_minor_versions_of_kubernetes_are_checked() -> None:
    assert len({version.rsplit(".", 1)[0] for version in VERSIONS}) == 3


BROKEN: dict[str, tuple[str, list[str | int], Any, str]] = {
    "an unknown field": ("Deployment", ["spec", "replcas"], 2, "replcas"),
    "a wrong type": ("Service", ["spec", "ports", 0, "port"], "many", "spec.ports.0.port"),
    "an unknown field far down": (
        "Deployment", ["spec", "template", "spec", "containers", 0, "livenessProbe", "timeout"], 2, "livenessProbe",
    ),
    "a field that must be there": ("HorizontalPodAutoscaler", ["spec", "scaleTargetRef"], {}, "scaleTargetRef"),
    "an unknown kind": ("Service", ["kind"], "Servce", "Servce"),
    "an unknown field of a custom resource": ("ServiceMonitor", ["spec", "endpoints", 0, "prt"], "http", "prt"),
    "a wrong type in a custom resource": ("PrometheusRule", ["spec", "groups"], {}, "spec.groups"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "path", "value", "said"), BROKEN.values(), ids=BROKEN)
def test_what_is_broken_is_named(
    kind: str, path: list[str | int], value: object, said: str, monitored: Cluster
) -> None:
    resource = deepcopy(monitored.of(kind)[0])
    *parents, last = path
    parent: Any = resource
    for step in parents:
        parent = parent[step]
    parent[last] = value
    found = problems(resource)
    assert found
    assert said in found[0]


def test_what_kustomize_refuses_is_an_error(monitored: Cluster) -> None:
    with pytest.raises(RenderingFailed, match="no-such"):
        render(Rendering("overlays/staging", ("no-such",)))
