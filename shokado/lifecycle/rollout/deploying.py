"""Deploying: an environment goes into a cluster, and is ready there when this is done.

render --> schemas --> secrets there? --> rehearse --> apply --> rollouts --> endpoints --> delete what is gone

The first step that fails ends it, with what failed, why as far as the cluster tells, and the command that helps. Until
the cluster has taken everything in the rehearsal, nothing is changed. What was applied and did not become ready stays,
as Kubernetes keeps the old pods until the new ones are ready; `undo` brings back the release that was Ready before.
"""

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from shokado.lifecycle.errors import DeployFailed
from shokado.lifecycle.progress import say, step
from shokado.lifecycle.rollout import applying, releases
from shokado.lifecycle.rollout.kubectl import Kubectl, Manifest
from shokado.lifecycle.rollout.manifests import identities, identity, namespace_of, needed_secrets, render, within
from shokado.lifecycle.rollout.releases import Release, Releases, release_of
from shokado.lifecycle.rollout.waiting import RolloutNotReady, wait_until_ready

LITERALS = {"password": '"$(openssl rand -hex 24)"', "runner-key": '"$(cat runner-key)"'}
"""What a key of a Secret may be given by a command, so that no line's end gets into it."""


@dataclass(frozen=True, slots=True)
class DeployOrder:
    """What is to be deployed, and where."""

    environment: str
    context: str | None = None
    image: str | None = None
    timeout_s: float = 300
    """Time for all rollouts together, and then for the endpoints."""
    rollback_on_failure: bool = False
    """Undo what does not become ready."""
    force: bool = False
    """Take fields from other tools as well."""

    def command(self, *options: str) -> str:
        """The command that gives this order, with other options."""
        named = ["--context", self.context] if self.context else []
        return shlex.join(["shokado", "deploy", "--environment", self.environment, *named, *options])


@dataclass(frozen=True, slots=True)
class Time:
    """What passes while it waits; tests have their own."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


REAL_TIME = Time()


def deploy(order: DeployOrder, passing: Time = REAL_TIME) -> None:
    """Apply an environment and wait until it is ready. Raises `LifecycleError`."""
    kubectl = Kubectl(order.context)
    objects = _rendered(order)
    require_cluster(kubectl)
    if missing := missing_secrets(kubectl, objects):
        raise missing
    known = releases.read(kubectl, namespace_of(objects))
    try:
        _bring(kubectl, order, known, release_of(objects, passing.now()), passing)
    except RolloutNotReady as error:
        if known.ready is None:
            raise
        if not order.rollback_on_failure:
            raise DeployFailed(str(error), order.command("--undo")) from error
        say(f"error: {error}")
        back = undo(order, passing)
        raise DeployFailed(f"{str(error).rstrip('.')}. It was undone: {back} is ready again.") from error


def undo(order: DeployOrder, passing: Time = REAL_TIME) -> Release:
    """Bring back the newest release that was Ready; or, if that is what is there, the one before it.

    Raises `LifecycleError`, as where there is none.
    """
    kubectl = Kubectl(order.context)
    namespace = namespace_of(render(order.environment))
    require_cluster(kubectl)
    known = releases.read(kubectl, namespace)
    back = known.way_back
    if back is None:
        message = f"Namespace {namespace} knows no release to go back to: this command has made none Ready before."
        raise DeployFailed(message, shlex.join(kubectl.words("describe", "pods", f"--namespace={namespace}")))
    say(f"back to {back}")
    _bring(kubectl, order, known, back, passing)
    return back


def dry_run(order: DeployOrder) -> None:
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
    _show_what_would_be(kubectl, order, objects)
    if missing := missing_secrets(kubectl, objects):
        say(f"missing: {missing} Make it with: {missing.next_command}")


def missing_secrets(kubectl: Kubectl, objects: list[Manifest]) -> DeployFailed | None:
    """One refusal for all Secrets that pods could not start without. No value of a Secret is read."""
    names = "--output=go-template={{range $key, $value := .data}}{{$key}} {{end}}"
    messages, commands, homeless = [], [], set[str]()
    for (namespace, name), keys in sorted(needed_secrets(objects).items()):
        where = f"--namespace={namespace}"
        there = kubectl.run("get", "secret", name, where, "--ignore-not-found", names).split()
        if lacking := sorted(keys - set(there)):
            messages.append(f"Secret {name} in namespace {namespace} does not hold {' and '.join(lacking)}")
            commands.append(_way_to_secret(kubectl, namespace, name, keys, there=bool(there)))
            homeless |= {namespace}
    if not messages:
        return None
    made = [
        shlex.join(kubectl.words("create", "namespace", namespace))
        for namespace in sorted(homeless)
        if kubectl.found("namespace", namespace) is None
    ]
    return DeployFailed(f"{'; '.join(messages)}: pods cannot start.", " && ".join([*made, *commands]))


def _way_to_secret(kubectl: Kubectl, namespace: str, name: str, keys: set[str], *, there: bool) -> str:
    where = f"--namespace={namespace}"
    if there:
        return shlex.join(kubectl.words("edit", f"secret/{name}", where))
    create = shlex.join(kubectl.words("create", "secret", "generic", name, where))
    given = [
        f"--from-literal={key}={LITERALS[key]}" if key in LITERALS else f"--from-file={key}" for key in sorted(keys)
    ]
    return " ".join([create, *given])


def _rendered(order: DeployOrder) -> list[Manifest]:
    with step(f"render k8s/overlays/{order.environment}") as current:
        objects = render(order.environment, order.image)
        current.outcome = f"{len(objects)} objects"
    hold_to_schemas(objects)
    return objects


def hold_to_schemas(objects: list[Manifest]) -> None:
    """Raises `DeployFailed` where an object is not valid; where the schemas are not installed, that is said."""
    try:
        from k8s.validate import VERSIONS, problems
    except ImportError as error:
        say(f"not held to the schemas of Kubernetes: {error.name} is not installed")
        return
    with step("hold them to the schemas of Kubernetes") as current:
        found = [problem for item in objects for problem in problems(item)]
        if found:
            raise DeployFailed("The manifests are not valid: " + "; ".join(found), "make k8s-validate")
        current.outcome = ", ".join(VERSIONS)


def require_cluster(kubectl: Kubectl) -> None:
    """Raises `DeployFailed` where no cluster answers."""
    if reason := kubectl.unreachable():
        raise _unreachable(reason)


def _unreachable(reason: str) -> DeployFailed:
    return DeployFailed(f"The cluster cannot be reached: {reason}", "kubectl config get-contexts")


def _bring(kubectl: Kubectl, order: DeployOrder, known: Releases, release: Release, passing: Time) -> None:
    """Go from what is there to a release that is ready, and nothing beside it."""
    objects = within(list(release.objects), order.timeout_s)
    namespace = namespace_of(objects)
    applying.make_namespaces(kubectl, objects)
    with step("ask the cluster whether it would take all of it"):
        rehearsal = _rehearse(kubectl, order, objects)
    if rehearsal.taken_back:
        say(f"taken back: {rehearsal.taken_back}")
    begun = known.begun(release)
    releases.keep(kubectl, namespace, begun)
    with step("apply") as current:
        lines = _apply_all(kubectl, objects, known, force=order.force or rehearsal.taken_back is not None)
        current.outcome = f"{len(lines)} objects"
    for line in lines:
        say(line)
    wait_until_ready(kubectl, objects, order.timeout_s, passing.clock, passing.sleep)
    for line in applying.delete(kubectl, begun.superfluous):
        say(line)
    releases.keep(kubectl, namespace, begun.succeeded())


def _rehearse(kubectl: Kubectl, order: DeployOrder, objects: list[Manifest]) -> applying.Rehearsal:
    return applying.rehearse(kubectl, objects, order.command("--force-conflicts"), force=order.force)


def _apply_all(kubectl: Kubectl, objects: list[Manifest], known: Releases, *, force: bool) -> tuple[str, ...]:
    """Apply them; where the cluster refuses one that it would have taken a moment ago, none of them stays."""
    try:
        return applying.apply(kubectl, objects, force=force)
    except DeployFailed as error:
        message = f"The cluster took only a part: {error}"
        if known.ready is None:
            raise DeployFailed(f"{message} There is no release to go back to: repeat the command.") from error
        old = list(known.ready.objects)
        applying.apply(kubectl, old, force=True)
        applying.delete(kubectl, identities(objects) - identities(old))
        releases.keep(kubectl, namespace_of(old), known)
        raise DeployFailed(f"{message} It was taken back: {known.ready} is applied again.") from error


def _show_what_would_be(kubectl: Kubectl, order: DeployOrder, objects: list[Manifest]) -> None:
    missing = [
        item for item in applying.namespaces(objects) if kubectl.found("namespace", item["metadata"]["name"]) is None
    ]
    if missing:
        say(f"{_name(missing[0])} is not there yet, so the cluster cannot be asked about the rest:")
        for item in objects:
            say(f"{_name(item)} rendered")
        return
    rehearsal = _rehearse(kubectl, order, objects)
    for line in rehearsal.lines:
        say(line)
    if rehearsal.taken_back:
        say(f"would be taken back: {rehearsal.taken_back}")
    known = releases.read(kubectl, namespace_of(objects))
    gone = known.begun(Release(tuple(objects), "")).superfluous
    for _, kind, _, name in sorted(gone):
        say(f"{kind.lower()}/{name} would be deleted, as it is not in the manifests any more")


def _name(item: Manifest) -> str:
    _, kind, _, name = identity(item)
    return f"{kind.lower()}/{name}"
