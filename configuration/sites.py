"""Where environments are served: `sites.yaml`, overridden by `SHOKADO_SITES__*` variables.

In: the file beside this module, or the one that `SHOKADO_SITES_FILE` names, and the environment. Out: frozen
`EnvironmentSite`s by name, or a `SettingsError` that names each wrong key.
"""

import os
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from configuration.credentials import without_credentials
from configuration.frozen import FrozenSettings
from configuration.overridden_settings import OverriddenSettings
from configuration.policy_file import explained
from configuration.port import check_port
from configuration.settings import PREFIX, SITES_FILE_VARIABLE, SITES_VARIABLE, Name, SettingsError

DEFAULT_FILE = Path(__file__).with_name("sites.yaml")


class EnvironmentSite(FrozenSettings):
    """Where an environment is served, and as whom it is asked."""

    url: str
    """The server's address, or that of what stands before its servers."""
    environment: Name | None = None
    """Whose split it is, at that server; None: the site's own name."""
    alias: str | None = Field(default=None, min_length=1)
    """An alias of the MLflow registry that names the version that is active here; None: no alias does."""
    key_file: Path | None = None
    key: SecretStr | None = None
    """Comes from the environment's variables only."""
    namespace: str | None = Field(default=None, min_length=1)
    """A namespace of a Kubernetes cluster; None: it runs in none."""
    context: str | None = Field(default=None, min_length=1)
    """A context of the kubeconfig; None: the current one."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{without_credentials(url)!r} is no address of a server; one is http://127.0.0.1:3000")
        return check_port(url.rstrip("/"))

    @field_validator("alias")
    @classmethod
    def _is_no_other_name(cls, alias: str | None) -> str | None:
        if alias is not None and (alias == "latest" or (alias[:1] == "v" and alias[1:].isdecimal())):
            raise ValueError(f"{alias!r} is what MLflow itself calls versions; it takes no such alias")
        return alias


class Sites(OverriddenSettings):
    """All sites by name."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__")

    sites: dict[Name, EnvironmentSite] = Field(min_length=1)

    @model_validator(mode="after")
    def _environments_are_named(self) -> Self:
        for name, site in self.sites.items():
            if site.environment is None:
                self.sites[name] = site.model_copy(update={"environment": name})
        return self


def load_sites(path: Path | None = None) -> dict[str, EnvironmentSite]:
    """Read the sites, of another file where one is named. Raises `SettingsError`."""
    path = path or Path(os.environ.get(SITES_FILE_VARIABLE) or DEFAULT_FILE)
    content = _read(path)
    try:
        return Sites(**content).sites
    except ValidationError as error:
        known = [*EnvironmentSite.model_fields, *Sites.model_fields]
        raise SettingsError("\n".join(f"{path}: {explained(problem, known)}" for problem in error.errors())) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: holds no keys with values; sites: belongs there")
    for name, site in (content.get("sites") or {}).items() if isinstance(content.get("sites"), dict) else ():
        if isinstance(site, dict) and "key" in site:
            raise SettingsError(
                f"{path}: sites.{name}.key: a key belongs into key_file, or {SITES_VARIABLE}__{str(name).upper()}__KEY"
            )
    return {str(key): value for key, value in content.items()}
