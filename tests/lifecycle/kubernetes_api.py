"""A stand-in for a cluster's API server: enough of it for a real kubectl to apply objects and to wait for rollouts.

It holds objects to the published schemas, owns, merges and refuses as server-side apply does, defaults and keeps fixed
what decides that, and says of every workload what a cluster would that made its pods ready, or that failed to. No
controller runs in it: there are no ReplicaSets, no quotas, no scheduler.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from k8s.validate import problems
from tests.lifecycle import server_side_apply

Resource = dict[str, Any]
Place = tuple[str, str, str]
KINDS = {
    "v1": {
        "Namespace": "namespaces", "Pod": "pods", "Event": "events", "Secret": "secrets", "ConfigMap": "configmaps",
        "Service": "services", "ServiceAccount": "serviceaccounts", "PersistentVolumeClaim": "persistentvolumeclaims",
    },
    "batch/v1": {"CronJob": "cronjobs", "Job": "jobs"},
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


class Refused(Exception):
    """An answer other than 2xx, as the API server words it."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class Cluster:
    """What is in it, by (plural, namespace, name), and how it behaves."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Resource] = {}
        self.applied: list[str] = []
        """Names in the order in which they came, those of dry runs left out."""
        self.failing: set[str] = set()
        """Workloads whose pods do not become ready."""
        self.bad_images: set[str] = set()
        """Images that nobody can pull: what runs them does not become ready."""
        self.logs: dict[str, str] = {}
        """What the containers of a workload have logged; its pods run then, and are not ready if it fails."""
        self.without_end: set[str] = set()
        """Jobs that go on and on."""
        self.without_endpoints: set[str] = set()
        """Services that no pod that is ready stands behind."""
        self.refuses: Callable[[Resource, bool], str | None] = lambda _content, _dry: None
        """Why an object is not admitted, such as a webhook's reason; and whether that was a dry run."""
        self.before_write: Callable[[], None] = lambda: None
        """What somebody else does just before an object is written."""
        self.url = ""

    def names(self, plural: str, namespace: str) -> set[str]:
        return {name for of, where, name in self.objects if (of, where) == (plural, namespace)}

    def add(self, plural: str, namespace: str, name: str, **content: Any) -> None:
        """Put something there that nobody applied."""
        version, kind = _TYPES[plural]
        metadata = {"name": name, "namespace": namespace, "uid": name, "resourceVersion": "1", "generation": 1}
        metadata |= content.pop("metadata", {})
        self.objects[plural, namespace, name] = {"apiVersion": version, "kind": kind, "metadata": metadata} | content

    def add_secret(self, namespace: str, name: str, *keys: str) -> None:
        self.add("secrets", namespace, name, data=dict.fromkeys(keys, "c2VjcmV0"))

    def change(self, plural: str, namespace: str, name: str, manager: str, change: Callable[[Resource], None]) -> None:
        """As somebody else writes an object."""
        before = self.objects[plural, namespace, name]
        after = deepcopy(before)
        change(after)
        self.store(plural, namespace, name, server_side_apply.write(before, after, manager), dry=False)

    def apply(self, place: Place, content: Resource, query: Mapping[str, str]) -> Resource:
        """Server-side. Raises `Refused`."""
        dry = query.get("dryRun") == "All"
        self._admit(place, content, dry=dry)
        before = self.objects.get(place)
        try:
            force = query.get("force") == "true"
            after = server_side_apply.apply(before, content, query["fieldManager"], force=force)
        except server_side_apply.Conflict as conflict:
            raise Refused(409, "Conflict", str(conflict)) from conflict
        stored = self.store(*place, after, dry=dry)
        if not dry:
            self.applied.append(f"{content['kind'].lower()}/{place[2]}")
        return stored

    def write(self, place: Place, content: Resource, query: Mapping[str, str]) -> Resource:
        """Create or replace. Raises `Refused`."""
        dry = query.get("dryRun") == "All"
        self.before_write()
        before = self.objects.get(place)
        named = content["metadata"].get("resourceVersion")
        if before is not None and named not in (None, before["metadata"]["resourceVersion"]):
            raise Refused(
                409, "Conflict", "the object has been modified; please apply your changes to the latest version"
            )
        self._admit(place, {name: part for name, part in content.items() if name != "status"}, dry=dry)
        after = server_side_apply.write(before, _with_defaults(content), query.get("fieldManager", "unknown"))
        return self.store(*place, after, dry=dry)

    def patch(self, place: Place, patch: Any, query: Mapping[str, str]) -> Resource:
        """A merge patch, or a JSON patch of the whole of `managedFields`. Raises `Refused`."""
        before = self.objects[place]
        if not isinstance(patch, list):
            return self.write(place, server_side_apply.merge_patch(before, patch), query)
        metadata = dict(before["metadata"])
        for operation in patch:
            parent, _, name = operation["path"].rpartition("/")
            assert parent == "/metadata", operation
            metadata[name] = operation["value"]
        return self.store(*place, {**before, "metadata": metadata}, dry=False)

    def delete(self, place: Place) -> None:
        self.objects.pop(place)
        plural, namespace, name = place
        if plural in ("deployments", "statefulsets"):
            self.objects.pop(("pods", namespace, f"{name}-abc"), None)

    def store(self, plural: str, namespace: str, name: str, content: Resource, *, dry: bool) -> Resource:
        """Keep it, and let happen what a cluster would make of it. Raises `Refused`."""
        before = self.objects.get((plural, namespace, name))
        content = _with_defaults(content)
        _refuse_what_is_immutable(before, content)
        old: Resource = before["metadata"] if before else {"resourceVersion": "0", "generation": 0}
        same = before is not None and before.get("spec") == content.get("spec")
        metadata = {
            **content["metadata"], "uid": name, "resourceVersion": str(int(old["resourceVersion"]) + 1),
            "generation": old["generation"] + (0 if same else 1),
        }  # fmt: skip
        stored = {**content, "metadata": metadata}
        if dry:
            return stored
        if plural in ("deployments", "statefulsets"):
            failing = self._fails(stored)
            stored["status"] = _status(metadata["generation"], stored["spec"]["replicas"], failing=failing)
            self._add_pod(stored, failing=failing)
        if plural == "jobs":
            failing = any(name.startswith(failing) for failing in self.failing)
            message = "Job has reached the specified backoff limit"
            ended = {"type": "Failed" if failing else "Complete", "status": "True", "message": message}
            stored["status"] = {"conditions": [ended] if name not in self.without_end else []}
        if plural == "services" and name not in self.without_endpoints:
            labels = {"kubernetes.io/service-name": name}
            points = [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}]
            self.add("endpointslices", namespace, f"{name}-1", metadata={"labels": labels}, endpoints=points)
        self.objects[plural, namespace, name] = stored
        return stored

    def _admit(self, place: Place, content: Resource, *, dry: bool) -> None:
        _, namespace, name = place
        if namespace and ("namespaces", "", namespace) not in self.objects:
            raise Refused(404, "NotFound", f'namespaces "{namespace}" not found')
        metadata = {key: value for key, value in content["metadata"].items() if key != "managedFields"}
        if found := problems({**content, "metadata": metadata}):
            raise Refused(400, "BadRequest", f"strict decoding error: {found[0]}")
        if reason := self.refuses(content, dry):
            raise Refused(403, "Forbidden", f'{content["kind"]} "{name}" is forbidden: {reason}')

    def _fails(self, workload: Resource) -> bool:
        images = {container["image"] for container in workload["spec"]["template"]["spec"]["containers"]}
        return workload["metadata"]["name"] in self.failing or bool(images & self.bad_images)

    def _add_pod(self, workload: Resource, *, failing: bool) -> None:
        name, namespace = workload["metadata"]["name"], workload["metadata"]["namespace"]
        state: Resource = {"running": {}}
        if failing and name not in self.logs:
            message = 'Back-off pulling image "shokado:no": ErrImagePull: no such image'
            state = {"waiting": {"reason": "ImagePullBackOff", "message": message}}
            for number, (reason, said) in enumerate(
                [
                    ("Failed", 'Failed to pull image "shokado:no": no such image'),
                    ("Failed", "Error: ErrImagePull"),
                    ("BackOff", 'Back-off pulling image "shokado:no"'),
                ]
            ):
                self.add_event(namespace, f"{name}-{number}", "Pod", f"{name}-abc", reason, said)
        template = workload["spec"]["template"]
        labels, containers = template["metadata"]["labels"], template["spec"]["containers"]
        status = {"containerStatuses": [{"name": "shokado", "ready": not failing, "state": state}]}
        spec = {"containers": containers}
        self.add("pods", namespace, f"{name}-abc", metadata={"labels": labels}, spec=spec, status=status)

    def add_event(self, namespace: str, name: str, kind: str, about: str, reason: str, message: str) -> None:
        involved = {"kind": kind, "name": about}
        event = {
            "type": "Warning",
            "reason": reason,
            "message": message,
            "lastTimestamp": f"2026-01-01T00:00:00Z{name}",
        }
        self.add("events", namespace, name, involvedObject=involved, **event)


def _with_defaults(content: Resource) -> Resource:
    """What an API server fills in, of what decides whether a later apply conflicts."""
    content = deepcopy(content)
    if content["kind"] in ("Deployment", "StatefulSet"):
        content["spec"].setdefault("replicas", 1)
        content["spec"].setdefault("revisionHistoryLimit", 10)
        for container in content["spec"]["template"]["spec"]["containers"]:
            container.setdefault("imagePullPolicy", "IfNotPresent")
            container.setdefault("terminationMessagePath", "/dev/termination-log")
            container.setdefault("terminationMessagePolicy", "File")
    if content["kind"] == "StatefulSet":
        content["spec"].setdefault("updateStrategy", {}).setdefault("type", "RollingUpdate")
        for claim in content["spec"].get("volumeClaimTemplates", []):
            claim.setdefault("apiVersion", "v1")
            claim.setdefault("kind", "PersistentVolumeClaim")
            claim["spec"].setdefault("volumeMode", "Filesystem")
            claim.setdefault("status", {"phase": "Pending"})
    return content


_MUTABLE = {"replicas", "ordinals", "template", "updateStrategy", "minReadySeconds", "revisionHistoryLimit",
            "persistentVolumeClaimRetentionPolicy"}  # fmt: skip


def _refuse_what_is_immutable(before: Resource | None, after: Resource) -> None:
    if before is None or after["kind"] not in ("Deployment", "StatefulSet"):
        return
    old, new = before["spec"], after["spec"]
    changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    if after["kind"] == "StatefulSet" and (fixed := changed - _MUTABLE):
        words = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', .. are forbidden"
        raise Refused(
            422, "Invalid", f"{_called(after)} is invalid: spec: Forbidden: {words} ({', '.join(sorted(fixed))})"
        )
    if "selector" in changed:
        raise Refused(422, "Invalid", f"{_called(after)} is invalid: spec.selector: field is immutable")


def _called(resource: Resource) -> str:
    return f'{resource["kind"]}.apps "{resource["metadata"]["name"]}"'


def _status(generation: int, replicas: int, *, failing: bool) -> Resource:
    """Of a workload whose pods are all new."""
    ready = 0 if failing else replicas
    status: Resource = {"observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas}
    status |= {"currentReplicas": replicas, "readyReplicas": ready, "availableReplicas": ready}
    return status | {"unavailableReplicas": replicas - ready, "currentRevision": "a", "updateRevision": "a"}


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
    # A body is sent after its head: the kernel would keep it until the client has acknowledged that, 40 ms later.
    disable_nagle_algorithm = True
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
            case ["api", "v1", "namespaces", _, "pods", name, "log"]:
                self._answer_text(self.of.logs.get(name.removesuffix("-abc"), ""))
            case parts:
                self._read(*_place(parts), query)

    def do_PATCH(self) -> None:
        place, query = self._named()
        content = yaml.load(self._body(), yaml.CSafeLoader)
        if self.headers["content-type"] == "application/apply-patch+yaml":
            self._try(lambda: self.of.apply(place, content, query))
        elif place not in self.of.objects:
            self._answer(_not_found(place[2]), status=404)
        else:
            self._try(lambda: self.of.patch(place, content, query))

    def do_POST(self) -> None:
        (plural, namespace, _), query = self._named()
        content = json.loads(self._body())
        self._try(lambda: self.of.write((plural, namespace, content["metadata"]["name"]), content, query), status=201)

    def do_PUT(self) -> None:
        place, query = self._named()
        content = json.loads(self._body())
        self._try(lambda: self.of.write(place, content, query))

    def do_DELETE(self) -> None:
        place, _ = self._named()
        self._body()
        if place not in self.of.objects:
            self._answer(_not_found(place[2]), status=404)
            return
        self.of.delete(place)
        self._answer({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def _named(self) -> tuple[Place, dict[str, str]]:
        url = urlsplit(self.path)
        plural, namespace, name = _place(url.path.strip("/").split("/"))
        return (plural, namespace, name or ""), {key: values[0] for key, values in parse_qs(url.query).items()}

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length", "0")))

    def _try(self, act: Callable[[], Resource], status: int = 200) -> None:
        try:
            self._answer(act(), status=status)
        except Refused as refused:
            self._answer(_failure(refused.status, refused.reason, str(refused)), status=refused.status)

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _read(self, plural: str, namespace: str, name: str | None, query: dict[str, str]) -> None:
        if plural not in _TYPES:
            self._answer(_not_found(self.path), status=404)
            return
        if name is not None:
            found = self.of.objects.get((plural, namespace, name))
            self._answer(found or _not_found(name), status=200 if found else 404)
            return
        version, kind = _TYPES[plural]
        items = [
            item
            for (of, where, _), item in list(self.of.objects.items())
            if (of, where) == (plural, namespace) and _selected(item, query)
        ]
        if query.get("watch") in ("true", "1"):
            self._watch(_initial_events(version, kind, items) if query.get("sendInitialEvents") == "true" else [])
        else:
            self._answer(
                {"apiVersion": version, "kind": f"{kind}List", "metadata": {"resourceVersion": "1"}, "items": items}
            )

    def _watch(self, events: list[Resource]) -> None:
        """After these nothing ever changes: the connection stays until the client leaves."""
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        for event in events:
            self.wfile.write(json.dumps(event).encode() + b"\n")
        self.wfile.flush()
        self.connection.recv(1)
        self.close_connection = True

    def _answer(self, content: Resource, content_type: str = "application/json", status: int = 200) -> None:
        self._send(json.dumps(content).encode(), content_type, status)

    def _answer_text(self, text: str) -> None:
        self._send(text.encode(), "text/plain", 200)

    def _send(self, body: bytes, content_type: str, status: int) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _initial_events(version: str, kind: str, items: list[Resource]) -> list[Resource]:
    """What is there, and that this was all: kubectl 1.35 and newer ask for it in place of a list."""
    metadata = {"resourceVersion": "1", "annotations": {"k8s.io/initial-events-end": "true"}}
    end = {"type": "BOOKMARK", "object": {"apiVersion": version, "kind": kind, "metadata": metadata}}
    return [*({"type": "ADDED", "object": item} for item in items), end]


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
    return _failure(404, "NotFound", f"{what} not found")


def _failure(code: int, reason: str, message: str) -> Resource:
    said = {"status": "Failure", "code": code, "reason": reason, "message": message}
    return {"kind": "Status", "apiVersion": "v1", **said}
