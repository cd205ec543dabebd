"""Renderings, made once each; without kubectl there are none."""

import shutil
from dataclasses import dataclass

import pytest

from k8s.custom_resources import Resource
from k8s.validate import FOLDER, NOT_THERE, Rendering, has_kubectl, renderings
from shokado.lifecycle.rollout import manifests, version_manifests
from tests.k8s.cluster import Cluster

OVERLAYS = [rendering for rendering in renderings() if rendering.target.startswith("overlays/")]


def _cluster(rendering: Rendering) -> Cluster:
    if not has_kubectl():
        pytest.skip(NOT_THERE)
    return Cluster(rendering)


@pytest.fixture(params=renderings(), ids=str)
def rendered(request: pytest.FixtureRequest) -> Cluster:
    """Whatever can be rendered."""
    return _cluster(request.param)


@dataclass(frozen=True)
class Grown(Cluster):
    """What manifests become by `shokado k8s add-version`."""

    grown: tuple[Resource, ...]

    @property
    def resources(self) -> tuple[Resource, ...]:
        return self.grown


@pytest.fixture(scope="session")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Staging with a version more."""
    staging = _cluster(Rendering("overlays/staging"))
    folder = tmp_path_factory.mktemp("grown") / "k8s"
    shutil.copytree(FOLDER, folder)
    version_manifests.add("v9", folder=folder)
    return Grown(staging.rendering, tuple(manifests.render("staging", overlays=folder / "overlays")))


@pytest.fixture(params=[*OVERLAYS, "grown"], ids=str)
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """An overlay, as it is, with a component, or with a version more."""
    if request.param == "grown":
        grown: Cluster = request.getfixturevalue("grown")
        return grown
    return _cluster(request.param)


@pytest.fixture(scope="session")
def production() -> Cluster:
    return _cluster(Rendering("overlays/production"))


@pytest.fixture(scope="session")
def staging() -> Cluster:
    return _cluster(Rendering("overlays/staging"))


@pytest.fixture(scope="session")
def monitored() -> Cluster:
    return _cluster(Rendering("overlays/production", ("monitoring", "hpa-inflight")))


@pytest.fixture(scope="session")
def keda() -> Cluster:
    return _cluster(Rendering("overlays/production", ("monitoring", "keda")))


@pytest.fixture(scope="session")
def ingress() -> Cluster:
    return _cluster(Rendering("overlays/production", ("ingress-nginx",)))


@pytest.fixture(scope="session")
def gateway_api() -> Cluster:
    return _cluster(Rendering("overlays/production", ("gateway-api",)))


@pytest.fixture(scope="session")
def yatai() -> Cluster:
    return _cluster(Rendering("", ("yatai",)))
