"""Ports: every number that the kernel would cut to another one is refused, wherever it is written."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from configuration.port import Port
from configuration.settings import SettingsError, load_settings

PORT = TypeAdapter(Port)


@pytest.mark.parametrize(("value", "port"), [(1, 1), (65_535, 65_535), ("3000", 3000)])
def test_a_port(value: Any, port: int) -> None:
    assert PORT.validate_python(value) == port


@pytest.mark.parametrize("value", [0, -1, 65_536, 80_000, "80000", "-1", "abc", "", " ", "30 00", 3000.5, True])
def test_no_port(value: Any) -> None:
    with pytest.raises(ValidationError, match=f"{value!r} is no port: a port is a number from 1 to 65535"):
        PORT.validate_python(value)


@pytest.mark.parametrize("port", ["80000", "0", "x"])
@pytest.mark.parametrize(
    ("variable", "form", "setting"),
    [
        ("SHOKADO_GRPC__PORT", "{}", "grpc.port"),
        ("SHOKADO_STORE", "redis://:secret@cache:{}/0", "store"),
        ("SHOKADO_CACHE__URL", "redis://cache:{}/0", "cache.url"),
        ("SHOKADO_ACCESS__RATES__URL", "rediss://cache:{}/0", "access.rates.url"),
    ],
)
def test_settings_with_a_port_that_is_none(
    monkeypatch: pytest.MonkeyPatch, variable: str, form: str, setting: str, port: str
) -> None:
    monkeypatch.setenv(variable, form.format(port))
    with pytest.raises(SettingsError, match=f"^{variable}: {setting}: .*to 65535$") as refused:
        load_settings()
    assert "secret" not in str(refused.value)


def test_the_address_of_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOKADO_VERSIONS__V2__PLACEMENT", "remote")
    monkeypatch.setenv("SHOKADO_VERSIONS__V2__REMOTE__URL", "http://shokado-v2:80000")
    with pytest.raises(SettingsError, match=r"REMOTE__URL: versions\.v2\.remote\.url: .*from 1 to 65535$"):
        load_settings()
