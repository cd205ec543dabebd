"""Rollouts: what was applied becomes ready, or fails with the reasons that the cluster and the pods' logs tell."""

import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from shokado.lifecycle.errors import DeployFailed
from shokado.lifecycle.progress import step
from shokado.lifecycle.rollout.kubectl import Kubectl, Manifest
from shokado.lifecycle.rollout.manifests import Workload, services, workloads

MAX_EVENTS = 3
"""Events that are told of what does not become ready: the newest ones say why."""
LOG_LINES = 50
"""Lines of a container's log among which the one that says why is looked for."""
POLL_S = 1.0
"""How often the endpoints are looked at."""
NOT_READY = "not ready"
"""What a server's line in the log begins with when `/readyz` turns to 503."""
_OF_ROLLOUTS = ("Pod", "ReplicaSet", "Deployment", "StatefulSet", "PersistentVolumeClaim")
"""What events tell of a rollout; an HPA's complain until there are figures of new pods."""
_ECHOES = ("BackOff", "Unhealthy")
"""Events that only say again that there is a reason."""


class RolloutNotReady(DeployFailed):
    """Something did not become ready in time."""


def wait_until_ready(
    kubectl: Kubectl,
    objects: list[Manifest],
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait for all rollouts together, and then for an endpoint behind each Service. Raises `RolloutNotReady`."""
    end = clock() + timeout_s
    for workload in workloads(objects):
        with step(f"roll out {workload}"):
            _roll_out(kubectl, workload, max(end - clock(), 1))
    with step("wait for the endpoints"):
        for namespace, name in services(objects):
            _wait_for_endpoint(kubectl, namespace, name, end, clock, sleep)


def _roll_out(kubectl: Kubectl, workload: Workload, timeout_s: float) -> None:
    where = f"--namespace={workload.namespace}"
    try:
        kubectl.run("rollout", "status", str(workload), where, f"--timeout={timeout_s:.0f}s", wait_s=timeout_s)
    except DeployFailed as error:
        reasons = "; ".join(reasons_of(kubectl, workload)) or "The cluster tells no reason"
        message = f"{workload} was not rolled out: {error}. {reasons}."
        raise RolloutNotReady(message, shlex.join(kubectl.words("describe", str(workload), where))) from error


def reasons_of(kubectl: Kubectl, workload: Workload) -> list[str]:
    """What its pods, their logs and the events of the last hour say, each thing once."""
    where = f"--namespace={workload.namespace}"
    selector = ",".join(f"{label}={value}" for label, value in workload.labels.items())
    pods = (kubectl.found("pods", where, f"--selector={selector}") or {}).get("items", [])
    said: dict[str, str] = {}
    for pod in pods:
        for reason in _pod_reasons(kubectl, pod):
            said.setdefault(reason, f"{pod['metadata']['name']}: {reason}")
    return [*said.values(), *_event_reasons(kubectl, workload, list(said))]


def _pod_reasons(kubectl: Kubectl, pod: Manifest) -> Iterator[str]:
    status = pod.get("status", {})
    for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        yield from _container_reasons(kubectl, pod, container)
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"{condition.get('reason')}: {condition.get('message')}"


def _container_reasons(kubectl: Kubectl, pod: Manifest, container: Mapping[str, Any]) -> Iterator[str]:
    state = container.get("state", {})
    ended = state.get("terminated") or container.get("lastState", {}).get("terminated")
    waiting = state.get("waiting")
    if waiting and not ended:
        yield ", ".join(word for word in (waiting.get("reason"), waiting.get("message")) if word)
    if ended and ended.get("exitCode") != 0:
        message = " ".join((ended.get("message") or "").split())
        yield ", ".join(word for word in (ended.get("reason"), f"exit code {ended['exitCode']}", message) if word)
    if "running" in state and not container.get("ready", True) and (line := _log_line(kubectl, pod, container["name"])):
        yield line


def _log_line(kubectl: Kubectl, pod: Manifest, container: str) -> str | None:
    """The last line about readiness, or else the last one at all, of what a container says."""
    where = f"--namespace={pod['metadata']['namespace']}"
    try:
        log = kubectl.run("logs", pod["metadata"]["name"], where, f"--container={container}", f"--tail={LOG_LINES}")
    except DeployFailed:
        return None
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    telling = [NOT_READY + line.rpartition(NOT_READY)[2] for line in lines if NOT_READY in line]
    found = telling or lines
    return found[-1] if found else None


def _event_reasons(kubectl: Kubectl, workload: Workload, said: list[str]) -> list[str]:
    found = kubectl.found("events", f"--namespace={workload.namespace}", "--field-selector=type=Warning") or {}
    about = [event for event in found.get("items", []) if _is_about(event["involvedObject"], workload)]
    about.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    told: list[str] = []
    for event in reversed(about):
        message = " ".join((event.get("message") or "").split())
        news = message.removeprefix("Error: ")
        if said and event["reason"] in _ECHOES:
            continue
        if not any(_core(news) in other or other in news for other in (*said, *told)):
            told.append(f"{event['reason']}: {message}")
    return told[MAX_EVENTS - 1 :: -1]


def _core(message: str) -> str:
    """The message without what it is about: `no such image` of `Failed to pull image "x:1": no such image`."""
    return message.rpartition('": ')[2]


def _is_about(involved: Mapping[str, Any], workload: Workload) -> bool:
    name, claims = involved["name"], involved["kind"] == "PersistentVolumeClaim"
    own = name == workload.name or name.startswith(f"{workload.name}-") or (claims and f"-{workload.name}-" in name)
    return own and involved["kind"] in _OF_ROLLOUTS


def _wait_for_endpoint(
    kubectl: Kubectl, namespace: str, name: str, end: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> None:
    where = [f"--namespace={namespace}", f"--selector=kubernetes.io/service-name={name}"]
    while True:
        slices = (kubectl.found("endpointslices", *where) or {}).get("items", [])
        conditions = [point.get("conditions", {}) for slice_ in slices for point in slice_.get("endpoints") or []]
        if any(condition.get("ready", True) for condition in conditions):
            return
        if clock() >= end:
            message = f"Service {name} in namespace {namespace} has no endpoint that is ready."
            raise RolloutNotReady(message, shlex.join(kubectl.words("describe", f"service/{name}", where[0])))
        sleep(POLL_S)
