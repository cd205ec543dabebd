"""Where a version is written in the manifests: what is changed for it, as text, and how that is put there.

A version is a folder beside `base/runner`, a line of `base/kustomization.yaml`, an entry in what the gateways of each
environment are configured with, and an object in the component for KEDA.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from shokado.lifecycle.errors import ManifestsRefused
from shokado.lifecycle.rollout.yaml_text import NotEditable, with_entry, without_entry

PREFIX = "shokado-"
"""What the names of a version's objects begin with."""
_BASE = Path("base")
_GATEWAYS = _BASE / "gateway" / "serving.yaml"
_SCALED = Path("components/keda/scaled-objects.yaml")

KUSTOMIZATION = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - ../runner
nameSuffix: {suffix}
labels:
  - pairs:
      app.kubernetes.io/version: {version}
    includeSelectors: true
configMapGenerator:
  - name: shokado
    files: [serving.yaml]
"""
SERVING = """\
# What the runners of {name} serve. What belongs to the pod stands in ../runner/deployment.yaml.

model: {model}
versions:
  {version}: {spec}
environments:
  production: {{active: {version}, weights: {{{version}: 1}}}}
"""
ROUTED = """\
{version}:
  placement: remote
  remote: {{url: "http://shokado-{name}:3000", key_file: /run/secrets/shokado/runner-key}}
"""

Changes = dict[Path, bytes | None]
"""The content of each file that changes, by its path within the folder; None: there is no such file any more."""


def additions(folder: Path, version: str, tag: str | None) -> Changes:
    """What a new version takes; the line by which it is run comes last. Raises `ManifestsRefused`."""
    word = _word(version)
    texts = {
        "name": version,
        "version": word,
        "suffix": f'"-{version}"' if word != version else f"-{version}",
        "model": section(folder / _GATEWAYS, "model"),
        "spec": f'{{tag: "{tag}"}}' if tag is not None else "{}",
    }
    changes: Changes = {
        _BASE / version / "kustomization.yaml": KUSTOMIZATION.format(**texts).encode(),
        _BASE / version / "serving.yaml": SERVING.format(**texts).encode(),
    }
    for file in gateway_files(folder):
        changes[file] = _edited(folder, file, with_entry, ["versions"], ROUTED.format(**texts))
    if like := next(filter(None, (_document(folder, known) for known in _listed(folder))), None):
        document = re.sub(rf"(?<![\w-]){re.escape(like[0])}(?![\w-])", PREFIX + version, like[1])
        changes[_SCALED] = _text(folder / _SCALED).encode() + b"---\n" + document.encode()
    file = _BASE / "kustomization.yaml"
    changes[file] = _edited(folder, file, with_entry, ["resources"], f"- {word}")
    return changes


def removals(folder: Path, version: str) -> Changes:
    """What takes a version away again; the line by which it is run goes first. Raises `ManifestsRefused`."""
    changes: Changes = {}
    for file, entry in _resources(folder, version).items():
        changes[file] = _edited(folder, file, without_entry, ["resources"], entry)
    for file in gateway_files(folder):
        if version in section(folder / file, "versions"):
            changes[file] = _edited(folder, file, without_entry, ["versions"], version)
    if (found := _document(folder, version)) is not None:
        kept = [document for document in _documents(folder) if document != found[1]]
        changes[_SCALED] = "---\n".join(kept).encode()
    for path in sorted((folder / _BASE / version).rglob("*")):
        if not path.is_dir():
            changes[path.relative_to(folder)] = None
    return changes


def write(folder: Path, changes: Changes) -> tuple[str, ...]:
    """Make the changes; where one fails, none stays. Raises `ManifestsRefused`.

    Returns:
        `added k8s/base/v3/serving.yaml` and such, one a file.
    """
    before = {path: (folder / path).read_bytes() if (folder / path).is_file() else None for path in changes}
    begun: list[Path] = []
    try:
        for path, content in changes.items():
            begun.append(path)
            put(folder / path, content)
    except BaseException as error:
        *done, last = begun
        # What failed has changed no file that was there.
        for path in (*done, *([last] if before[last] is None else [])):
            put(folder / path, before[path])
        if isinstance(error, OSError):
            raise ManifestsRefused(f"{error}. What was changed was put back.") from error
        raise
    words = {
        path: "deleted" if content is None else "added" if before[path] is None else "changed"
        for path, content in changes.items()
    }
    return tuple(f"{word} {folder.name}/{path}" for path, word in words.items())


def put(file: Path, content: bytes | None) -> None:
    """Write a file, or take it away, and folders that become empty with it; nobody sees half a file."""
    if content is None:
        file.unlink(missing_ok=True)
        for parent in file.parents:
            if not parent.is_dir() or any(parent.iterdir()):
                return
            parent.rmdir()
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}-{os.getpid()}")
    try:
        new.write_bytes(content)
        if file.exists():
            shutil.copymode(file, new)
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)


def mentions(folder: Path, version: str) -> list[str]:
    """The files and folders that name a version."""
    found = [_BASE / version] if (folder / _BASE / version).exists() else []
    found += _resources(folder, version)
    found += [file for file in gateway_files(folder) if version in section(folder / file, "versions")]
    found += [_SCALED] if _document(folder, version) is not None else []
    return [f"{folder.name}/{path}" for path in found]


def is_version(folder: Path, name: str) -> bool:
    """Whether the base's folder of that name is one of a version."""
    file = folder / _BASE / name / "kustomization.yaml"
    return file.is_file() and "../runner" in section(file, "resources")


def _listed(folder: Path) -> list[str]:
    """The versions of all environments."""
    return [name for name in section(folder / _BASE / "kustomization.yaml", "resources") if is_version(folder, name)]


def gateway_files(folder: Path) -> list[Path]:
    """What gateways are configured with."""
    return [_GATEWAYS, *sorted(path.relative_to(folder) for path in folder.glob("overlays/*/serving.yaml"))]


def _resources(folder: Path, version: str) -> dict[Path, str]:
    """How each kustomization calls a version's folder, if it names it."""
    wanted = (folder / _BASE / version).resolve()
    return {
        path.relative_to(folder): entry
        for path in (folder / _BASE / "kustomization.yaml", *sorted(folder.glob("overlays/*/kustomization.yaml")))
        for entry in section(path, "resources")
        if (path.parent / entry).resolve() == wanted
    }


def _documents(folder: Path) -> list[str]:
    """KEDA's objects, as they are written."""
    file = folder / _SCALED
    return re.split(r"(?m)^---\n", _text(file)) if file.is_file() else []


def _document(folder: Path, version: str) -> tuple[str, str] | None:
    """The name and the text of KEDA's object for a version; None where there is no such."""
    name = PREFIX + version
    texts = (
        text for text in _documents(folder) if (yaml.safe_load(text) or {}).get("metadata", {}).get("name") == name
    )
    return next(((name, text) for text in texts), None)


def _edited(folder: Path, file: Path, edit: Callable[[str, list[str], str], str], path: list[str], entry: str) -> bytes:
    try:
        return edit(_text(folder / file), path, entry).encode()
    except NotEditable as error:
        raise ManifestsRefused(f"{folder / file} cannot be edited: {error}. Edit it by hand.") from error


def section(file: Path, key: str) -> Any:
    """What a file of YAML has under a key. Raises `ManifestsRefused`, as where there is none."""
    content = yaml.safe_load(_text(file))
    if not isinstance(content, dict) or content.get(key) is None:
        raise ManifestsRefused(f"{file} has no {key}.")
    return content[key]


def _text(file: Path) -> str:
    return file.read_bytes().decode()


def _word(name: str) -> str:
    """A name as YAML takes it for text, whichever version of YAML reads it."""
    is_plain = name[0].isalpha() and name not in ("y", "n") and yaml.safe_load(name) == name
    return name if is_plain else f'"{name}"'


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Let only one edit at a time go on: a second one waits for the first."""
    try:
        handle = os.open(folder / _BASE, os.O_RDONLY)
    except OSError as error:
        raise ManifestsRefused(
            f"There are no manifests in {folder}: {error.strerror}. Run this in a checkout of the project, or name"
            " their folder by --folder."
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
