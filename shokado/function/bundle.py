"""The bundle: what a function is built with. In: its folder. Out: settings, artefacts, the gate.

It lies as in a bento: `configuration/serving.yaml`, and below `model_store/` the models as BentoML's store has them,
which are read without BentoML.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from configuration.function_settings import as_function, obstacles
from configuration.secret_file import read_secret
from configuration.settings import EngineChoice, Settings, SettingsError, load_settings
from runners.artefacts.artefact import Artefact, ArtefactMissing
from runners.artefacts.card import Card
from runners.artefacts.configured import card_of_first, find_artefacts, row_format_of
from runners.artefacts.repository import look_up
from runners.inputs.rows import RowReader
from shokado.access.gate import Gate


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a function is made of; nothing of it changes while it lives."""

    settings: Settings
    artefacts: dict[str, Artefact]
    """The artefact of each version."""
    gate: Gate
    secret: bytes | None
    """What seals prediction ids, where it is configured."""

    @property
    def card(self) -> Card:
        """See `runners.artefacts.configured.card_of_first`."""
        return card_of_first(self.artefacts)

    @property
    def row_format(self) -> RowReader:
        """How requests are read."""
        return row_format_of(self.artefacts, self.settings.limits)


def open_bundle(root: Path) -> Bundle:
    """Read everything. Raises `SettingsError`, `ArtefactError` and `KeyFileError`."""
    settings = load_settings()
    if found := obstacles(settings):
        raise SettingsError("\n".join(found))
    settings = as_function(settings, installed_engines())
    artefacts = find_artefacts(settings, _find)
    secret = read_secret(root, settings.feedback.secret_file)
    return Bundle(settings, artefacts, Gate(settings.access, settings.model, root), secret)


def installed_engines() -> set[EngineChoice]:
    """The engines whose packages are in the function."""
    packages = {EngineChoice.ONNXRUNTIME: "onnxruntime", EngineChoice.XGBOOST: "xgboost"}
    return {engine for engine, package in packages.items() if find_spec(package) is not None}


def _find(version: str, tag: str) -> Artefact:
    found = look_up(*tag.split(":"))
    if found is None:
        raise ArtefactMissing(f"no model {tag!r} in this function")
    return Artefact(version, tag, found.folder, found.card)
