"""Deploying: an environment goes into a cluster, and is ready there when this is done.

render --> schemas --> secrets there? --> apply --> rollouts --> endpoints ready

The first step that fails ends it, with what failed, why as far as the cluster tells, and the command that helps. What
was applied until then stays: Kubernetes keeps the old pods until the new ones are ready.
"""

import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from lifecycle.errors import DeployFailed
from lifecycle.kubectl import Kubectl, Manifest
from lifecycle.manifests import Workload, needed_secrets, render, services, workloads
from lifecycle.progress import say, step

FIELD_MANAGER = "shokado"
MAX_EVENTS = 3
POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be deployed, and where."""

    environment: str
    context: str | None = None
    image: str | None = None
    timeout_s: float = 300
    """For all rollouts together, and then for the endpoints."""


def deploy(
    order: Order, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Apply an environment and wait until it is ready. Raises `LifecycleError`."""
    kubectl = Kubectl(order.context)
    objects = _rendered(order)
    _require_cluster(kubectl)
    missing = missing_secrets(kubectl, objects)
    if missing:
        raise missing[0]
    with step("apply") as current:
        lines = _apply(kubectl, objects).splitlines()
        current.outcome = f"{len(lines)} objects"
    for line in lines:
        say(line)
    end = clock() + order.timeout_s
    for workload in workloads(objects):
        with step(f"roll out {workload}"):
            _roll_out(kubectl, workload, max(end - clock(), 1))
    with step("wait for the endpoints"):
        for namespace, name in services(objects):
            _wait_for_endpoint(kubectl, namespace, name, end, clock, sleep)


def dry_run(order: Order) -> None:
    """Show what would be applied, and change nothing. Raises `LifecycleError`.

    A cluster that can be reached is asked what it makes of the objects; without one, they are held to the schemas only.
    Where a context is named, its cluster must answer.
    """
    kubectl = Kubectl(order.context)
    objects = _rendered(order)
    reason = kubectl.unreachable()
    if reason is not None and order.context is not None:
        raise _unreachable(reason)
    if reason is not None:
        for item in objects:
            say(f"{_name(item)} rendered")
        say(f"No cluster was asked, as none can be reached: {reason}")
        say("So this is rendered and held to the schemas, but neither admitted nor compared with what is there.")
        return
    for line in _dry_run(kubectl, objects).splitlines():
        say(line)
    for problem in missing_secrets(kubectl, objects):
        say(f"missing: {problem} Make it with: {problem.next_command}")


def missing_secrets(kubectl: Kubectl, objects: list[Manifest]) -> list[DeployFailed]:
    """One refusal for each Secret that pods could not start without. No value of a Secret is read."""
    names = "--output=go-template={{range $key, $value := .data}}{{$key}} {{end}}"
    missing = []
    for (namespace, name), keys in sorted(needed_secrets(objects).items()):
        where = f"--namespace={namespace}"
        there = kubectl.run("get", "secret", name, where, "--ignore-not-found", names).split()
        if lacking := sorted(keys - set(there)):
            message = (
                f"Secret {name} in namespace {namespace} does not hold {' and '.join(lacking)}: pods cannot start."
            )
            missing.append(DeployFailed(message, _way_to_secret(kubectl, namespace, name, keys, there=bool(there))))
    return missing


def _way_to_secret(kubectl: Kubectl, namespace: str, name: str, keys: set[str], *, there: bool) -> str:
    where = f"--namespace={namespace}"
    if there:
        return shlex.join(kubectl.words("edit", f"secret/{name}", where))
    files = [f"--from-file={key}=FILE" for key in sorted(keys)]
    create = shlex.join(kubectl.words("create", "secret", "generic", name, where, *files))
    if kubectl.found("namespace", namespace) is not None:
        return create
    return f"{shlex.join(kubectl.words('create', 'namespace', namespace))} && {create}"


def _rendered(order: Order) -> list[Manifest]:
    with step(f"render k8s/overlays/{order.environment}") as current:
        objects = render(order.environment, order.image)
        current.outcome = f"{len(objects)} objects"
    try:
        from k8s.validate import VERSIONS, problems
    except ImportError as error:
        say(f"not held to the schemas of Kubernetes: {error.name} is not installed")
        return objects
    with step("hold them to the schemas of Kubernetes") as current:
        found = [problem for item in objects for problem in problems(item)]
        if found:
            raise DeployFailed("The manifests are not valid: " + "; ".join(found), "make k8s-validate")
        current.outcome = ", ".join(VERSIONS)
    return objects


def _require_cluster(kubectl: Kubectl) -> None:
    if reason := kubectl.unreachable():
        raise _unreachable(reason)


def _unreachable(reason: str) -> DeployFailed:
    return DeployFailed(f"The cluster cannot be reached: {reason}", "kubectl config get-contexts")


def _apply(kubectl: Kubectl, objects: list[Manifest], *options: str) -> str:
    """Server-side, so that what others own, such as the replicas of the HPA, stays theirs."""
    manager = f"--field-manager={FIELD_MANAGER}"
    content = yaml.safe_dump_all(objects, sort_keys=False)
    return kubectl.run("apply", "--server-side", manager, *options, "--filename=-", content=content, wait_s=120)


def _dry_run(kubectl: Kubectl, objects: list[Manifest]) -> str:
    namespaces = [item["metadata"]["name"] for item in objects if item["kind"] == "Namespace"]
    if all(kubectl.found("namespace", name) is not None for name in namespaces):
        return _apply(kubectl, objects, "--dry-run=server")
    # The cluster would not take objects of a namespace that is not there.
    content = yaml.safe_dump_all(objects, sort_keys=False)
    return kubectl.run("apply", "--dry-run=client", "--filename=-", content=content)


def _roll_out(kubectl: Kubectl, workload: Workload, timeout_s: float) -> None:
    where = f"--namespace={workload.namespace}"
    try:
        kubectl.run("rollout", "status", str(workload), where, f"--timeout={timeout_s:.0f}s", wait_s=timeout_s)
    except DeployFailed as error:
        reasons = _reasons(kubectl, workload)
        message = f"{workload} was not rolled out: {error}. " + "; ".join(reasons or ["The cluster tells no reason"])
        raise DeployFailed(f"{message}.", shlex.join(kubectl.words(*_way_back(kubectl, workload), where))) from error


def _way_back(kubectl: Kubectl, workload: Workload) -> list[str]:
    """To the revision before, if there was one; else to what there is to see."""
    found = kubectl.found(str(workload), f"--namespace={workload.namespace}") or {}
    first = found.get("metadata", {}).get("annotations", {}).get("deployment.kubernetes.io/revision") == "1"
    return ["describe", str(workload)] if first else ["rollout", "undo", str(workload)]


def _reasons(kubectl: Kubectl, workload: Workload) -> list[str]:
    """What its pods and the events of the last hour say, without repetitions."""
    where = f"--namespace={workload.namespace}"
    selector = ",".join(f"{label}={value}" for label, value in workload.labels.items())
    pods = kubectl.found("pods", where, f"--selector={selector}") or {}
    events = kubectl.found("events", where, "--field-selector=type=Warning") or {}
    said = [reason for pod in pods.get("items", []) for reason in _pod_reasons(pod)]
    about = [event for event in events.get("items", []) if event["involvedObject"]["name"].startswith(workload.name)]
    about.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    said += [f"{event['reason']}: {event.get('message', '').strip()}" for event in about[-MAX_EVENTS:]]
    return list(dict.fromkeys(said))


def _pod_reasons(pod: Mapping[str, Any]) -> list[str]:
    status, name = pod.get("status", {}), pod["metadata"]["name"]
    said = []
    for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        for state in (container.get("state", {}).get("waiting"), container.get("lastState", {}).get("terminated")):
            if state:
                words = [state.get("reason", ""), state.get("message", "")]
                words += [f"exit code {state['exitCode']}"] if "exitCode" in state else []
                said.append(f"{name}: {', '.join(word for word in words if word)}")
    return said + [
        f"{name}: {condition.get('reason')}: {condition.get('message')}"
        for condition in status.get("conditions", [])
        if condition["type"] == "PodScheduled" and condition["status"] == "False"
    ]


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
            raise DeployFailed(message, shlex.join(kubectl.words("describe", f"service/{name}", where[0])))
        sleep(POLL_S)


def _name(item: Manifest) -> str:
    return f"{item['kind'].lower()}/{item['metadata']['name']}"
