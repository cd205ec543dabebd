"""Server-side apply as an API server does it: who owns which field, what conflicts, and how objects merge.

Follows https://kubernetes.io/docs/reference/using-api/server-side-apply/ with the types that Kubernetes publishes: a
list is one field unless its type says by which keys its items are told apart. In: an object as it is, and what a
manager applies or writes. Out: the object as it becomes, with `managedFields`. Left out: subresources, and moves
between versions of an API.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from functools import cache
from importlib.resources import files
from typing import Any

from k8s.validate import VERSIONS

Resource = dict[str, Any]
Schema = Mapping[str, Any]
Path = tuple[str, ...]
"""As `fieldsV1` writes it: `f:spec`, `k:{"name":"a"}`; `.` at the end is the item itself."""

_OWNED_METADATA = ("labels", "annotations", "finalizers", "ownerReferences")
_ANYTHING: Schema = {}


class Conflict(Exception):
    """Others own fields that would become something else; the message is the API server's."""

    def __init__(self, found: list[tuple[str, Path]]) -> None:
        super().__init__(_message(found))
        self.found = found


def apply(live: Resource | None, applied: Resource, manager: str, *, force: bool) -> Resource:
    """The object after a manager has applied its fields. Raises `Conflict`."""
    schema, entries = schema_of(applied), _entries(live)
    wanted = _fields(_owned(applied), schema)
    present = _fields(_owned(live or {}), schema)
    mine = (manager, "Apply")
    others = {key: paths for key, paths in entries.items() if key != mine}
    found = [
        (key[0], path)
        for key, paths in others.items()
        for path in sorted(paths & wanted.keys())
        if path[-1] != "." and present.get(path) != wanted[path]
    ]
    if found and not force:
        raise Conflict(found)
    for name, path in found:
        for key in [key for key in others if key[0] == name]:
            others[key] = others[key] - {path}
    merged = _merge(deepcopy(live or {}), applied, schema)
    kept = wanted.keys() | {path for paths in others.values() for path in paths}
    for path in sorted(entries.get(mine, set()) - kept, key=lambda path: (-len(path), path)):
        if path[-1] != "." or not any(other[: len(path) - 1] == path[:-1] for other in kept):
            _remove(merged, path)
    return _with_entries(merged, {**others, mine: set(wanted)})


def write(live: Resource | None, after: Resource, manager: str) -> Resource:
    """The object after an ordinary write: what a manager changed is its own from then on."""
    schema, entries = schema_of(after), _entries(live)
    before, now = _fields(_owned(live or {}), schema), _fields(_owned(after), schema)
    changed = {path for path in now if path not in before or before[path] != now[path]}
    mine = (manager, "Update")
    entries = {key: {path for path in paths if path in now and path not in changed} for key, paths in entries.items()}
    return _with_entries(after, {**entries, mine: entries.get(mine, set()) | changed})


def merge_patch(live: Resource, patch: Resource) -> Resource:
    """A strategic merge patch, without its directives for the order of lists."""
    merged: Resource = _merge(deepcopy(live), _without_directives(patch), schema_of(live))
    return merged


@cache
def _definitions() -> dict[str, Schema]:
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{VERSIONS[-1]}-local"
    content: dict[str, Schema] = json.loads((folder / "_definitions.json").read_text())["$defs"]
    return content


@cache
def _kinds() -> dict[tuple[str, str], Schema]:
    return {
        ("/".join(part for part in (named["group"], named["version"]) if part), named["kind"]): schema
        for schema in _definitions().values()
        for named in schema.get("x-kubernetes-group-version-kind", [])
    }


def schema_of(resource: Resource) -> Schema:
    """The published type of an object; of a custom resource, one that says nothing."""
    return _kinds().get((resource["apiVersion"], resource["kind"]), _ANYTHING)


def _resolved(schema: Schema) -> Schema:
    reference = schema.get("$ref")
    return schema if reference is None else {**_definitions()[reference.rpartition("/")[2]], **schema}


def _child(schema: Schema, name: str) -> Schema:
    properties = schema.get("properties") or {}
    return _resolved(properties.get(name) or schema.get("additionalProperties") or _ANYTHING)


def _is_atomic(value: Any, schema: Schema) -> bool:
    if isinstance(value, dict):
        known = schema.get("properties") or schema.get("additionalProperties") or not schema
        return bool(schema.get("x-kubernetes-map-type") == "atomic" or not known)
    if isinstance(value, list):
        return bool(schema.get("x-kubernetes-list-type", "atomic") == "atomic")
    return True


def _keys(item: Resource, schema: Schema) -> str:
    # Of a Service's port, the protocol is a key that may be left out.
    named = {
        name: item.get(name, "TCP" if name == "protocol" else None) for name in schema["x-kubernetes-list-map-keys"]
    }
    return "k:" + json.dumps({name: value for name, value in named.items() if value is not None}, separators=(",", ":"))


def _items(value: list[Any], schema: Schema) -> Iterator[tuple[str, Any]]:
    for item in value:
        by_keys = schema["x-kubernetes-list-type"] == "map"
        yield (_keys(item, schema) if by_keys else f"v:{json.dumps(item)}"), item


def _fields(value: Any, schema: Schema, path: Path = ()) -> dict[Path, Any]:
    """What can be owned, by its path."""
    if _is_atomic(value, schema) or not value:
        return {path: value} if path else {}
    found: dict[Path, Any] = {}
    if isinstance(value, dict):
        for name, part in value.items():
            found |= _fields(part, _child(schema, name), (*path, f"f:{name}"))
        return found
    of_items = _resolved(schema.get("items", _ANYTHING))
    for key, item in _items(value, schema):
        found[*path, key, "."] = None
        if key.startswith("k:"):
            found |= _fields(item, of_items, (*path, key))
    return found


def _merge(live: Any, applied: Any, schema: Schema) -> Any:
    if type(live) is not type(applied) or _is_atomic(applied, schema):
        return deepcopy(applied)
    if isinstance(applied, dict):
        merged = dict(live)
        for name, part in applied.items():
            merged[name] = _merge(live[name], part, _child(schema, name)) if name in live else deepcopy(part)
        return merged
    there = dict(_items(live, schema))
    of_items = _resolved(schema.get("items", _ANYTHING))
    wanted = {
        key: _merge(there[key], item, of_items) if key in there else deepcopy(item)
        for key, item in _items(applied, schema)
    }
    return [*wanted.values(), *(item for key, item in there.items() if key not in wanted)]


def _remove(value: Any, path: Path) -> None:
    *parents, last = path[:-1] if path[-1] == "." else path
    for step in parents:
        value = _at(value, step)
        if value is None:
            return
    if isinstance(value, list):
        value[:] = [item for item in value if not _matches(item, last)]
    elif isinstance(value, dict):
        value.pop(last[2:], None)


def _at(value: Any, step: str) -> Any:
    if isinstance(value, list):
        return next((item for item in value if _matches(item, step)), None)
    return value.get(step[2:]) if isinstance(value, dict) else None


def _matches(item: Any, step: str) -> bool:
    content = json.loads(step[2:])
    if step.startswith("v:"):
        return bool(item == content)
    return all(item.get(name, "TCP" if name == "protocol" else None) == value for name, value in content.items())


def _owned(resource: Resource) -> Resource:
    kept = {name: value for name, value in resource.items() if name not in ("apiVersion", "kind", "metadata", "status")}
    metadata = resource.get("metadata", {})
    return kept | {"metadata": {name: metadata[name] for name in _OWNED_METADATA if name in metadata}}


def _without_directives(patch: Any) -> Any:
    if isinstance(patch, dict):
        return {name: _without_directives(part) for name, part in patch.items() if not name.startswith("$")}
    return [_without_directives(item) for item in patch] if isinstance(patch, list) else patch


def _entries(resource: Resource | None) -> dict[tuple[str, str], set[Path]]:
    listed = (resource or {}).get("metadata", {}).get("managedFields", [])
    return {(entry["manager"], entry["operation"]): set(_paths(entry["fieldsV1"])) for entry in listed}


def _paths(fields: Mapping[str, Any], path: Path = ()) -> Iterator[Path]:
    if not fields and path:
        yield path
    for step, below in fields.items():
        yield from _paths(below, (*path, step))


def _with_entries(resource: Resource, entries: Mapping[tuple[str, str], Iterable[Path]]) -> Resource:
    listed = [
        {
            "manager": manager, "operation": operation, "apiVersion": resource["apiVersion"], "fieldsType": "FieldsV1",
            "time": "2026-01-01T00:00:00Z", "fieldsV1": _tree(paths),
        }
        for (manager, operation), paths in entries.items() if paths
    ]  # fmt: skip
    return {**resource, "metadata": {**resource["metadata"], "managedFields": listed}}


def _tree(paths: Iterable[Path]) -> Resource:
    tree: Resource = {}
    for path in sorted(paths):
        node = tree
        for step in path:
            node = node.setdefault(step, {})
    return tree


def _message(found: list[tuple[str, Path]]) -> str:
    if len(found) == 1:
        ((manager, path),) = found
        return f"Apply failed with 1 conflict: conflict with {_said(manager)}: {_shown(path)}"
    lines = []
    for manager in sorted({manager for manager, _ in found}):
        lines += [
            f"conflicts with {_said(manager)}:",
            *(f"- {_shown(path)}" for owner, path in found if owner == manager),
        ]
    return f"Apply failed with {len(found)} conflicts: " + "\n".join(lines)


def _said(manager: str) -> str:
    return f'"{manager}" using v1 at 2026-01-01T00:00:00Z'


def _shown(path: Path) -> str:
    return "".join(f".{step[2:]}" if step.startswith("f:") else f"[{_named(step)}]" for step in path if step != ".")


def _named(step: str) -> str:
    content = json.loads(step[2:])
    if step.startswith("v:"):
        return f"={json.dumps(content)}"
    return ",".join(f"{name}={json.dumps(value)}" for name, value in content.items())
