"""What is to be exported: a tag of the store, or an address of the registry, which is imported first."""

import re

from configuration.settings import SettingsError, load_settings
from runners.artefacts.artefact import Artefact
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.importing import registry
from shokado.lifecycle.importing.stored_artefact import stored_artefact
from shokado.lifecycle.importing.version import ImportOrder, WhenTaken, import_isolated
from shokado.lifecycle.isolation import ProcessLimits

_ADDRESS = re.compile(r"(models|runs):/.+")


def configured_tags() -> list[str]:
    """The tags of the versions that serving.yaml names. Raises `LifecycleError`."""
    try:
        settings = load_settings()
    except SettingsError as error:
        raise LifecycleError(str(error)) from error
    return [settings.tag_of(version) for version in settings.versions if settings.remote_of(version) is None]


def found_artefact(source: str, label: str | None, name: str | None, limits: ProcessLimits) -> Artefact:
    """The artefact of a tag; of an address, the one that it is imported as: `label`, or by the registry's number.

    Raises `LifecycleError`.
    """
    if not _ADDRESS.fullmatch(source):
        return stored_artefact(source)
    registry.check_address(source)
    if not registry.is_exact(source) and not source.startswith("runs:"):
        with registry.session() as client:
            source = registry.resolve(client, source)
    order = ImportOrder(source, label or registry.label_of(source), name, WhenTaken.BESIDE)
    return import_isolated(order, limits).artefact
