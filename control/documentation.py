"""The OpenAPI description of the prediction routes, which FastAPI does not serve and so cannot describe itself."""

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from runners.card import Card

_REFERENCE = "#/components/schemas/{model}"
_ERRORS = {
    "400": "The body or a header cannot be read.",
    "404": "No such version or environment.",
    "413": "The body is too long, or has too many rows.",
    "415": "The content type is not understood.",
    "422": "Readable, but a row is wrong: names the row and the feature.",
    "500": "The model failed on a row.",
    "503": "Overloaded or not ready; `Retry-After` says when to come back.",
    "504": "The deadline passed while the request waited.",
}


@dataclass(frozen=True)
class PredictionRoute:
    """What there is to say about a prediction route; `example` is a body that it answers."""

    path: str
    summary: str
    takes: type[BaseModel]
    gives: type[BaseModel]
    example: dict[str, Any]
    binary: bool = False


def example_row(card: Card) -> dict[str, float]:
    """A row by name: the first of the artefact's examples."""
    return dict(zip(card.feature_names, card.examples.rows[0], strict=True))


def describe_predictions(app: FastAPI, routes: list[PredictionRoute]) -> None:
    """Add the routes to what `app` answers at `/openapi.json` and shows at `/docs`."""
    own = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = own()
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            for route in routes:
                for model in (route.takes, route.gives):
                    definition = model.model_json_schema(ref_template=_REFERENCE)
                    schemas.update(definition.pop("$defs", {}))
                    schemas[model.__name__] = definition
                schema["paths"][route.path] = {"post": _operation(route)}
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents for this
    # Now, as it takes a while, and predictions would have to wait.
    openapi()


def _operation(route: PredictionRoute) -> dict[str, Any]:
    content = {"application/json": {"schema": _reference(route.takes), "example": route.example}}
    answers = {"application/json": {"schema": _reference(route.gives)}}
    if route.binary:
        packed = {"schema": {"type": "string", "format": "binary", "description": "Packed float32, little-endian."}}
        content["application/octet-stream"] = packed
        answers["application/octet-stream"] = packed
    errors = {
        status: {
            "description": description,
            "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(model="Error")}}},
        }
        for status, description in _ERRORS.items()
    }
    return {
        "tags": ["predictions"],
        "summary": route.summary,
        "operationId": route.path.strip("/").replace("/", "_"),
        "parameters": [_header(name, description) for name, description in _HEADERS.items()],
        "requestBody": {"required": True, "content": content},
        "responses": {"200": {"description": "The prediction.", "content": answers}, **errors},
    }


_HEADERS = {
    "X-Model-Version": "A version or alias to pin.",
    "X-Environment": "The environment whose split decides, such as `staging`.",
    "X-Request-ID": "Kept and answered, if it is at most 128 letters, digits and `._:/+=@-`.",
    "X-Request-Deadline-Ms": "Milliseconds within which the answer is of use.",
}


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": description, "schema": {"type": "string"}}


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}
