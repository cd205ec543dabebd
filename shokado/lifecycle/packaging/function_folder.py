"""The folder of a function: configuration, versions, sources and packages go in, as Lambda will have it at /var/task.

lambda_function.py                what Lambda calls
configuration/ runners/ shokado/  what it imports of this project, and serving.yaml
bentoml/models/                   the versions
numpy/ onnxruntime/ ..            packages
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from configuration.function_settings import obstacles
from configuration.settings import (
    DEFAULT_FILE,
    FILE_VARIABLE,
    PREFIX,
    EngineChoice,
    Settings,
    SettingsError,
    load_settings,
)
from runners.artefacts import repository
from runners.artefacts.artefact import Artefact, ArtefactDamaged, ArtefactError, check_alike
from runners.artefacts.card import FileKind
from shokado.lifecycle.errors import BuildFailed, LifecycleError
from shokado.lifecycle.importing import registry
from shokado.lifecycle.packaging.function_order import FunctionOrder
from shokado.lifecycle.progress import step

MODELS = Path("model_store") / "models"
_HANDLER = Path("shokado") / "function" / "lambda_function.py"
_SOURCES = (
    "configuration", "runners",
    *(f"shokado/{name}" for name in (
        "access", "control", "dialects", "dispatch", "drift", "experiments", "features", "function", "monitoring",
        "request_log", "stores", "transports", "worker",
    )),
)  # fmt: skip
_NOT_IMPORTED = ("__pycache__", "*.pyc", "dashboard", "grpc")


@dataclass(frozen=True)
class FunctionContent:
    """What a function is to hold."""

    settings: Settings
    config: Path
    """The serving.yaml of these settings."""
    artefacts: tuple[Artefact, ...]

    @property
    def needs_xgboost(self) -> bool:
        """Whether a version cannot be scored without it."""
        chosen = ((self.settings.versions[found.version].engine, found.card.files) for found in self.artefacts)
        return any(engine is EngineChoice.XGBOOST or FileKind.ONNX not in files for engine, files in chosen)


def content_of(order: FunctionOrder) -> FunctionContent:
    """What is configured, and its versions in the store. Raises `LifecycleError` for what a function cannot keep."""
    overrides = [name for name in os.environ if name.startswith(PREFIX) and name != FILE_VARIABLE]
    if overrides:
        raise LifecycleError(
            f"{', '.join(sorted(overrides))} would not travel with the function: write it into serving.yaml, and "
            "unset it; a function has variables of its own."
        )
    config = order.config or Path(os.environ.get(FILE_VARIABLE) or DEFAULT_FILE)
    try:
        settings = load_settings(config)
    except SettingsError as error:
        raise LifecycleError(str(error)) from error
    if found := [*obstacles(settings), *_left_behind(settings)]:
        raise LifecycleError(f"{config} cannot be kept by a function:\n" + "\n".join(found))
    return FunctionContent(settings, config, tuple(_artefacts(settings)))


def fill(folder: Path, content: FunctionContent) -> None:
    """Copy sources, configuration and versions into the folder."""
    with step("copy code and versions") as current:
        for name in _SOURCES:
            ignored = shutil.ignore_patterns(*_NOT_IMPORTED)
            shutil.copytree(registry.PROJECT / name, folder / name, ignore=ignored)
        shutil.copy(registry.PROJECT / "shokado" / "__init__.py", folder / "shokado")
        shutil.copy(registry.PROJECT / _HANDLER, folder)
        shutil.copy(content.config, folder / "configuration" / "serving.yaml")
        for artefact in content.artefacts:
            model, version = artefact.tag.split(":")
            shutil.copytree(artefact.folder, folder / MODELS / model / version)
        if keys := content.settings.access.keys_file:
            _copy_keys(folder, Path(keys))
        current.outcome = ", ".join(artefact.tag for artefact in content.artefacts)


def _artefacts(settings: Settings) -> list[Artefact]:
    found = []
    for version in settings.versions:
        tag = settings.tag_of(version)
        try:
            artefact = repository.look_up(*tag.split(":"))
        except ArtefactDamaged as error:
            raise LifecycleError(str(error), f"shokado models prepare --dataset {settings.model}") from error
        if artefact is None:
            raise LifecycleError(
                f"Version {version} is configured as {tag}, which is not in the store.",
                f"shokado models prepare --dataset {settings.model}",
            )
        found.append(Artefact(version, tag, artefact.folder, artefact.card))
    try:
        check_alike(found)
    except ArtefactError as error:
        raise LifecycleError(str(error)) from error
    return found


def _left_behind(settings: Settings) -> list[str]:
    """Files that are named and do not belong into a function, which many may read."""
    secret = settings.feedback.secret_file
    if secret is not None and not Path(secret).is_absolute():
        remedy = "share the store of servers, which has one, or name a file where the function mounts it"
        return [
            f"feedback.secret_file: {secret}: a secret does not go into a zip; {remedy}, such as /mnt/shokado/secret"
        ]
    return []


def _copy_keys(folder: Path, keys: Path) -> None:
    """The keys file holds digests of keys, and no keys. One at an absolute path is where the function mounts it."""
    if keys.is_absolute():
        return
    target = (folder / keys).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise BuildFailed(f"access.keys_file: {keys} is outside of the project, and of the function.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(registry.PROJECT / keys, target)
    except OSError as error:
        raise LifecycleError(f"access.keys_file: {error}", "shokado keys create --name NAME --role predict") from error
