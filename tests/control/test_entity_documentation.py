"""The description of `entities`: bodies that the routes take are those that it allows."""

from typing import Any

import jsonschema_rs
import pytest
from fastapi import FastAPI

from configuration.feature_settings import FeatureSettings
from shokado.control.http.documentation import describe_predictions
from shokado.control.http.entity_documentation import describe_entities
from shokado.dialects.dialects import DIALECTS, all_dialects
from tests.support.cards import NAMES, toy_card
from tests.support.rows import dense_format

SETTINGS = FeatureSettings.model_validate(
    {"url": "http://127.0.0.1:6570", "entities": {"customer_id": "integer", "text": "text"}}
)
ROW = dict.fromkeys(NAMES, 1.0)


@pytest.fixture(scope="module")
def described() -> Any:
    app, dialects = FastAPI(), lambda: all_dialects(dense_format(NAMES, max_rows=3))
    describe_predictions(app, dialects, toy_card())
    describe_entities(app, dialects, SETTINGS)
    return app.openapi()


def allows(described: Any, path: str, body: Any) -> bool:
    schema = described["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return jsonschema_rs.is_valid({**schema, "components": described["components"]}, body)


@pytest.mark.parametrize("path", [one.path for one in DIALECTS if one.entities_beside == "instances"])
def test_bodies_of_many_rows(described: Any, path: str) -> None:
    for good in (
        {"entities": {"customer_id": 17}},
        {"entities": [{"customer_id": 17}, {"text": "a"}]},
        {"entities": {"customer_id": 17}, "instances": [ROW]},
        {"instances": [ROW]},
    ):
        assert allows(described, path, good), good
    refused: list[Any] = [{}, *({"entities": bad} for bad in ({"customer": 17}, {}, [{"customer_id": "x"}], 1))]
    for bad in refused:
        assert not allows(described, path, bad), bad


@pytest.mark.parametrize("path", [one.path for one in DIALECTS if one.entities_beside == "features"])
def test_bodies_of_one_row(described: Any, path: str) -> None:
    for good in ({"entities": {"customer_id": 17}}, {"entities": {"text": ""}, "features": ROW}, {"features": ROW}):
        assert allows(described, path, good), good
    for bad in ({}, {"entities": [{"customer_id": 17}]}, {"entities": {"customer_id": 1.5}}):
        assert not allows(described, path, bad), bad


def test_only_what_takes_entities_says_so(described: Any) -> None:
    told = {path for path, route in described["paths"].items() if "424" in route["post"]["responses"]}
    assert told == {one.path for one in DIALECTS if one.entities_beside is not None}
    assert told == {path for path, route in described["paths"].items() if "`entities`" in route["post"]["description"]}
