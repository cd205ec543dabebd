"""A stand-in for a cluster's API server: enough of it for a real kubectl to apply objects and to wait for rollouts.

It keeps what is applied and tells it back, and says of every workload what a cluster would that made its pods ready,
or that failed to. It admits everything, and merges nothing.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Resource = dict[str, Any]
KINDS = {
    "v1": {
        "Namespace": "namespaces", "Pod": "pods", "Event": "events", "Secret": "secrets", "ConfigMap": "configmaps",
        "Service": "services", "ServiceAccount": "serviceaccounts",
    },
    "apps/v1": {"Deployment": "deployments", "StatefulSet": "statefulsets"},
    "autoscaling/v2": {"HorizontalPodAutoscaler": "horizontalpodautoscalers"},
    "policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"},
    "networking.k8s.io/v1": {"NetworkPolicy": "networkpolicies"},
    "discovery.k8s.io/v1": {"EndpointSlice": "endpointslices"},
}  # fmt: skip
_OF_CLUSTER = ("namespaces",)
_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_TYPES = {plural: (version, kind) for version, kinds in KINDS.items() for kind, plural in kinds.items()}


class Cluster:
    """What is in it, by (plural, namespace, name), and how it behaves."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Resource] = {}
        self.applied: list[str] = []
        """Names in the order in which they came, those of dry runs left out."""
        self.failing: set[str] = set()
        """Workloads whose pods do not become ready."""
        self.without_endpoints: set[str] = set()
        """Services that no pod that is ready stands behind."""
        self.url = ""

    def add(self, plural: str, namespace: str, name: str, **content: Any) -> None:
        """Put something there that nobody applied."""
        version, kind = _TYPES[plural]
        metadata = {"name": name, "namespace": namespace, "uid": name, "resourceVersion": "1", "generation": 1}
        metadata |= content.pop("metadata", {})
        self.objects[plural, namespace, name] = {"apiVersion": version, "kind": kind, "metadata": metadata} | content

    def add_secret(self, namespace: str, name: str, *keys: str) -> None:
        self.add("secrets", namespace, name, data=dict.fromkeys(keys, "c2VjcmV0"))

    def apply(self, plural: str, namespace: str, name: str, content: Resource, *, dry: bool) -> Resource:
        before = self.objects.get((plural, namespace, name))
        metadata = {**content["metadata"], "uid": name, "resourceVersion": "2", "generation": 1}
        revision = "2" if before else "1"
        metadata["annotations"] = {"deployment.kubernetes.io/revision": revision}
        stored = {**content, "metadata": metadata}
        if dry:
            return stored
        self.applied.append(f"{content['kind'].lower()}/{name}")
        if plural in ("deployments", "statefulsets"):
            stored["spec"] = {"replicas": 1, "updateStrategy": {"type": "RollingUpdate"}} | content["spec"]
            stored["status"] = _status(failing=name in self.failing)
            self._add_pod(stored)
        if plural == "services" and name not in self.without_endpoints:
            labels = {"kubernetes.io/service-name": name}
            points = [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}]
            self.add("endpointslices", namespace, f"{name}-1", metadata={"labels": labels}, endpoints=points)
        self.objects[plural, namespace, name] = stored
        return stored

    def _add_pod(self, workload: Resource) -> None:
        name, namespace = workload["metadata"]["name"], workload["metadata"]["namespace"]
        state: Resource = {"running": {}}
        if name in self.failing:
            state = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
            event = {"type": "Warning", "reason": "Failed", "message": "Failed to pull image"}
            about = {"kind": "Pod", "name": f"{name}-abc"}
            self.add(
                "events", namespace, f"{name}-e", involvedObject=about, lastTimestamp="2026-01-01T00:00:00Z", **event
            )
        labels = workload["spec"]["template"]["metadata"]["labels"]
        status = {"containerStatuses": [{"name": "shokado", "state": state}]}
        self.add("pods", namespace, f"{name}-abc", metadata={"labels": labels}, status=status)


def _status(*, failing: bool) -> Resource:
    """Of a workload with one replica."""
    ready = 0 if failing else 1
    status: Resource = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "currentReplicas": 1}
    status |= {"readyReplicas": ready, "availableReplicas": ready, "unavailableReplicas": 1 - ready}
    return status | {"currentRevision": "a", "updateRevision": "a"}


@contextmanager
def running(kubeconfig: Path) -> Iterator[Cluster]:
    """A cluster that the context `test` of a kubeconfig, which is written, leads to."""
    cluster = Cluster()

    class Handler(_Handler):
        of = cluster

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    cluster.url = f"http://127.0.0.1:{server.server_port}"
    content = {
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": cluster.url}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }  # fmt: skip
    kubeconfig.write_text(yaml.safe_dump(content))
    try:
        yield cluster
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    of: Cluster

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        match url.path.strip("/").split("/"):
            case ["version"]:
                self._answer({"major": "1", "minor": "35", "gitVersion": "v1.35.0"})
            case ["api"]:
                self._answer(_discovery(["v1"]), _DISCOVERY)
            case ["apis"]:
                self._answer(_discovery([version for version in KINDS if version != "v1"]), _DISCOVERY)
            case ["openapi", "v3"]:
                paths = {path: {"serverRelativeURL": f"/openapi/v3/{path}"} for path in map(_path_of, KINDS)}
                self._answer({"paths": paths})
            case ["openapi", "v3", *path]:
                self._answer(_openapi("/".join(path)))
            case parts:
                self._read(*_place(parts), query)

    def do_PATCH(self) -> None:
        url = urlsplit(self.path)
        content = yaml.safe_load(self.rfile.read(int(self.headers["content-length"])))
        plural, namespace, name = _place(url.path.strip("/").split("/"))
        assert name is not None
        dry = parse_qs(url.query).get("dryRun") == ["All"]
        self._answer(self.of.apply(plural, namespace, name, content, dry=dry))

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _read(self, plural: str, namespace: str, name: str | None, query: dict[str, str]) -> None:
        if plural not in _TYPES:
            self._answer(_not_found(self.path), status=404)
        elif name is not None:
            found = self.of.objects.get((plural, namespace, name))
            self._answer(found or _not_found(name), status=200 if found else 404)
        elif query.get("watch") in ("true", "1"):
            self._watch()
        else:
            version, kind = _TYPES[plural]
            items = [
                item
                for (of, where, _), item in list(self.of.objects.items())
                if (of, where) == (plural, namespace) and _selected(item, query)
            ]
            self._answer(
                {"apiVersion": version, "kind": f"{kind}List", "metadata": {"resourceVersion": "1"}, "items": items}
            )

    def _watch(self) -> None:
        """Nothing ever changes: the connection stays until the client leaves."""
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.flush()
        self.connection.recv(1)
        self.close_connection = True

    def _answer(self, content: Resource, content_type: str = "application/json", status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _path_of(version: str) -> str:
    return f"apis/{version}" if "/" in version else f"api/{version}"


def _place(parts: list[str]) -> tuple[str, str, str | None]:
    """(plural, namespace, name) of a path without its api group."""
    rest = parts[3:] if parts[0] == "apis" else parts[2:]
    match rest:
        case ["namespaces", name]:
            return "namespaces", "", name
        case ["namespaces", namespace, plural, *name]:
            return plural, namespace, name[0] if name else None
        case [plural]:
            return plural, "", None
    return "", "", None


def _selected(item: Resource, query: dict[str, str]) -> bool:
    labels = item["metadata"].get("labels", {})
    wanted = dict(part.split("=") for part in query.get("labelSelector", "").split(",") if part)
    fields = {"metadata.name": item["metadata"]["name"], "type": item.get("type")}
    asked = dict(part.split("=") for part in query.get("fieldSelector", "").split(",") if part)
    return wanted.items() <= labels.items() and asked.items() <= fields.items()


def _discovery(versions: list[str]) -> Resource:
    items = []
    for version in versions:
        group, _, number = version.rpartition("/")
        resources = [
            {
                "resource": plural,
                "responseKind": {"group": group, "version": number, "kind": kind},
                "scope": "Cluster" if plural in _OF_CLUSTER else "Namespaced",
                "singularResource": kind.lower(),
                "verbs": _VERBS,
            }
            for kind, plural in KINDS[version].items()
        ]
        items.append({"metadata": {"name": group}, "versions": [{"version": number, "resources": resources}]})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _openapi(path: str) -> Resource:
    """Says that fields are validated here, so that kubectl need not."""
    version = path.removeprefix("apis/").removeprefix("api/")
    group, _, number = version.rpartition("/")
    parameters = [{"name": name, "in": "query"} for name in ("fieldValidation", "dryRun")]
    paths = {
        f"/{path}/{plural}/{{name}}": {
            "patch": {
                "parameters": parameters,
                "x-kubernetes-group-version-kind": {"group": group, "version": number, "kind": kind},
            }
        }
        for kind, plural in KINDS[version].items()
    }
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.35.0"}, "paths": paths}


def _not_found(what: str) -> Resource:
    message = f"{what} not found"
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": 404,
        "reason": "NotFound",
        "message": message,
    }
