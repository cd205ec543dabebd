"""The demonstration client: its figures, and its talk with a real server at every endpoint."""

import json
import subprocess
import sys
from random import Random

import numpy as np
import pytest

from load_tests.demo_client import JSON, DemoFailed, draw_row, endpoints_of, find_endpoint, histogram, percentile
from runners.inputs.formats import row_format_of
from runners.inputs.schema import Feature
from shokado.dialects.dialects import DIALECTS
from shokado.dialects.explaining import ExplanationDialect
from shokado.dialects.head import RequestHead
from shokado.dialects.open_inference import OpenInference
from tests.conftest import ROOT
from tests.support import http
from tests.support.cards import make_card
from tests.support.server import Server, free_port


def demo(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "load_tests.demo_client", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def test_percentiles_are_values_of_nearest_rank() -> None:
    values = [float(value) for value in range(100, 0, -1)]

    assert [percentile(values, share) for share in (0.5, 0.95, 0.99)] == [50, 95, 99]
    assert percentile([7.0], 0.5) == 7


def test_every_latency_is_in_one_bin() -> None:
    values = [1.0, 1.1, 2.0, 50.0, 1_000.0]
    bins = histogram(values)

    assert sum(count for _, _, count in bins) == len(values)
    assert bins[0][0] == pytest.approx(1)
    assert bins[-1][1] == pytest.approx(1_000)
    assert histogram([3.0, 3.0]) == [(3.0, 3.0, 2)]


def test_a_row_is_mixed_out_of_the_known_ones() -> None:
    rows = [[1, 10], [2, 20]]

    assert {tuple(draw_row(Random(seed), rows)) for seed in range(50)} == {(1, 10), (1, 20), (2, 10), (2, 20)}
    assert draw_row(Random(1), ["a text"]) == "a text"


@pytest.mark.slow
def test_every_prediction_route_is_an_endpoint_and_gets_its_predictions(server: Server) -> None:
    description = http.get(f"{server.url}/openapi.json", timeout=20).json()

    predicting = {dialect.path for dialect in DIALECTS}
    assert set(endpoints_of(description)) == predicting | {ExplanationDialect.path}
    for template in endpoints_of(description):
        path = template.replace("{model}", "customers").replace("{version}", "v2")
        endpoint = find_endpoint(description, path)
        ran = demo("--port", str(server.port), "--endpoint", endpoint.path, "--num-requests", "5", "--concurrency", "2")
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "5 requests in" in ran.stdout
        assert "p99" in ran.stdout
        assert "100.0%" in ran.stdout
        assert "█" in ran.stdout


def test_many_rows_of_one_unit_in_an_environment(server: Server) -> None:
    options = ("--rows", "20", "--unit", "user-7", "--environment", "staging", "--seed", "3", "--delay", "0.001")
    for endpoint in ("/v1/models/predict", "/v2/models/customers/infer", "/invocations"):
        ran = demo("--port", str(server.port), "--num-requests", "3", "--endpoint", endpoint, *options)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "v2" in ran.stdout
        assert "v1 " not in ran.stdout


def test_refused_requests_are_counted_and_say_why(server: Server) -> None:
    ran = demo("--port", str(server.port), "--num-requests", "3", "--environment", "nowhere")

    assert ran.returncode == 1
    assert "404" in ran.stdout
    assert "unknown_environment" in ran.stdout


@pytest.mark.slow
def test_what_cannot_be_asked_is_said_in_plain_words(server: Server) -> None:
    absent = demo("--port", str(free_port()))
    assert absent.returncode == 2
    assert "is it running? Start it with: make serve" in absent.stderr

    unknown = demo("--port", str(server.port), "--endpoint", "/nowhere")
    assert unknown.returncode == 2
    assert "no predictions at /nowhere" in unknown.stderr
    assert "/v1/models/predict" in unknown.stderr

    single = demo("--port", str(server.port), "--endpoint", "/predict", "--rows", "2")
    assert single.returncode == 2
    assert "takes one row" in single.stderr


def test_a_path_with_braces_is_not_asked() -> None:
    content = {"application/json": {"examples": {"one": {"value": {"instances": [[1]]}}}}}
    operation = {"tags": ["predictions"], "requestBody": {"content": content}}
    description = {"paths": {"/v1/models/{model}:predict": {"post": operation}}}

    assert find_endpoint(description, "/v1/models/v1:predict").body_of([[2]]) == {"instances": [[2]]}
    with pytest.raises(DemoFailed, match="place of the braces"):
        find_endpoint(description, "/v1/models/{model}:predict")


def test_a_tensor_for_each_feature_gets_its_column() -> None:
    features = [
        Feature(name="sex", type="category", levels=("male", "female")),
        Feature(name="age", nullable=True),
        Feature(name="alone", type="boolean"),
    ]
    dialect = OpenInference(row_format_of(features))
    card = make_card(
        format=3,
        features=[feature.model_dump() for feature in features],
        examples={"rows": [[1, 2, 1], [0, None, 0]], "scores": [0.5, 0.25]},
    )
    taken = dialect.describe(card).takes[JSON].examples
    content = {JSON: {"examples": {name: {"value": value} for name, value in taken.items()}}}
    description = {"paths": {dialect.path: {"post": {"tags": ["predictions"], "requestBody": {"content": content}}}}}
    body = find_endpoint(description, "/v2/models/m/infer").body_of([["male", 7.5, 1.0], ["female", None, 0.0]])
    found = dialect.decode(json.dumps(body).encode(), RequestHead())
    assert found.row_count == 2
    expected = np.array([[0, 7.5, 1], [1, np.nan, 0]], "<f4")
    np.testing.assert_array_equal(np.frombuffer(found.rows, "<f4").reshape(2, 3), expected)


def test_help_has_examples() -> None:
    ran = demo("--help")

    assert ran.returncode == 0
    assert "make demo ARGS=" in ran.stdout
