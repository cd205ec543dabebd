"""Validation: every overlay and component is rendered and held to the schemas of Kubernetes.

In: this folder. Out: a line for each rendering, and one for each object that breaks its schema, with status 1 then.
The schemas are those of `kubernetes-validate`, without unknown fields, of the three newest Kubernetes versions that it
knows; custom resources have theirs in `schemas/`, or in a folder of the definitions that a cluster has. `tests/k8s`
checks how the objects fit together.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jsonschema_rs
import kubernetes_validate
import yaml
from kubernetes_validate.utils import all_versions

from k8s import custom_resources
from k8s.custom_resources import Definitions, NoDefinitions, Resource, kind_of, where

FOLDER = Path(__file__).parent
VERSIONS = tuple(dict.fromkeys(all_versions()))[-3:]
"""Versions of Kubernetes, such as `1.37.0`."""
OLDEST_KUBECTL = 28
"""Minor version of kubectl 1, which brings kustomize 5."""
NOT_THERE = f"needs kubectl 1.{OLDEST_KUBECTL} or newer; `make lint` installs one into .venv"
_ALONE = ("base", "canary", "transformer", "feast", "argo-rollouts", "flagger")
NO_DEFINITIONS = Definitions({})


class RenderingFailed(Exception):
    """kustomize refuses; the message is what it says."""


@dataclass(frozen=True)
class Rendering:
    """What somebody may apply: the base or an overlay, with a list of components added to its own."""

    target: str
    """A folder of this one, such as `overlays/staging`; empty: components alone."""
    components: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " + ".join(part for part in (self.target, *self.components) if part)


def renderings() -> list[Rendering]:
    """What stands alone and each overlay as they are, and each component where it belongs."""
    overlays = sorted(f"overlays/{folder.name}" for folder in (FOLDER / "overlays").iterdir() if folder.is_dir())
    found = [Rendering(target) for target in (*_ALONE, *overlays)]
    for component in sorted(folder.name for folder in (FOLDER / "components").iterdir() if folder.is_dir()):
        found += [Rendering(target, _with_what_it_needs(component)) for target in _targets(component, overlays)]
    return found


def _targets(component: str, overlays: list[str]) -> list[str]:
    match component:
        case "redis":
            return []  # in every overlay
        case "yatai":
            return [""]
        case "ingress-nginx" | "gateway-api":
            return ["overlays/production"]
        case "gateway-api-staging":
            return ["overlays/staging"]
        case _:
            return overlays


def _with_what_it_needs(component: str) -> tuple[str, ...]:
    return ("monitoring", component) if component in ("hpa-inflight", "keda") else (component,)


@cache
def render(rendering: Rendering) -> tuple[Resource, ...]:
    """What `kubectl apply -k` would send, with the components in the overlay's list. Raises `RenderingFailed`."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "k8s"
        shutil.copytree(FOLDER, copy)
        target = copy / (rendering.target or "components-alone")
        target.mkdir(exist_ok=True)
        file = target / "kustomization.yaml"
        content: Resource = yaml.safe_load(file.read_text()) if file.is_file() else {"kind": "Kustomization"}
        up = "../" * len(target.relative_to(copy).parts)
        added = [f"{up}components/{component}" for component in rendering.components]
        file.write_text(yaml.safe_dump(content | {"components": content.get("components", []) + added}))
        return tuple(_kustomize(target))


@cache
def has_kubectl() -> bool:
    """Whether there is a kubectl whose kustomize knows all that is used here."""
    if _kubectl() is None:
        return False
    command = [str(_kubectl()), "version", "--client", "--output", "json"]
    said = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    minor: str = said["clientVersion"]["minor"]
    return int(minor.rstrip("+")) >= OLDEST_KUBECTL


def _kubectl() -> str | None:
    """The one of this environment, which is pinned; else the machine's."""
    beside = str(Path(sys.executable).parent)
    return shutil.which("kubectl", path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]))


def _kustomize(folder: Path) -> Iterator[Resource]:
    ended = subprocess.run([str(_kubectl()), "kustomize", folder], capture_output=True, text=True, check=False)
    if ended.returncode != 0 or ended.stderr:
        raise RenderingFailed(ended.stderr.strip())
    yield from yaml.load_all(ended.stdout, yaml.CSafeLoader)


def problems(resource: Resource, definitions: Definitions = NO_DEFINITIONS) -> list[str]:
    """What is wrong with an object, by the schemas; empty when it is valid.

    Args:
        definitions: those of custom resources; kinds that it does not know are held to `schemas/`.
    """
    name = f"{resource['kind']} {resource['metadata']['name']}"
    schema = FOLDER / "schemas" / f"{resource['kind']}.yaml"
    if definitions.knows(resource):
        found = [*_broken_metadata(resource), *definitions.problems(resource)]
    elif schema.is_file():
        validator = jsonschema_rs.Draft202012Validator(yaml.load(schema.read_text(), yaml.CSafeLoader))
        found = [f"{where(error.instance_path)}: {error.message}" for error in validator.iter_errors(resource)]
        found += _broken_metadata(resource)
    else:
        found = [problem for version in VERSIONS for problem in _broken(json.dumps(resource), version)]
    return [f"{name}: {problem}" for problem in found]


def _broken_metadata(resource: Resource) -> tuple[str, ...]:
    """All objects have the same; the schemas of Kubernetes hold it for a kind of theirs."""
    bare = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": resource["metadata"]}
    return _broken(json.dumps(bare), VERSIONS[-1])


@cache
def _broken(resource: str, version: str) -> tuple[str, ...]:
    """One line where an object breaks the schema of a Kubernetes version."""
    try:
        kubernetes_validate.validate(json.loads(resource), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return (f"Kubernetes {version}: {where(list(error.path))}: {error.message}",)
    except kubernetes_validate.SchemaNotFoundError as error:
        return (error.message,)
    return ()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m k8s.validate", description="Render k8s/ and hold it to schemas.")
    parser.add_argument("--crds", type=Path, help="a folder of CustomResourceDefinitions, such as those of a cluster")
    folder: Path | None = parser.parse_args(arguments).crds
    if not has_kubectl():
        print(NOT_THERE, file=sys.stderr)
        return 1
    try:
        definitions = custom_resources.read(folder) if folder is not None else NO_DEFINITIONS
    except NoDefinitions as error:
        print(error, file=sys.stderr)
        return 1
    failed = False
    undefined = set[str]()
    for rendering in renderings():
        try:
            resources = render(rendering)
        except RenderingFailed as error:
            found = [str(error)]
        else:
            found = [problem for resource in resources for problem in problems(resource, definitions)]
            undefined |= {" ".join(kind_of(resource)) for resource in resources if _is_undefined(resource, definitions)}
        failed |= bool(found)
        print(f"{rendering}: " + (f"{len(resources)} objects" if not found else "not valid"))
        for problem in found:
            print(f"  {problem}")
    print(f"checked for Kubernetes {', '.join(VERSIONS)}")
    if undefined:
        print(f"held to k8s/schemas, without their definitions: {', '.join(sorted(undefined))}")
    return int(failed)


def _is_undefined(resource: Resource, definitions: Definitions) -> bool:
    return (FOLDER / "schemas" / f"{resource['kind']}.yaml").is_file() and not definitions.knows(resource)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
