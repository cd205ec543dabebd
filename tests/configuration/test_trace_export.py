"""Where spans go: as the settings say, else as OpenTelemetry's variables do."""

from pathlib import Path
from typing import Any

import pytest

from configuration.settings import SettingsError
from configuration.trace_export import TraceExport, trace_export
from configuration.tracing_settings import TracingSettings

COLLECTOR = "http://collector:4318"


@pytest.mark.parametrize(
    ("settings", "environment", "expected"),
    [
        ({}, {}, None),
        ({"endpoint": COLLECTOR}, {}, TraceExport("http/protobuf", f"{COLLECTOR}/v1/traces")),
        ({"endpoint": f"{COLLECTOR}/otlp/"}, {}, TraceExport("http/protobuf", f"{COLLECTOR}/otlp/v1/traces")),
        ({"endpoint": f"{COLLECTOR}/v1/traces"}, {}, TraceExport("http/protobuf", f"{COLLECTOR}/v1/traces")),
        ({"endpoint": COLLECTOR, "protocol": "grpc"}, {}, TraceExport("grpc", COLLECTOR)),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR}, TraceExport("http/protobuf", None)),
        ({}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": COLLECTOR}, TraceExport("http/protobuf", None)),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR, "OTEL_SDK_DISABLED": "TRUE"}, None),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR, "OTEL_TRACES_EXPORTER": "none"}, None),
        (
            {},
            {"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            TraceExport("grpc", None),
        ),
        (
            {"protocol": "http/protobuf"},
            {"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            TraceExport("http/protobuf", None),
        ),
        (
            {"endpoint": COLLECTOR},
            {"OTEL_SDK_DISABLED": "true"},
            TraceExport("http/protobuf", f"{COLLECTOR}/v1/traces"),
        ),
    ],
)
def test_where_spans_go(settings: dict[str, Any], environment: dict[str, str], expected: TraceExport | None) -> None:
    assert trace_export(TracingSettings(**settings), Path(), environment) == expected


def test_a_protocol_that_is_not_spoken_is_refused_by_its_variable() -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}
    with pytest.raises(SettingsError, match=r"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'http/json' is not spoken here"):
        trace_export(TracingSettings(), Path(), environment)


def test_headers_come_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "headers").write_bytes(b"Authorization: Bearer a: b\r\n\r\n  x-tenant:\t7 \n")
    settings = TracingSettings(endpoint=COLLECTOR, headers_file="headers")
    found = trace_export(settings, tmp_path, {})
    assert found is not None
    assert found.headers == {"authorization": "Bearer a: b", "x-tenant": "7"}
    assert "Bearer" not in repr(found)


@pytest.mark.parametrize("content", [b"a secret key", b": secret", b"a: \xffsecret", b"a:"])
def test_a_line_that_is_no_header_is_named_and_not_repeated(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "headers").write_bytes(b"x: 1\n" + content)
    with pytest.raises(SettingsError, match="line 2 is no header") as caught:
        trace_export(TracingSettings(endpoint=COLLECTOR, headers_file="headers"), tmp_path, {})
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"tracing\.headers_file: .*nowhere: No such file"):
        trace_export(TracingSettings(endpoint=COLLECTOR, headers_file="nowhere"), tmp_path, {})


@pytest.mark.parametrize(
    "endpoint", ["collector:4318", "ftp://collector", "http://u:p@collector", "http://collector:99999999", "http://c?x"]
)
def test_what_is_no_address_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError) as caught:
        TracingSettings(endpoint=endpoint)
    assert "u:p" not in str(caught.value).split("input_value")[0]
