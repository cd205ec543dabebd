"""Where spans are sent, and as whom: of the settings, of OpenTelemetry's variables, and of a file of headers."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from configuration.regular_file import read_regular_file
from configuration.settings import SettingsError
from configuration.tracing_settings import TracingSettings

Protocol = Literal["http/protobuf", "grpc"]
_PROTOCOLS = ("http/protobuf", "grpc")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOL_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_MAX_BYTES = 65_536
"""More than any headers have: a wrong file is not read whole."""
_HEADER = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+):[ \t]*([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)").fullmatch


@dataclass(frozen=True, slots=True)
class TraceExport:
    """How the receiver is reached."""

    protocol: Protocol
    endpoint: str | None
    """None: the exporter reads it of OpenTelemetry's variables, as it does with timeouts and certificates."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def trace_export(
    settings: TracingSettings, root: Path, environment: Mapping[str, str] = os.environ
) -> TraceExport | None:
    """None where no spans are made: neither the settings nor the variables name a receiver, or these say so.

    `root` is what a relative name is looked for in. Raises `SettingsError`.
    """
    if settings.endpoint is None and not _named_by(environment):
        return None
    protocol = settings.protocol
    if protocol is None:
        variable = next((name for name in _PROTOCOL_VARIABLES if environment.get(name)), None)
        said = environment[variable] if variable is not None else _PROTOCOLS[0]
        if said not in _PROTOCOLS:
            raise SettingsError(f"{variable}: {said!r} is not spoken here; {' and '.join(_PROTOCOLS)} are")
        protocol = cast("Protocol", said)
    return TraceExport(protocol, _signal_address(settings.endpoint, protocol), _headers(settings.headers_file, root))


def _named_by(environment: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's variables want spans to be sent."""
    off = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    others = environment.get("OTEL_TRACES_EXPORTER", "").strip() not in ("", "otlp")
    return any(environment.get(name) for name in _ENDPOINTS) and not off and not others


def _signal_address(endpoint: str | None, protocol: Protocol) -> str | None:
    if endpoint is None or protocol == "grpc":
        return endpoint
    return endpoint if endpoint.endswith("/v1/traces") else f"{endpoint.rstrip('/')}/v1/traces"


def _headers(name: str | None, root: Path) -> dict[str, str]:
    if name is None:
        return {}
    path = root / name
    try:
        content = read_regular_file(path, _MAX_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"tracing.headers_file: {path}: {error.strerror or error}") from None
    headers = {}
    for number, line in enumerate(content.decode("latin-1").splitlines(), start=1):
        if not line.strip():
            continue
        found = _HEADER(line.strip())
        if found is None or len(content) > _MAX_BYTES:
            # Not repeated: it may be a key.
            raise SettingsError(f"tracing.headers_file: {path}: line {number} is no header, such as authorization: KEY")
        headers[found[1].lower()] = found[2]
    return headers
