"""Where this host finds packages: its pip and uv settings go in, a pip configuration for the building of an image
comes out, with the certificates and the local folders that it names.

A build gets these as secrets and mounts, so nothing of them stays in the image. What is installed does not depend on
them, as every package is held to the digests of the lock.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from shokado.lifecycle.errors import LifecycleError

CERTIFICATES = "/etc/ssl/build-ca.pem"
"""Where the Dockerfile mounts the certificates."""
_ADDRESSES = ("index-url", "extra-index-url", "find-links")
_KEPT = (*_ADDRESSES, "no-index", "trusted-host", "proxy", "timeout", "default-timeout", "retries")
_UV = {
    "UV_DEFAULT_INDEX": "index-url",
    "UV_INDEX_URL": "index-url",
    "UV_INDEX": "extra-index-url",
    "UV_EXTRA_INDEX_URL": "extra-index-url",
    "UV_FIND_LINKS": "find-links",
}
_CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass(frozen=True)
class PackageSources:
    """What a build needs to find packages as this host does; empty where the host has no settings of its own."""

    settings: Mapping[str, str]
    """pip's, by name: `{"index-url": "https://.."}`."""
    certificates: Path | None = None
    """Certificates that this host trusts, where it names a file of its own."""

    def configuration(self) -> str:
        """The text of a `pip.conf`."""
        lines = [f"{name} = {value}" for name, value in self.settings.items()]
        trusted = [f"cert = {CERTIFICATES}"] if self.certificates else []
        return "\n".join(["[global]", *lines, *trusted, ""])

    def folders(self) -> tuple[Path, ...]:
        """The local folders among the addresses.

        Of an index it is the folder above, as the pages of an index mostly name files beside it.
        """
        found = dict.fromkeys(
            folder if name == "find-links" else folder.parent
            for name in _ADDRESSES
            for source in self.settings.get(name, "").split()
            if (folder := _local(source)) is not None
        )
        return tuple(folder for folder in found if folder != Path("/"))

    def without_folders(self) -> "PackageSources":
        """The sources without folders, for engines that cannot mount them."""
        remote = {name: [p for p in self.settings.get(name, "").split() if _local(p) is None] for name in _ADDRESSES}
        others = {name: value for name, value in self.settings.items() if name not in remote}
        return PackageSources(others | {n: " ".join(kept) for n, kept in remote.items() if kept}, self.certificates)


def of_this_host() -> PackageSources:
    """What pip itself tells, from its files and variables; then uv's variables, where pip has no such setting.

    Raises:
        LifecycleError: pip is there and cannot read its own settings.
    """
    settings = dict(_pip_settings())
    for variable, name in _UV.items():
        if os.environ.get(variable):
            settings.setdefault(name, os.environ[variable].replace(",", " "))
    named = [settings.pop("cert", ""), *(os.environ.get(variable, "") for variable in _CERTIFICATE_VARIABLES)]
    certificates = next((Path(name) for name in named if name and Path(name).is_file()), None)
    return PackageSources({name: value for name, value in settings.items() if name in _KEPT}, certificates)


def _pip_settings() -> Iterator[tuple[str, str]]:
    """Name and value, the weaker first: files (`global.x`, `install.x`), then variables (`:env:.x`)."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    # A host that keeps pip quiet would have it say nothing here.
    environment = {**os.environ, "PIP_QUIET": "0"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode:
        if "No module named pip" in finished.stderr:
            return
        raise LifecycleError(f"pip cannot read its settings: {finished.stderr.strip()}", "python -m pip config debug")
    lines = [line.partition("=") for line in finished.stdout.splitlines() if "=" in line]
    weights = ("global", "install", ":env:")
    for section in weights:
        for key, _, value in lines:
            where, _, name = key.rpartition(".")
            if where == section:
                yield name, " ".join(str(ast.literal_eval(value)).split())


def _local(source: str) -> Path | None:
    """The folder that a source names, if it is one of this host."""
    parts = urlsplit(source)
    if parts.scheme not in ("", "file"):
        return None
    folder = Path(unquote(parts.path))
    return folder.resolve() if folder.is_dir() else None
