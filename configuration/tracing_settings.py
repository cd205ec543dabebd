"""Tracing: which requests are traced, and where their spans go."""

from typing import Literal

from pydantic import Field, field_validator

from configuration.credentials import check_credentials
from configuration.frozen import FrozenSettings
from configuration.port import check_port


class TracingSettings(FrozenSettings):
    """Spans of requests, for OpenTelemetry; see `shokado.monitoring.tracing`.

    What is not set here is taken from OpenTelemetry's own variables, such as `OTEL_EXPORTER_OTLP_ENDPOINT`.
    """

    endpoint: str | None = Field(default=None, pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$")
    """The receiver's address, such as http://collector:4318, before `/v1/traces`; None: as the variables say, and
    without them nothing is traced."""
    protocol: Literal["http/protobuf", "grpc"] | None = None
    """None: as the variables say, else http/protobuf."""
    share: float = Field(default=0.01, ge=0, le=1)
    """Part of the requests that are traced, of those whose clients send no `traceparent`: others are as it says."""
    headers_file: str | None = None
    """A file of headers for the receiver, such as a key: a line each, `name: value`; relative to the project."""
    flush_s: float = Field(default=1, ge=0.01, le=60)
    """How often spans are sent."""
    max_waiting_spans: int = Field(default=4096, ge=64, le=1_000_000)
    """Spans of one worker that are not sent yet; what is beyond them is dropped."""

    @field_validator("endpoint")
    @classmethod
    def _has_no_credentials(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and "@" in endpoint:
            # Not repeated: whoever reads the log needs no password.
            raise ValueError("an address with credentials or @ in it; a key belongs into headers_file")
        return None if endpoint is None else check_port(check_credentials(endpoint))
