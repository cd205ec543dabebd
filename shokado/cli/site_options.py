"""Where an environment is, as it is typed: by its name in `sites.yaml`, or by a server's address."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import SecretStr, ValidationError

from configuration.settings import SITES_VARIABLE, SettingsError
from configuration.sites import DEFAULT_FILE, EnvironmentSite, load_sites
from shokado.cli.canary import KEY_VARIABLE, key_of, user
from shokado.lifecycle.errors import UnknownSite
from shokado.lifecycle.refusal import plain_errors

if TYPE_CHECKING:
    from shokado.lifecycle.rollout.gateway_client import GatewayClient

SiteName = Annotated[
    str | None, typer.Option("--environment", help="A site of configuration/sites.yaml, such as staging or production.")
]
Url = Annotated[str | None, typer.Option("--url", help="Of a server, in place of the site's.")]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        help=f"A file with a key; by default the site's, or with --url alone what {KEY_VARIABLE} says.",
    ),
]


def chosen_site(name: str | None, url: str | None, key_file: Path | None) -> tuple[str, EnvironmentSite]:
    """The site that is meant, and what it is called. Raises `UnknownSite`."""
    if name is None and url is None:
        message = f"Which server? Name a site of {DEFAULT_FILE.name}, or an address."
        raise UnknownSite(message, "add --environment staging")
    if url is None or name in sites():
        site = site_named(name or "")
        changed: dict[str, Any] = {} if url is None else {"url": _checked(url)}
        changed |= {} if key_file is None else {"key_file": key_file, "key": None}
        return name or "", site.model_copy(update=changed)
    key = key_of(key_file)
    site = EnvironmentSite(url=_checked(url), environment=name, key=SecretStr(key) if key else None)
    return name or site.url, site


def sites() -> dict[str, EnvironmentSite]:
    """All sites by name. Raises `UnknownSite`."""
    try:
        return load_sites()
    except SettingsError as error:
        raise UnknownSite(str(error)) from error


def site_named(name: str) -> EnvironmentSite:
    """The site of that name. Raises `UnknownSite`."""
    known = sites()
    if name not in known:
        raise UnknownSite(
            f"There is no site {name} in {DEFAULT_FILE.name}; there are: {', '.join(known)}. It is written there, or:",
            f"{SITES_VARIABLE}__{name.upper()}__URL=https://{name}.example.com",
        )
    return known[name]


@contextmanager
def opened_site(site: EnvironmentSite, command: str) -> Iterator["GatewayClient"]:
    """A client of the site for a command, which the history of changes names beside the user."""
    with plain_errors():
        from shokado.lifecycle.rollout.gateway_client import GatewayClient

        key = key_of(site.key_file) if site.key is None and site.key_file is not None else None
        if site.key is not None:
            key = site.key.get_secret_value()
        with GatewayClient(site.url, site.environment, key, f"{user()} (shokado {command})") as gateway:
            yield gateway


def _checked(url: str) -> str:
    """Raises `UnknownSite` for what is no address."""
    try:
        return EnvironmentSite(url=url).url
    except ValidationError as error:
        raise UnknownSite(f"--url: {error.errors()[0]['msg'].removeprefix('Value error, ')}.") from None
