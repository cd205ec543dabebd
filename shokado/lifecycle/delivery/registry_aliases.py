"""Aliases of the MLflow registry follow what is active: `@staging` and `@champion` name the versions that serve.

In: where a version came from, and an alias. Out: the alias names that version, in one step; what it was before is told.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shokado.lifecycle.errors import SourceNotFound
from shokado.lifecycle.importing import registry
from shokado.lifecycle.importing.registry import Registered

if TYPE_CHECKING:
    from mlflow import MlflowClient

_REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)/(?P<version>\d+)")


def registered_of(uri: str) -> Registered | None:
    """The registered version that an address names by its number; None for all others, which no alias can name."""
    match = _REGISTERED.fullmatch(uri)
    return Registered(match["name"], int(match["version"])) if match else None


class RegistryAliases:
    """The aliases of one registry. Everything raises `SourceNotFound`."""

    def __init__(self, client: "MlflowClient") -> None:
        self._client = client

    def of(self, name: str) -> dict[str, int]:
        """The version that each alias of a registered model names."""
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_registered_model(name).aliases
        except MlflowException as error:
            raise SourceNotFound(
                f"{registry.tracking_uri()} has no registered model {name}: {error.message}"
            ) from error
        return {str(alias): int(version) for alias, version in found.items()}

    def move(self, version: Registered, alias: str) -> str:
        """Have the alias name that version; what became of it, in words."""
        from mlflow.exceptions import MlflowException

        before = self.of(version.name).get(alias)
        if before == version.version:
            return f"models:/{version.name}@{alias} is version {version.version}"
        try:
            self._client.set_registered_model_alias(version.name, alias, str(version.version))
        except MlflowException as error:
            message = f"models:/{version.name}@{alias} cannot be moved to version {version.version}: {error.message}"
            raise SourceNotFound(message) from error
        was = f", which was version {before}" if before is not None else ""
        return f"models:/{version.name}@{alias} is version {version.version} now{was}"


@contextmanager
def opened_aliases() -> Iterator[RegistryAliases]:
    """The aliases of the registry that MLFLOW_TRACKING_URI names. Raises `LifecycleError`."""
    with registry.session() as client:
        yield RegistryAliases(client)
