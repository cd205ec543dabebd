"""Custom resources are held to definitions as an API server holds them; ours are valid by those that one published."""

import gzip
import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s import validate
from k8s.custom_resources import Definitions, NoDefinitions, Resource, Schema, kind_of, read
from k8s.validate import NOT_THERE, Rendering, has_kubectl, problems, render, renderings
from tests.k8s.cluster import Cluster

PUBLISHED = Path("var/test/definitions/class_generator/schema/__resources-mappings.json.gz")
"""What the API server of a cluster of Kubernetes 1.35 with many operators publishes: lists of schemas by kind."""
COMMAND = "make definitions"
OURS = {
    ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    ("gateway.networking.k8s.io/v1beta1", "ReferenceGrant"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
    ("keda.sh/v1alpha1", "ScaledObject"),
    ("ray.io/v1", "RayJob"),
}
WITHOUT = {
    ("serving.yatai.ai/v2alpha1", "BentoDeployment"),
    ("flagger.app/v1beta1", "Canary"),
    ("argoproj.io/v1alpha1", "AnalysisTemplate"),
}
"""Of the first two no package has definitions, and the published ones of the last are older than version 1.8."""
needs_kubectl = pytest.mark.skipif(not has_kubectl(), reason=NOT_THERE)


def definition(kind: tuple[str, str], schema: Schema, *, served: bool = True) -> Resource:
    group, _, version = kind[0].partition("/")
    versions = [{"name": version, "served": served, "schema": {"openAPIV3Schema": schema}}]
    spec = {"group": group, "names": {"kind": kind[1]}, "versions": versions}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": spec}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published schemas as definitions, one a file."""
    if not PUBLISHED.is_file():
        pytest.skip(f"needs the published definitions; get them with: {COMMAND}")
    folder = tmp_path_factory.mktemp("definitions")
    with gzip.open(PUBLISHED) as file:
        by_kind: dict[str, list[Schema]] = json.load(file)
    for version, kind in sorted(OURS):
        for schema in by_kind[kind.lower()]:
            (of,) = schema["x-kubernetes-group-version-kind"]
            if f"{of['group']}/{of['version']}" == version:
                (folder / f"{kind}.json").write_text(json.dumps(definition((version, kind), schema)))
    return folder


@pytest.fixture(scope="session")
def published(folder: Path) -> Definitions:
    return read(folder)


@pytest.mark.slow
def test_all_that_can_be_rendered_is_valid_by_the_published_definitions(
    rendered: Cluster, published: Definitions
) -> None:
    assert [problem for resource in rendered.resources for problem in problems(resource, published)] == []


@needs_kubectl
def test_every_kind_of_ours_is_held_to_them(published: Definitions) -> None:
    kinds = {kind_of(resource) for rendering in renderings() for resource in render(rendering)}
    assert set(published.schemas) == OURS
    assert {kind for kind in kinds if "." in kind[0] and "k8s.io" not in kind[0]} - OURS == WITHOUT
    assert kinds >= OURS


@needs_kubectl
def test_the_command_takes_a_folder_of_definitions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate.main(["--crds", str(folder)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    without = ", ".join(sorted(" ".join(kind) for kind in WITHOUT))
    assert last == f"held to k8s/schemas, without their definitions: {without}"


def test_a_folder_without_definitions_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "service.yaml").write_text("{apiVersion: v1, kind: Service}")
    assert validate.main(["--crds", str(tmp_path)]) == 1
    assert "holds no CustomResourceDefinition" in capsys.readouterr().err
    (tmp_path / "values.yaml").write_text("replicas: 3")
    with pytest.raises(NoDefinitions, match=r"values\.yaml: no Kubernetes objects"):
        read(tmp_path)


ROUTE = Rendering("overlays/production", ("gateway-api",))
KEDA = Rendering("overlays/production", ("monitoring", "keda"))
Step = str | int
BROKEN: dict[str, tuple[Rendering, str, list[Step], Any, str]] = {
    "an unknown field": (ROUTE, "HTTPRoute", ["spec", "rules", 0, "timeout"], "5s", "spec.rules.0: .*timeout"),
    "an unknown field of the metadata": (ROUTE, "HTTPRoute", ["metadata", "label"], {}, "metadata: .*label"),
    "an unknown field at the top": (ROUTE, "HTTPRoute", ["sepc"], {}, r"\(the object\): .*sepc"),
    "a wrong type": (KEDA, "ScaledObject", ["spec", "minReplicaCount"], "2", 'spec.minReplicaCount: "2"'),
    "a number for a text": (KEDA, "ScaledObject", ["spec", "triggers", 0, "metadata", "value"], 70, "70 is not of"),
    "none of the allowed": (ROUTE, "HTTPRoute", ["spec", "rules", 0, "matches", 0, "method"], "FETCH", "FETCH"),
    "too large": (ROUTE, "HTTPRoute", ["spec", "rules", 0, "backendRefs", 0, "weight"], 2_000_000, "weight"),
    "another pattern": (KEDA, "ServiceMonitor", ["spec", "endpoints", 0, "interval"], "soon", "interval: .*soon"),
    "a field that is missing": (KEDA, "PrometheusRule", ["spec", "groups", 0, "rules", 0], {"alert": "a"}, "expr"),
    "a rule: a path from the root": (
        ROUTE, "HTTPRoute", ["spec", "rules", 0, "matches", 0, "path"], {"value": "v1"}, "start with '/' when",
    ),
    "a rule: a port for a Service": (
        ROUTE, "HTTPRoute", ["spec", "rules", 0, "backendRefs", 0], {"name": "a"}, "Must have port",
    ),
    "a rule over fields named as words of CEL": (
        ROUTE, "HTTPRoute", ["spec", "parentRefs"],
        [{"name": "a", "namespace": "b"}, {"name": "a", "namespace": "b", "sectionName": "c"}], "sectionName",
    ),
    "a key of a list twice": (
        KEDA, "PrometheusRule", ["spec", "groups"], [{"name": "a"}, {"name": "a"}], "spec.groups: .*twice",
    ),
}  # fmt: skip


@needs_kubectl
@pytest.mark.parametrize(("rendering", "kind", "path", "value", "said"), BROKEN.values(), ids=BROKEN)
def test_what_a_server_refuses_is_named(
    rendering: Rendering, kind: str, path: list[Step], value: object, said: str, published: Definitions
) -> None:
    resource = deepcopy(Cluster(rendering).of(kind)[0])
    *parents, last = path
    parent: Any = resource
    for step in parents:
        parent = parent[step]
    parent[last] = value
    found = problems(resource, published)
    assert any(re.search(said, problem) for problem in found), found


KIND = ("example.com/v1", "Dish")


def held(spec: Schema, content: Any) -> list[str]:
    """What is wrong with a Dish of that content where its spec has that schema."""
    schema = {"type": "object", "properties": {"metadata": {"type": "object"}, "spec": spec}}
    return Definitions({KIND: schema}).problems(dish(content))


def dish(content: Any) -> Resource:
    return {"apiVersion": KIND[0], "kind": KIND[1], "metadata": {"name": "a"}, "spec": content}


def of(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


TEXT = {"type": "string"}
EITHER = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
SET = {"type": "array", "items": TEXT, "x-kubernetes-list-type": "set"}
DEFAULT = of(kind=TEXT | {"default": "hot"}) | {"x-kubernetes-validations": [{"rule": "self.kind == 'hot'"}]}


@pytest.mark.parametrize(
    ("spec", "good", "bad"),
    [
        (of(port=EITHER), {"port": 3000}, {"port": 0.5}),
        (of(port=EITHER), {"port": "http"}, {"port": True}),
        (of(more=OPEN), {"more": {"what": {"ever": 1}}}, {"more": [1]}),
        (of(more={"type": "object"}), {"more": {}}, {"more": {"what": 1}}),
        (of(labels={"type": "object", "additionalProperties": TEXT}), {"labels": {"a": "b"}}, {"labels": {"a": 1}}),
        (of(name=TEXT | {"nullable": True}), {"name": None}, {"name": 1}),
        (of(name=TEXT), {"name": "a"}, {"name": None}),
        (of(names=SET), {"names": ["a", "b"]}, {"names": ["a", "a"]}),
        (DEFAULT, {}, {"kind": "cold"}),
        (DEFAULT, {"kind": None}, {"kind": ""}),
        (of(mode=TEXT | {"pattern": "^(?i)(a|b)$"}), {"mode": "A"}, {"mode": "c"}),
        (of(a=of(namespace=TEXT) | {"x-kubernetes-validations": [{"rule": "self.__namespace__ == 'x'"}]}),
         {"a": {"namespace": "x"}}, {"a": {"namespace": "y"}}),
        (of(a=of(**{"max-x": {"type": "integer"}}) | {"x-kubernetes-validations": [{"rule": "self.max__dash__x > 1"}]}),
         {"a": {"max-x": 2}}, {"a": {"max-x": 1}}),
        (of(pod=OPEN | {"x-kubernetes-embedded-resource": True}), {"pod": {"kind": "Pod", "spec": {}}}, {"pod": 1}),
    ],
)  # fmt: skip
def test_schemas_mean_what_they_mean_to_a_server(spec: Schema, good: Any, bad: Any) -> None:
    assert held(spec, good) == []
    found = held(spec, bad)
    assert found
    assert all(problem.startswith("spec") for problem in found)


def test_a_rule_on_the_object_of_before_is_not_asked_and_one_that_cannot_be_is_broken() -> None:
    fixed = {"x-kubernetes-validations": [{"rule": "self == oldSelf"}]}
    assert held(of(name=TEXT | fixed), {"name": "a"}) == []
    unknown = {"x-kubernetes-validations": [{"rule": "quantity(self).isGreaterThan(quantity('1Gi'))"}]}
    (problem,) = held(of(size=TEXT | unknown), {"size": "2Gi"})
    assert problem.startswith("spec.size: the rule quantity(")
    assert "cannot be evaluated" in problem


def test_definitions_are_read_as_a_cluster_gives_them(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"spec": of(name=TEXT)}}
    old = definition(("example.com/v1alpha1", "Dish"), schema, served=False)
    listed = {"apiVersion": "v1", "kind": "List", "items": [definition(KIND, schema), old]}
    (tmp_path / "crds.yaml").write_text("# all of them\n---\n" + yaml.safe_dump(listed))
    assert dict(read(tmp_path).schemas) == {KIND: schema}, "versions that are not served are not there"
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(definition(KIND, schema | {"required": ["spec"]})))
    with pytest.raises(NoDefinitions, match=r"other\.yaml: example.com/v1 Dish is defined in another file"):
        read(tmp_path)
