"""The OpenAPI description of the prediction routes, which FastAPI does not serve and so cannot describe itself."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import Any

import msgspec
from fastapi import FastAPI

from runners.artefacts.card import Card
from shokado.dialects.dialect import Content, Dialect
from shokado.dialects.error_codes import STATUS_DESCRIPTIONS
from shokado.dialects.head import ID_PATTERN, MAX_DEADLINE_MS, MAX_UNIT_CHARACTERS, NAME_PATTERN
from shokado.transports.routes import names_in

REFERENCE = "#/components/schemas/{name}"
"""How the description refers to a shape."""
_STATUSES = (400, 404, 413, 415, 422, 500, 503, 504)
"""The statuses of errors that any prediction route answers."""
_NAMES = {
    "model": "The model's name, or one of its versions or aliases.",
    "version": "A version or alias.",
}
_NAME_SCHEMA = {"type": "string", "pattern": f"^{NAME_PATTERN}$"}
_HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "X-Model-Version": ("A version or alias to pin: it answers, whatever the split says.", _NAME_SCHEMA),
    "X-Environment": ("The environment whose split decides, such as `staging`; without it, the default.", _NAME_SCHEMA),
    "X-Unit-ID": (
        f"The user, or what else sticky assignment sticks to, before the body's: up to {MAX_UNIT_CHARACTERS} bytes.",
        {"type": "string", "maxLength": MAX_UNIT_CHARACTERS},
    ),
    "X-Request-ID": (
        "Names the request in the answer. One that does not match is replaced.",
        {"type": "string", "pattern": f"^{ID_PATTERN}$"},
    ),
    "X-Request-Deadline-Ms": (
        "Milliseconds within which the answer is of use: what cannot be done by then is refused, and not computed.",
        {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_DEADLINE_MS},
    ),
    "traceparent": (
        "The trace that the request is part of, as W3C has it. One that is not valid is ignored.",
        {"type": "string"},
    ),
    "tracestate": ("What tracing systems add to it.", {"type": "string"}),
}
"""What prediction routes heed, and what `shokado.dialects.head` takes for it."""


def describe_predictions(app: FastAPI, dialects: Callable[[], Iterable[Dialect]], card: Card) -> None:
    """Add the dialects' routes to what `app` answers at `/openapi.json` and shows at `/docs`."""

    def add(schema: dict[str, Any]) -> None:
        for operation in (operation for path in schema["paths"].values() for operation in path.values()):
            if "parameters" in operation:
                operation["parameters"] = _with_examples(operation["parameters"], card)
        paths, schemas = _paths_and_schemas(dialects(), card)
        schema["paths"] = {**paths, **schema["paths"]}
        schema.setdefault("components", {}).setdefault("schemas", {}).update(schemas)

    describe(app, add)


def describe(app: FastAPI, add: Callable[[dict[str, Any]], None]) -> None:
    """Let `add` complete the description that `app` has so far, once, when somebody asks for it.

    Making it takes a sixth of the processor time of a worker's start, and few ever ask.
    """
    make = app.openapi
    once = Lock()

    def openapi() -> dict[str, Any]:
        with once:
            if app.openapi_schema is None:
                schema = make()
                add(schema)
                app.openapi_schema = schema
            return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents for this


def describe_anew(app: FastAPI, reason: Callable[[], object]) -> None:
    """Let the description be made anew when `reason` gives another object than before; to be said last."""
    make, once = app.openapi, Lock()
    known = reason()

    def openapi() -> dict[str, Any]:
        nonlocal known
        with once:
            if (found := reason()) is not known:
                known, app.openapi_schema = found, None
            return make()

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents for this


def reference(shape: type) -> dict[str, str]:
    """The JSON schema that refers to a shape by its class's name."""
    return {"$ref": REFERENCE.format(name=shape.__name__)}


def _paths_and_schemas(dialects: Iterable[Dialect], card: Card) -> tuple[dict[str, Any], dict[str, Any]]:
    """The operations by path, and the schemas that they refer to by name."""
    dialects = list(dialects)
    descriptions = {dialect.path: dialect.describe(card) for dialect in dialects}
    notes = {dialect.path: dialect.row_format.note for dialect in dialects}
    types = []
    for found in descriptions.values():
        contents = (*found.takes.values(), *found.gives.values())
        types += [found.error, *(content.schema for content in contents if not isinstance(content.schema, dict))]
    references, schemas = msgspec.json.schema_components(types, ref_template=REFERENCE)
    reference_of = dict(zip(map(repr, types), references, strict=True))
    paths = {}
    for path, found in descriptions.items():
        error = {"schema": reference_of[repr(found.error)]}
        paths[path] = {
            "post": {
                "tags": ["predictions"],
                "summary": found.summary,
                "description": " ".join(filter(None, (found.text, notes[path]))),
                "operationId": re.sub(r"\W+", "_", path).strip("_"),
                "parameters": [*_named_in(path, card), *_headers({**_HEADERS, **found.headers})],
                "requestBody": {"required": True, "content": _contents(found.takes, reference_of)},
                "responses": {
                    "200": {
                        "description": found.answer,
                        "content": _contents(found.gives, reference_of),
                        "headers": {
                            name: {"description": description, "schema": schema}
                            for name, (description, schema) in found.answer_headers.items()
                        },
                    },
                    **{
                        str(status): {
                            "description": STATUS_DESCRIPTIONS[status],
                            "content": {"application/json": error},
                        }
                        for status in sorted((*_STATUSES, *found.statuses))
                    },
                },
            }
        }
    return _with_short_names(paths, schemas)


def _contents(contents: Mapping[str, Content], reference_of: Mapping[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {}
    for content_type, content in contents.items():
        schema = content.schema if isinstance(content.schema, dict) else reference_of[repr(content.schema)]
        described[content_type] = {"schema": schema}
        if content.examples:
            described[content_type]["examples"] = {name: {"value": value} for name, value in content.examples.items()}
    return described


def _with_short_names(paths: dict[str, Any], schemas: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`NativeBody` in place of `NativeBody_list_float_..`: there is but one kind of row."""
    short_names = {name: schema.get("title", name).split("[")[0] for name, schema in schemas.items()}
    text = json.dumps([paths, schemas])
    for name, short in short_names.items():
        text = text.replace(json.dumps(REFERENCE.format(name=name)), json.dumps(REFERENCE.format(name=short)))
    paths, schemas = json.loads(text)
    return paths, {short_names[name]: schema | {"title": short_names[name]} for name, schema in schemas.items()}


def _named_in(path: str, card: Card) -> list[dict[str, Any]]:
    named = [
        {"in": "path", "required": True, "name": name, "description": _NAMES[name], "schema": {"type": "string"}}
        for name in names_in(path)
    ]
    return _with_examples(named, card)


def _with_examples(parameters: list[dict[str, Any]], card: Card) -> list[dict[str, Any]]:
    """The parameters with examples: what is served for the names in paths."""
    served = {"model": card.model, "version": card.version}
    return [
        parameter | {"example": served[parameter["name"]]}
        if parameter["in"] == "path" and parameter["name"] in served
        else parameter
        for parameter in parameters
    ]


def _headers(headers: Mapping[str, tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    return [
        {"in": "header", "required": False, "name": name, "description": description, "schema": schema}
        for name, (description, schema) in headers.items()
    ]
