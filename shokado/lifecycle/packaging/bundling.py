"""Bundling: the configuration and the model store go in, one bento with code and artefacts comes out.

The bento says in its labels which versions it carries and where each came from. The settings by which this host
finds packages stay behind: a bento is built into an image elsewhere.
"""

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from configuration.settings import PREFIX, SITES_VARIABLE, Settings, SettingsError, load_settings
from runners.artefacts import repository
from runners.artefacts.artefact import Artefact, ArtefactDamaged
from shokado.lifecycle.errors import BuildFailed, LifecycleError
from shokado.lifecycle.importing import registry
from shokado.lifecycle.progress import step

BENTOFILE = "bentofile.yaml"
# Where a checkout has what was made, and what is staged: on the same disk, so that files are linked.
_MADE = "var"
_IGNORE_FILE = ".bentoignore"
_IGNORED_FOLDER = re.compile(r"(?:\*\*/)?([\w.-]+)/")
_HOST_INDEX = re.compile(
    r"(UV_(FIND_LINKS|INDEX\w*|DEFAULT_INDEX|EXTRA_INDEX_URL|NO_INDEX|CONFIG_FILE)"
    r"|PIP_(FIND_LINKS|INDEX_URL|EXTRA_INDEX_URL|NO_INDEX|TRUSTED_HOST|CONFIG_FILE))"
)
_WITHOUT_FILES = {"UV_NO_CONFIG": "1", "PIP_CONFIG_FILE": os.devnull}


def build_bento(version: str | None = None, project: Path = registry.PROJECT) -> str:
    """Build the bento that the project's `bentofile.yaml` describes.

    Args:
        version: of the bento; BentoML makes one up where None.
        project: the folder with `bentofile.yaml`.

    Returns:
        The bento's tag, such as `shokado:1.4.0`.

    Raises:
        BuildFailed: BentoML refuses, or a setting of this host got into the bento; it is not in the store then.
        LifecycleError: no `bentofile.yaml`, or a configured version is not in the model store.
    """
    if not (project / BENTOFILE).is_file():
        raise LifecycleError(f"There is no {BENTOFILE} in {project}: run this in a checkout of the project.")
    overrides = [name for name in os.environ if name.startswith(PREFIX) and not name.startswith(SITES_VARIABLE)]
    if overrides:
        raise LifecycleError(
            f"{', '.join(sorted(overrides))} would not travel with the bento: "
            "write into configuration/serving.yaml what it is to serve, and unset it."
        )
    try:
        settings = load_settings()
    except SettingsError as error:
        raise LifecycleError(str(error)) from error
    labels = labels_of(settings)
    with step("build the bento") as current:
        tag = _build(version, project, labels)
        current.outcome = f"{tag} with " + ", ".join(f"{name}={value}" for name, value in labels.items())
    return tag


def labels_of(settings: Settings) -> dict[str, str]:
    """`model`, and for each configured version its source: `{"model": "customers", "v1": "models:/customers/1"}`."""
    found = {name: _artefact(settings, name) for name in settings.versions}
    return {"model": settings.model} | {name: one.card.source.uri for name, one in found.items() if one is not None}


def _artefact(settings: Settings, name: str) -> Artefact | None:
    """None for a remote version that the store does not have, as it need not."""
    tag = settings.tag_of(name)
    try:
        artefact = repository.look_up(*tag.split(":"))
    except ArtefactDamaged as error:
        raise LifecycleError(str(error), f"shokado models prepare --dataset {settings.model}") from error
    if artefact is None and settings.remote_of(name) is None:
        raise LifecycleError(
            f"Version {name} is configured as {tag}, which is not in the store.",
            f"shokado models prepare --dataset {settings.model}",
        )
    return artefact


def _build(version: str | None, project: Path, labels: Mapping[str, str]) -> str:
    import bentoml
    from bentoml.exceptions import BentoMLException

    # It warns of nothing but our Dockerfile: only the older kind of bento carries one.
    logging.getLogger("bentoml.build").setLevel(logging.ERROR)
    made = project / _MADE
    made.mkdir(exist_ok=True)
    with host_index_settings_removed() as removed, tempfile.TemporaryDirectory(prefix="bento-", dir=made) as at:
        context = Path(at) / "context"
        stage(project, context)
        try:
            bento = bentoml.bentos.build_bentofile(
                str(context / BENTOFILE), version=version, labels=dict(labels), build_ctx=str(context)
            )
        except (BentoMLException, OSError) as error:
            raise BuildFailed(f"BentoML did not build the bento: {error}") from error
        # BentoML imports the service, which leaves with a message when its configuration is wrong, and may fail anyhow.
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {error}"
            raise BuildFailed(f"The service cannot be imported: {reason}", "bentoml serve") from error
    tag = str(bento.tag)
    for name in leaks(Path(bento.path), removed):
        bentoml.bentos.delete(tag)
        raise BuildFailed(f"{name} of this host got into the requirements of {tag}, which was deleted again.")
    return tag


def stage(project: Path, context: Path) -> None:
    """Link the project's files, but those of folders that its `.bentoignore` names, into a folder that is not there.

    BentoML matches every file below the folder that it builds from, also those of an environment: 230,000 for half a
    minute where the tests ran before. Where a line of `.bentoignore` is more than a name, BentoML itself follows it.
    """
    ignore_file = project / _IGNORE_FILE
    lines = ignore_file.read_text(encoding="utf-8").splitlines() if ignore_file.is_file() else []
    ignored = {_MADE} | {found[1] for line in lines if (found := _IGNORED_FOLDER.fullmatch(line.strip()))}

    def ignored_among(folder: str, names: list[str]) -> set[str]:
        return {name for name in ignored.intersection(names) if (Path(folder) / name).is_dir()}

    shutil.copytree(project, context, symlinks=True, ignore=ignored_among, copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@contextmanager
def host_index_settings_removed() -> Iterator[Mapping[str, str]]:
    """Take away the variables and files that tell pip and uv where this host finds packages; gives what it removed."""
    before = dict(os.environ)
    removed = {name: value for name, value in before.items() if _HOST_INDEX.fullmatch(name) and value}
    for name in removed:
        del os.environ[name]
    os.environ.update(_WITHOUT_FILES)
    try:
        yield removed
    finally:
        for name in _WITHOUT_FILES:
            os.environ.pop(name, None)
        os.environ.update({name: before[name] for name in (*removed, *_WITHOUT_FILES) if name in before})


def leaks(bento: Path, removed: Mapping[str, str]) -> list[str]:
    """The names of the removed settings whose value is in the bento's requirements all the same."""
    requirements = bento / "env" / "python" / "requirements.txt"
    text = requirements.read_text(encoding="utf-8") if requirements.is_file() else ""
    options = [line.split("#")[0] for line in text.splitlines() if line.startswith("-")]
    return [name for name, value in removed.items() if any(part in line for part in value.split() for line in options)]
