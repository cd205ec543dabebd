"""Applying: objects go into a cluster, all of them or none.

rehearse (the cluster is asked whether it would take every one) --> apply

Fields that somebody has set by hand with kubectl are taken back, and said; fields that a controller or another tool
owns are a conflict, which the rehearsal finds.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from shokado.lifecycle.errors import DeployFailed
from shokado.lifecycle.rollout.kubectl import Kubectl, Manifest
from shokado.lifecycle.rollout.manifests import Identity

FIELD_MANAGER = "shokado"
"""The owner in `managedFields`; who applies manifests by hand says the same, or owns the fields instead of `deploy`."""
WAIT_S = 120
"""How long the cluster may take for all objects."""
_CONFLICT = "Apply failed with "
_ADVICE = re.compile(r"\s*Please review the fields above.*?#conflicts", re.DOTALL)
_OWNER = re.compile(r'conflicts? with "')
_FIELD = re.compile(r"\s(\.\S+)")
_BY_HAND = re.compile(r"kubectl\b.*|before-first-apply")


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What the cluster said that it would make of the objects."""

    lines: tuple[str, ...]
    """What became of each object, one line for each."""
    taken_back: str | None = None
    """Who set which of the fields by hand; None: nobody did."""


def rehearse(kubectl: Kubectl, objects: list[Manifest], command: str, *, force: bool = False) -> Rehearsal:
    """Ask the cluster whether it would take all of the objects; nothing is changed. Raises `DeployFailed`.

    Args:
        command: what would do it by force.
        force: take fields from whoever owns them, and not only from people with kubectl.
    """
    try:
        return Rehearsal(_apply(kubectl, objects, "--dry-run=server", *_forced(force)))
    except DeployFailed as error:
        said = _ADVICE.sub("", str(error))
        if _CONFLICT not in said:
            raise DeployFailed(f"The cluster refuses, and nothing was applied: {said}", error.next_command) from error
    owned = _owned(said)
    others = {owner: fields for owner, fields in owned.items() if not _BY_HAND.fullmatch(owner)}
    if others:
        message = f"Nothing was applied, as the manifests have fields that others own: {_shown(others)}."
        raise DeployFailed(message, command)
    # What else may be wrong shows only now.
    return Rehearsal(rehearse(kubectl, objects, command, force=True).lines, _shown(owned))


def _owned(conflicts: str) -> dict[str, list[str]]:
    """The fields of each owner, out of the cluster's words."""
    owned: dict[str, list[str]] = {}
    for part in _OWNER.split(conflicts)[1:]:
        owner, _, rest = part.partition('"')
        owned[owner] = list(dict.fromkeys([*owned.get(owner, []), *_FIELD.findall(rest)]))
    return owned


def _shown(owned: Mapping[str, list[str]]) -> str:
    return "; ".join(f"{', '.join(fields)} of {owner}" for owner, fields in owned.items())


def apply(kubectl: Kubectl, objects: list[Manifest], *, force: bool) -> tuple[str, ...]:
    """Apply them server-side, so that what is not in them, such as the replicas of an HPA, stays somebody else's.

    Returns:
        What kubectl says, one line an object. Raises `DeployFailed`.
    """
    return _apply(kubectl, objects, *_forced(force))


def make_namespaces(kubectl: Kubectl, objects: list[Manifest]) -> None:
    """Make the namespaces: without them, the cluster could not be asked about the rest. Raises `DeployFailed`."""
    missing = [item for item in namespaces(objects) if kubectl.found("namespace", item["metadata"]["name"]) is None]
    if missing:
        apply(kubectl, missing, force=False)


def namespaces(objects: list[Manifest]) -> list[Manifest]:
    """The namespaces among the objects."""
    return [item for item in objects if item["kind"] == "Namespace"]


def delete(kubectl: Kubectl, identities: frozenset[Identity]) -> tuple[str, ...]:
    """Take objects out of the cluster, as far as they are in it; a line for each that was. Raises `DeployFailed`."""
    if not identities:
        return ()
    stubs = [
        {"apiVersion": api, "kind": kind, "metadata": {"namespace": namespace, "name": name}}
        for api, kind, namespace, name in sorted(identities)
    ]
    content = yaml.dump_all(stubs, Dumper=yaml.CSafeDumper, sort_keys=False)
    said = kubectl.run("delete", "--ignore-not-found", "--wait=false", "--filename=-", content=content, wait_s=WAIT_S)
    return tuple(said.splitlines())


def _apply(kubectl: Kubectl, objects: list[Manifest], *options: str) -> tuple[str, ...]:
    manager = f"--field-manager={FIELD_MANAGER}"
    content = yaml.dump_all(objects, Dumper=yaml.CSafeDumper, sort_keys=False)
    said = kubectl.run("apply", "--server-side", manager, *options, "--filename=-", content=content, wait_s=WAIT_S)
    return tuple(said.splitlines())


def _forced(force: bool) -> list[str]:
    return ["--force-conflicts"] if force else []
