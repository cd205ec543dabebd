"""Where the host finds packages, as pip and uv are told, becomes what the building of an image is told."""

import os
from pathlib import Path

import pytest

from shokado.lifecycle.packaging import package_sources
from shokado.lifecycle.packaging.package_sources import PackageSources


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a host without settings of its own."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")) or name in {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


def test_a_host_without_settings() -> None:
    sources = package_sources.of_this_host()
    assert sources == PackageSources({})
    assert sources.configuration() == "[global]\n"
    assert sources.folders() == ()


def test_variables_weigh_more_than_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://file.invalid/simple\nextra-index-url =\n  https://a.invalid\n  https://b.invalid\n"
        "quiet = 1\n[install]\nno-index = true\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_INDEX_URL", "https://variable.invalid/simple")
    settings = package_sources.of_this_host().settings
    assert settings["index-url"] == "https://variable.invalid/simple"
    assert settings["extra-index-url"] == "https://a.invalid https://b.invalid"
    assert settings["no-index"] == "true"
    assert "quiet" not in settings


def test_uv_is_asked_where_pip_has_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_INDEX_URL", "https://uv.invalid/simple")
    monkeypatch.setenv("UV_FIND_LINKS", "/wheels,/more")
    monkeypatch.setenv("PIP_FIND_LINKS", "/pip")
    settings = package_sources.of_this_host().settings
    assert settings == {"index-url": "https://uv.invalid/simple", "find-links": "/pip"}


def test_certificates_are_found_where_the_host_names_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own, pips = tmp_path / "own.pem", tmp_path / "pip.pem"
    own.touch()
    pips.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(own))
    assert package_sources.of_this_host().certificates == own
    monkeypatch.setenv("PIP_CERT", str(pips))
    sources = package_sources.of_this_host()
    assert sources.certificates == pips
    assert sources.configuration() == f"[global]\ncert = {package_sources.CERTIFICATES}\n"


def test_local_folders(tmp_path: Path) -> None:
    index, wheels = tmp_path / "mirror" / "simple", tmp_path / "wheels"
    index.mkdir(parents=True)
    wheels.mkdir()
    settings = {
        "index-url": f"{index.as_uri()}",
        "extra-index-url": "https://a.invalid/simple file:///not/there",
        "find-links": f"{wheels} https://b.invalid/page.html",
        "timeout": "60",
    }
    sources = PackageSources(settings)
    assert sources.folders() == (index.parent, wheels)
    assert sources.without_folders().settings == {
        "extra-index-url": "https://a.invalid/simple file:///not/there",
        "find-links": "https://b.invalid/page.html",
        "timeout": "60",
    }
