"""What the description of the API says of `entities`, where features are looked up: on every route that takes them."""

from collections.abc import Callable, Iterable
from typing import Any

from fastapi import FastAPI

from configuration.feature_settings import EntityType, FeatureSettings
from shokado.control.http.documentation import REFERENCE, describe
from shokado.dialects.dialect import Dialect
from shokado.dialects.entity_bodies import ENTITIES
from shokado.dialects.error_codes import STATUS_DESCRIPTIONS
from shokado.dialects.problem import FAILED_DEPENDENCY

_SCHEMA = "Entity"
_TYPES: dict[EntityType, dict[str, Any]] = {
    EntityType.INTEGER: {"type": "integer", "format": "int64"},
    EntityType.NUMBER: {"type": "number"},
    EntityType.TEXT: {"type": "string"},
    EntityType.BOOLEAN: {"type": "boolean"},
}
_NOTE = "`entities` names whose features are looked up, where a row has no value of its own."


def describe_entities(app: FastAPI, dialects: Callable[[], Iterable[Dialect]], settings: FeatureSettings) -> None:
    """Add `entities` to what `app` says of prediction routes; to be said after `describe_predictions`."""

    def add(schema: dict[str, Any]) -> None:
        schemas = schema["components"]["schemas"]
        schemas[_SCHEMA] = _entity(settings)
        for dialect in dialects():
            if dialect.entities_beside is not None:
                operation = schema["paths"][dialect.path]["post"]
                _add_to_operation(operation)
                body = operation["requestBody"]["content"]["application/json"]["schema"]
                _add_to_body(schemas[body["$ref"].rpartition("/")[2]], dialect.entities_beside)

    describe(app, add)


def _entity(settings: FeatureSettings) -> dict[str, Any]:
    return {
        "title": _SCHEMA,
        "description": "Whose features a row has: keys of the feature store, and values that features are made of.",
        "type": "object",
        "properties": {name: _TYPES[kind] for name, kind in settings.entities.items()},
        "additionalProperties": False,
        "minProperties": 1,
    }


def _add_to_operation(operation: dict[str, Any]) -> None:
    operation["description"] = " ".join(filter(None, (operation.get("description"), _NOTE)))
    answers = operation["responses"]
    answers[str(FAILED_DEPENDENCY)] = {**answers["422"], "description": STATUS_DESCRIPTIONS[FAILED_DEPENDENCY]}
    operation["responses"] = dict(sorted(answers.items()))


def _add_to_body(body: dict[str, Any], field: str) -> None:
    """Let `entities` stand beside or instead of the field that has the rows."""
    one = {"$ref": REFERENCE.format(name=_SCHEMA)}
    several = {"anyOf": [one, {"type": "array", "items": one}], "description": "One for each row, or one for all."}
    body["properties"][ENTITIES] = one if field == "features" else several
    body["required"] = [name for name in body.get("required", ()) if name != field]
    body["anyOf"] = [{"required": [field]}, {"required": [ENTITIES]}]
