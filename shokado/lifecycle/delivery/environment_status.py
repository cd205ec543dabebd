"""How an environment does, from outside: versions, shares, verdict, drift, and the pods that serve it.

In: a gateway, and the namespace of a cluster where there is one. Out: a frozen `EnvironmentStatus`. What cannot be
told, such as drift to a key that may only predict, is None with the reason in `untold`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from configuration.sites import EnvironmentSite
from shokado.client import operations
from shokado.client.answers import ExperimentAnswer, Figures, Split, Version, WorkerState
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.rollout.gateway_client import LATELY_S, GatewayClient
from shokado.lifecycle.rollout.kubectl import Kubectl

Told = TypeVar("Told")


@dataclass(frozen=True, slots=True)
class VersionInEnvironment:
    """A version in an environment."""

    version: Version
    is_active: bool
    is_shadow: bool
    share: float
    """Part of the traffic, between 0 and 1."""
    recent: Figures | None
    """What happened within the last minute, at the server that answered."""
    drift: str | None
    """The verdict of the last hour; None where it is not told."""


@dataclass(frozen=True, slots=True)
class WorkloadStatus:
    """A workload of the cluster, and what scales it."""

    name: str
    ready: int
    wanted: int
    scaling: str
    """How many pods it may have and what for, such as `2 to 10, cpu 31 % of 70 %`; empty where nothing scales it."""


@dataclass(frozen=True, slots=True)
class EnvironmentStatus:
    """An environment at one moment."""

    split: Split
    versions: Sequence[VersionInEnvironment]
    workers: Sequence[WorkerState]
    experiment: ExperimentAnswer | None
    """The one under way, or the last that ended."""
    workloads: Sequence[WorkloadStatus]
    untold: Sequence[str]


class _Asking:
    """Keeps what could not be told, each reason once."""

    def __init__(self) -> None:
        self.untold: dict[str, None] = {}

    def maybe(self, ask: Callable[[], Told]) -> Told | None:
        try:
            return ask()
        except LifecycleError as error:
            self.untold.setdefault(str(error))
            return None


def environment_status(gateway: GatewayClient, site: EnvironmentSite) -> EnvironmentStatus:
    """Ask for all of it. Raises `LifecycleError` where the split or the versions are not told."""
    split = gateway.ask(operations.split())
    listed = gateway.ask(operations.versions())
    asking = _Asking()

    def described(version: Version) -> VersionInEnvironment:
        name = version.version
        share = split.shares.get(name, 0.0) if split.enabled else float(name == split.active)
        is_asked = share > 0 or name in (split.active, split.shadow)
        metrics = asking.maybe(lambda: gateway.ask(operations.metrics(name, window_s=LATELY_S))) if is_asked else None
        drift = asking.maybe(lambda: gateway.ask(operations.drift(name))) if is_asked else None
        return VersionInEnvironment(
            version=version,
            is_active=name == split.active,
            is_shadow=name == split.shadow,
            share=share,
            recent=metrics.recent if metrics is not None else None,
            drift=drift.verdict if drift is not None else None,
        )

    versions = [described(version) for version in listed.versions]
    namespace = site.namespace
    workloads = asking.maybe(lambda: workloads_in(Kubectl(site.context), namespace)) if namespace is not None else None
    return EnvironmentStatus(
        split=split,
        versions=sorted(versions, key=lambda one: (-one.share, not one.is_active, one.version.version)),
        workers=listed.workers or (),
        experiment=asking.maybe(lambda: gateway.last_experiment(split.environment)),
        workloads=workloads or (),
        untold=[*asking.untold],
    )


def workloads_in(kubectl: Kubectl, namespace: str) -> list[WorkloadStatus]:
    """The workloads of a namespace, with what scales them. Raises `DeployFailed`."""
    where = f"--namespace={namespace}"
    listed = kubectl.found("deployments,statefulsets,horizontalpodautoscalers", where) or {}
    items = listed.get("items", [])
    scaling = {
        (item["spec"]["scaleTargetRef"]["kind"], item["spec"]["scaleTargetRef"]["name"]): _scaling(item)
        for item in items
        if item["kind"] == "HorizontalPodAutoscaler"
    }
    return [
        WorkloadStatus(
            name=item["metadata"]["name"],
            ready=item.get("status", {}).get("readyReplicas", 0),
            wanted=item.get("spec", {}).get("replicas", item.get("status", {}).get("replicas", 1)),
            scaling=scaling.get((item["kind"], item["metadata"]["name"]), ""),
        )
        for item in items
        if item["kind"] in ("Deployment", "StatefulSet")
    ]


def _scaling(item: Mapping[str, Any]) -> str:
    """What an HPA says of itself: its bounds, and each metric beside its target."""
    spec = item["spec"]
    bounds = f"{spec.get('minReplicas', 1)} to {spec['maxReplicas']}"
    measured = item.get("status", {}).get("currentMetrics") or ()
    current = {_metric_name(one): _metric_value(one, "current") for one in measured}
    named = [(_metric_name(one), _metric_value(one, "target")) for one in spec.get("metrics", ())]
    return ", ".join([bounds, *(f"{name} {current.get(name, '?')} of {target}" for name, target in named)])


def _metric_name(metric: Mapping[str, Any]) -> str:
    kind = str(metric["type"])
    source = metric[kind[0].lower() + kind[1:]]
    return str(source.get("name") or source.get("metric", {}).get("name", kind))


def _metric_value(metric: Mapping[str, Any], side: str) -> str:
    kind = str(metric["type"])
    told = metric[kind[0].lower() + kind[1:]].get(side, {})
    if "averageUtilization" in told:
        return f"{told['averageUtilization']} %"
    return str(told.get("averageValue") or told.get("value") or "?")
