"""Deploying what looks features up: k8s/transformer, or k8s/feast, goes into the namespace of an environment.

render --> schemas --> secrets there? --> rehearse --> apply --> the transformer's rollout, or a first materialization

Both stand beside an environment's releases, which are another command's (`deploying`): they come and go by themselves.
"""

import shlex
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from shokado.lifecycle.errors import DeployFailed, LifecycleError
from shokado.lifecycle.progress import say, step
from shokado.lifecycle.rollout import applying
from shokado.lifecycle.rollout.deploying import REAL_TIME, Time, hold_to_schemas, missing_secrets, require_cluster
from shokado.lifecycle.rollout.kubectl import Kubectl, Manifest
from shokado.lifecycle.rollout.manifests import OVERLAYS, refuse_unpinned
from shokado.lifecycle.rollout.waiting import POLL_S, wait_until_ready

IMAGE = "shokado-features"


@dataclass(frozen=True, slots=True)
class FeaturesOrder:
    """What is to be deployed, and where."""

    part: str
    """`transformer` or `feast`: a folder of k8s/."""
    environment: str
    context: str | None = None
    image: str | None = None
    """Takes the place of the image of the manifests; with a tag other than latest, or a digest."""
    timeout_s: float = 300
    """Time for the rollout, or for the first run of the job."""
    dry_run: bool = False

    def command(self, *options: str) -> str:
        """The command that gives this order, with other options."""
        named = ["--context", self.context] if self.context else []
        words = ["shokado", "features", "deploy", self.part, "--environment", self.environment, *named, *options]
        return shlex.join(words)


def deploy_features(order: FeaturesOrder, passing: Time = REAL_TIME) -> None:
    """Apply it, and wait until it does its work. Raises `LifecycleError`."""
    kubectl = Kubectl(order.context)
    with step(f"render k8s/{order.part} for {order.environment}") as current:
        objects = _rendered(order, OVERLAYS.parent)
        current.outcome = f"{len(objects)} objects"
    hold_to_schemas(objects)
    require_cluster(kubectl)
    if missing := missing_secrets(kubectl, objects):
        raise missing
    with step("ask the cluster whether it would take all of it"):
        rehearsal = applying.rehearse(kubectl, objects, order.command())
    if order.dry_run:
        for line in rehearsal.lines:
            say(line)
        return
    with step("apply") as current:
        lines = applying.apply(kubectl, objects, force=rehearsal.taken_back is not None)
        current.outcome = f"{len(lines)} objects"
    for line in lines:
        say(line)
    jobs = [item for item in objects if item["kind"] == "CronJob"]
    for job in jobs:
        _run_once(kubectl, job, order.timeout_s, passing)
    if not jobs:
        wait_until_ready(kubectl, objects, order.timeout_s, passing.clock, passing.sleep)


def _rendered(order: FeaturesOrder, folder: Path) -> list[Manifest]:
    """The objects of the part, in the namespace of the environment."""
    overlay = folder / "overlays" / order.environment / "kustomization.yaml"
    if not overlay.is_file():
        known = (
            ", ".join(sorted(path.parent.name for path in overlay.parents[1].glob("*/kustomization.yaml"))) or "none"
        )
        raise LifecycleError(
            f"There is no environment {order.environment} in {overlay.parents[1]}; there are: {known}."
        )
    namespace = yaml.safe_load(overlay.read_text())["namespace"]
    with tempfile.TemporaryDirectory(prefix="shokado-k8s-") as at:
        copy = Path(at) / order.part
        shutil.copytree(folder / order.part, copy)
        file = copy / "kustomization.yaml"
        content = {**yaml.safe_load(file.read_text()), "namespace": namespace}
        if order.image is not None:
            content["images"] = [_replaced(order.image)]
        file.write_text(yaml.safe_dump(content))
        said = Kubectl().run("kustomize", str(copy))
    return [item for item in yaml.load_all(said, yaml.CSafeLoader) if item]


def _replaced(image: str) -> dict[str, str]:
    """What kustomize is told of an image. Raises `LifecycleError` for one that names no version."""
    refuse_unpinned(image)
    name, _, digest = image.partition("@")
    if digest:
        return {"name": IMAGE, "newName": name, "digest": digest}
    name, _, tag = image.rpartition(":")
    return {"name": IMAGE, "newName": name, "newTag": tag}


def _run_once(kubectl: Kubectl, job: Manifest, timeout_s: float, passing: Time) -> None:
    """Run the job now, and wait for its end: nobody should wait for its hour to learn that it fails."""
    where, origin = f"--namespace={job['metadata']['namespace']}", job["metadata"]["name"]
    name = f"{origin}-{passing.now():%m%d-%H%M%S}"
    look = shlex.join(kubectl.words("logs", f"job/{name}", where))
    with step(f"run {name}") as current:
        kubectl.run("create", "--filename=-", content=yaml.safe_dump(_as_job(job, name)))
        end = passing.clock() + timeout_s
        while (ended := _how_ended(kubectl.found("job", name, where) or {})) is None:
            if passing.clock() >= end:
                raise DeployFailed(f"The job {name} has not ended within {timeout_s:.0f} s.", look)
            passing.sleep(POLL_S)
        if ended:
            raise DeployFailed(f"The job {name} has failed: {ended}.", look)
        current.outcome = "completed"


def _as_job(job: Manifest, name: str) -> Manifest:
    """What `kubectl create job --from=cronjob/..` makes."""
    metadata = {
        "name": name,
        "namespace": job["metadata"]["namespace"],
        "labels": job["metadata"]["labels"],
        "annotations": {"cronjob.kubernetes.io/instantiate": "manual"},
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": job["spec"]["jobTemplate"]["spec"]}


def _how_ended(job: Manifest) -> str | None:
    """Why the job has failed; empty where it has completed, and None while it runs."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["status"] == "True" and condition["type"] in ("Complete", "Failed"):
            return "" if condition["type"] == "Complete" else condition.get("message") or condition.get("reason", "")
    return None
