"""compose.yaml: its parts fit each other, the settings are the server's own, and no part may do more than it must."""

import re
from typing import Any

import pytest
import yaml

from configuration.settings import load_settings
from load_tests.bench.nginx_config import DEFAULTS, TEMPLATE
from tests.support.server import ROOT

CONTENT = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = CONTENT["services"]
SERVERS = [name for name in SERVICES if name.startswith("shokado-")]


def test_there_is_what_the_picture_shows() -> None:
    assert set(SERVICES) == {"gateway", "shokado-1", "shokado-2", "redis", "prometheus", "grafana"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_hardened_and_pinned(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert re.search(r":v?\d+\.\d+\.\d+[\w.-]*\}?$", service["image"]), service["image"]


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_names_is_there(name: str) -> None:
    service = SERVICES[name]
    for mount in service.get("volumes", ()):
        source, *_, mode = mount.split(":")
        assert source in CONTENT["volumes"] or ((ROOT / source).is_file() and mode == "ro"), mount
    assert set(service.get("depends_on", ())) <= set(SERVICES)
    assert set(service["networks"]) <= set(CONTENT["networks"])


def test_only_what_people_use_is_published_and_metrics_and_changes_to_this_machine_alone() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"gateway": ["8080:8080", "127.0.0.1:8081:8081"], "grafana": ["127.0.0.1:3001:3000"]}
    assert CONTENT["networks"]["inside"] == {"internal": True}


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_starts_with_these_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in SERVICES[name]["environment"].items():
        monkeypatch.setenv(variable, str(value))
    settings = load_settings()
    assert settings.access.required
    assert settings.access.keys_file == f"/run/secrets/{SERVICES[name]['secrets'][0]}"
    assert settings.store == "redis://redis:6379/0"
    grace_s = float(SERVICES[name]["stop_grace_period"].rstrip("s"))
    assert settings.shutdown.pause_s + settings.shutdown.drain_s < grace_s


def test_nginx_is_given_all_that_its_template_asks_for() -> None:
    asked = set(re.findall(r"\$\{([A-Z_]+)\}", TEMPLATE.read_text()))
    assert asked == set(DEFAULTS)
    for name in ("PRODUCTION_SERVERS", "STAGING_SERVERS"):
        assert re.findall(r"server ([\w-]+):3000", DEFAULTS[name]) == SERVERS


def test_prometheus_asks_the_servers() -> None:
    content = yaml.safe_load((ROOT / "compose" / "prometheus.yaml").read_text())
    assert content["scrape_configs"][0]["static_configs"][0]["targets"] == [f"{name}:3000" for name in SERVERS]
