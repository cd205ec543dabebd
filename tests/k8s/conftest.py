"""Renderings, made once each; without kubectl there are none."""

import pytest

from k8s.validate import NOT_THERE, Rendering, has_kubectl, renderings
from tests.k8s.cluster import Cluster

APPLICABLE = [rendering for rendering in renderings() if rendering.target]
"""All that have pods of ours."""
OVERLAYS = [rendering for rendering in APPLICABLE if rendering.target.startswith("overlays/")]


def _cluster(rendering: Rendering) -> Cluster:
    if not has_kubectl():
        pytest.skip(NOT_THERE)
    return Cluster(rendering)


@pytest.fixture(params=renderings(), ids=str)
def rendered(request: pytest.FixtureRequest) -> Cluster:
    """Whatever can be rendered."""
    return _cluster(request.param)


@pytest.fixture(params=OVERLAYS, ids=str)
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """An overlay, as it is or with a component."""
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
