"""Sites: where environments are served, by a file, variables over it, and what is wrong is named."""

from pathlib import Path

import pytest
import yaml

from configuration.settings import SettingsError, load_settings
from configuration.sites import DEFAULT_FILE, EnvironmentSite, load_sites


def test_the_file_that_comes_along_has_staging_and_production() -> None:
    assert load_sites() == {
        "staging": EnvironmentSite(url="http://127.0.0.1:3000", environment="staging", alias="staging"),
        "production": EnvironmentSite(url="http://127.0.0.1:3000", environment="production", alias="champion"),
    }
    assert yaml.safe_load(DEFAULT_FILE.read_bytes()).keys() == {"sites"}


def test_variables_stand_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOKADO_SITES__STAGING__URL", "https://staging.example.com/")
    monkeypatch.setenv("SHOKADO_SITES__STAGING__KEY", "secret")
    monkeypatch.setenv("SHOKADO_SITES__EUROPE__URL", "http://europe:3000")
    found = load_sites()
    assert (found["staging"].url, found["staging"].alias) == ("https://staging.example.com", "staging")
    key = found["staging"].key
    assert key is not None
    assert key.get_secret_value() == "secret"
    assert "secret" not in repr(found)
    assert found["europe"] == EnvironmentSite(url="http://europe:3000", environment="europe")
    assert set(found) == {"staging", "production", "europe"}


def test_a_server_lets_them_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOKADO_SITES__STAGING__URL", "https://staging.example.com")
    monkeypatch.setenv("SHOKADO_SITES_FILE", "sites.yaml")
    assert load_settings().model == "customers"
    monkeypatch.setenv("SHOKADO_SITE__STAGING__URL", "https://staging.example.com")
    with pytest.raises(SettingsError, match=r"STAGING__URL: unknown variable; did you mean SHOKADO_SITES"):
        load_settings()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("sites: {staging: {url: 'http://a', alais: x}}", "sites.staging.alais: unknown key"),
        ("sites: {staging: {alias: x}}", "sites.staging.url: Field required"),
        ("sites: {staging: {url: 'a:3000'}}", "'a:3000' is no address of a server"),
        ("sites: {staging: {url: 'http://a:99999'}}", "sites.staging.url: "),
        ("sites: {staging: {url: 'http://a', alias: v3}}", "it takes no such alias"),
        ("sites: {staging: {url: 'http://a', alias: latest}}", "it takes no such alias"),
        ("sites: {Staging!: {url: 'http://a'}}", "sites.Staging!"),
        ("sites: {staging: {url: 'http://a', key: hush}}", "belongs into key_file, or SHOKADO_SITES__STAGING__KEY"),
        ("sites: {}", "sites: "),
        ("site: {}", "site: unknown key; did you mean sites?"),
        ("- 1", "holds no keys with values"),
        ("a: [", "not readable as YAML"),
    ],
)
def test_what_is_wrong_is_named(content: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "sites.yaml"
    file.write_text(content)
    monkeypatch.setenv("SHOKADO_SITES_FILE", str(file))
    with pytest.raises(SettingsError) as caught:
        load_sites()
    assert named in str(caught.value)
    assert str(file) in str(caught.value)
    assert "hush" not in str(caught.value)
