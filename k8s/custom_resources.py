"""Custom resources: an object is held to the CustomResourceDefinition of its kind, as an API server would hold it.

defaults filled in --> schema, with unknown fields refused --> keys of lists --> CEL rules

What compares with the object of before is not asked, as nothing was there before; webhooks are not there to be asked. A
rule that cannot be evaluated counts as broken.
"""

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

Resource = dict[str, Any]
Schema = dict[str, Any]
Kind = tuple[str, str]
"""(apiVersion, kind)."""
_LISTS = ("List", "CustomResourceDefinitionList")
_HELD_ELSEWHERE = ("apiVersion", "kind", "metadata")
_KEYWORDS = {
    "type", "format", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "multipleOf", "minItems", "maxItems", "minProperties", "maxProperties", "required",
    "allOf", "anyOf", "oneOf", "not",
}  # fmt: skip
_FLAGS = re.compile(r"(\^?)\(\?([ims]+)\)(.*)", re.DOTALL)
"""Go's patterns may begin with them; JSON Schema knows them around a part only."""
_ESCAPES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_RESERVED = {
    "as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop",
    "namespace", "null", "package", "return", "true", "var", "void", "while",
}  # fmt: skip
"""Words that CEL reserves; fields of these names are written `__namespace__` in rules."""


class NoDefinitions(Exception):
    """A folder cannot be read as definitions; the message says why."""


@dataclass(frozen=True)
class Definitions:
    """The kinds that a cluster knows beyond those of Kubernetes."""

    schemas: Mapping[Kind, Schema]
    """The schema of each kind, as `openAPIV3Schema` in a version of a definition has it."""

    def knows(self, resource: Resource) -> bool:
        return kind_of(resource) in self.schemas

    def problems(self, resource: Resource) -> list[str]:
        """One line for each thing that an API server would refuse; its metadata is not looked at."""
        schema = self.schemas[kind_of(resource)]
        content = _with_defaults({name: resource[name] for name in resource if name not in _HELD_ELSEWHERE}, schema)
        own = {name: part for name, part in schema.get("properties", {}).items() if name not in _HELD_ELSEWHERE}
        validator = jsonschema_rs.Draft4Validator(_closed(schema | {"properties": own}), validate_formats=True)
        found = [f"{where(error.instance_path)}: {error.message}" for error in validator.iter_errors(content)]
        return found or list(_broken_rules(resource | content, schema, []))


def kind_of(resource: Resource) -> Kind:
    return resource["apiVersion"], resource["kind"]


def where(path: list[Any]) -> str:
    """A path within an object, as it is shown."""
    return ".".join(str(part) for part in path) or "(the object)"


def read(folder: Path) -> Definitions:
    """The definitions in the YAML and JSON files of a folder, served versions only. Raises `NoDefinitions`."""
    schemas: dict[Kind, Schema] = {}
    for file in sorted(path for path in folder.glob("*") if path.suffix in (".yaml", ".yml", ".json")):
        for kind, schema in _served(file):
            if schemas.setdefault(kind, schema) != schema:
                raise NoDefinitions(f"{file}: {' '.join(kind)} is defined in another file as well, and otherwise")
    if not schemas:
        raise NoDefinitions(f"{folder} holds no CustomResourceDefinition in a file .yaml, .yml or .json")
    return Definitions(schemas)


def _served(file: Path) -> Iterator[tuple[Kind, Schema]]:
    try:
        documents = [content for content in yaml.load_all(file.read_text(), yaml.CSafeLoader) if content]
        for content in documents:
            for item in content["items"] if content["kind"] in _LISTS else [content]:
                if item["kind"] == "CustomResourceDefinition":
                    spec = item["spec"]
                    for version in (version for version in spec["versions"] if version["served"]):
                        kind = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
                        yield kind, version["schema"]["openAPIV3Schema"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise NoDefinitions(f"{file}: no Kubernetes objects, or no whole definitions: {error!r}") from error


def _closed(schema: Schema) -> Schema:
    """A JSON Schema of draft 4 for a structural schema; what it does not name is an error, where a server prunes."""
    # Empty lists are allowed there, and not here.
    closed = {name: part for name, part in schema.items() if name in _KEYWORDS and part != []}
    if "pattern" in closed:
        closed["pattern"] = _FLAGS.sub(r"\1(?\2:\3)", closed["pattern"])
    if schema.get("x-kubernetes-int-or-string"):
        closed["type"] = ["integer", "string"]
    if schema.get("type") == "object":
        properties = {name: _closed(part) for name, part in schema.get("properties", {}).items()}
        if schema.get("x-kubernetes-embedded-resource"):
            properties = {name: {} for name in _HELD_ELSEWHERE} | properties
        more = schema.get("additionalProperties", bool(schema.get("x-kubernetes-preserve-unknown-fields")))
        closed |= {"properties": properties, "additionalProperties": _closed(more) if isinstance(more, dict) else more}
    if "items" in schema:
        closed["items"] = _closed(schema["items"])
    if schema.get("nullable") and "type" in closed:
        types = closed["type"]
        closed["type"] = [*(types if isinstance(types, list) else [types]), "null"]
    return closed


def _with_defaults(value: Any, schema: Schema) -> Any:
    if isinstance(value, dict):
        filled = dict(value)
        for name, part in schema.get("properties", {}).items():
            if "default" in part and (name not in filled or (filled[name] is None and not part.get("nullable"))):
                filled[name] = deepcopy(part["default"])
        return {name: _with_defaults(part, _of_field(schema, name)) for name, part in filled.items()}
    if isinstance(value, list):
        return [_with_defaults(item, schema.get("items", {})) for item in value]
    return value


def _of_field(schema: Schema, name: str) -> Schema:
    more = schema.get("additionalProperties")
    found: Schema = schema.get("properties", {}).get(name, more if isinstance(more, dict) else {})
    return found


def _broken_rules(value: Any, schema: Schema, path: list[Any]) -> Iterator[str]:
    """What is wrong with the keys of lists, and by the rules in CEL, in a value that the schema allows."""
    for rule in schema.get("x-kubernetes-validations", []):
        if "oldSelf" not in rule["rule"] and (problem := _broken(rule, _for_rules(value, schema))):
            yield f"{where(path)}: {problem}"
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _broken_rules(part, _of_field(schema, name), [*path, name])
    if isinstance(value, list):
        if len(set(map(repr, keys := _keys(value, schema)))) < len(keys):
            yield f"{where(path)}: an item occurs twice, by {schema.get('x-kubernetes-list-map-keys', 'its value')}"
        for number, item in enumerate(value):
            yield from _broken_rules(item, schema.get("items", {}), [*path, number])


def _keys(items: list[Any], schema: Schema) -> list[Any]:
    """Fields by which the items of a list must differ; empty where they need not."""
    match schema.get("x-kubernetes-list-type"):
        case "set":
            return items
        case "map":
            return [[item.get(key) for key in schema["x-kubernetes-list-map-keys"]] for item in items]
        case _:
            return []


def _broken(rule: Mapping[str, str], value: Any) -> str | None:
    import cel

    try:
        if cel.evaluate(rule["rule"], {"self": value}) is True:
            return None
    except (ValueError, TypeError, RuntimeError) as error:
        return f"the rule {rule['rule']} cannot be evaluated: {error}"
    return rule.get("message") or f"breaks the rule {rule['rule']}"


def _for_rules(value: Any, schema: Schema) -> Any:
    """The value with its fields under the names that rules have for them."""
    if isinstance(value, dict):
        fields = schema.get("properties", {})
        return {
            _escaped(name) if name in fields else name: _for_rules(part, _of_field(schema, name))
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [_for_rules(item, schema.get("items", {})) for item in value]
    return value


def _escaped(name: str) -> str:
    return f"__{name}__" if name in _RESERVED else re.sub(r"__|[./-]", lambda found: _ESCAPES[found[0]], name)
