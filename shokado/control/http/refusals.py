"""What the description of the API says about who may ask: keys, and the answers to those who may not."""

from typing import Any

from fastapi import FastAPI

from shokado.access.gate import Gate
from shokado.access.keys import Role
from shokado.control.http.authorization import is_changing, is_counted, role_for
from shokado.control.http.documentation import describe, reference
from shokado.dialects.error_codes import STATUS_DESCRIPTIONS
from shokado.dialects.error_shapes import shape_of

_SCHEMES = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}


def describe_refusals(app: FastAPI, gate: Gate) -> None:
    """Add keys and refusals, as this gate has them, to what `app` answers at `/openapi.json`.

    Call it when all routes are described.
    """
    describe(app, lambda schema: _add_refusals(schema, gate))


def _add_refusals(schema: dict[str, Any], gate: Gate) -> None:
    keys, rates = gate.watch is not None, gate.rates is not None
    if keys:
        schema["components"]["securitySchemes"] = _SCHEMES
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            predicts = "predictions" in operation["tags"]
            changing = is_changing(method.upper()) and not predicts
            role = Role.PREDICT if predicts else role_for(method.upper(), path, open_metrics=gate.settings.open_metrics)
            statuses = set[int]()
            if keys and role is not None:
                operation["security"] = [{name: []} for name in _SCHEMES]
                statuses |= {401, 403}
            if changing:
                statuses.add(403)
            if rates and (predicts or is_counted(method.upper(), role)):
                statuses.add(429)
            for status in sorted(statuses):
                _add(operation["responses"], status, shape_of(path))


def _add(responses: dict[str, Any], status: int, shape: type) -> None:
    """Add a response in the shape of the route's other errors, if it has any."""
    error = {"application/json": {"schema": reference(shape)}}
    contents = (answer.get("content") for code, answer in responses.items() if code.startswith("4"))
    responses[str(status)] = {
        "description": STATUS_DESCRIPTIONS[status],
        "content": next(filter(None, contents), error),
    }
