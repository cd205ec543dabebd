"""The folder in which all worker processes of a server count, and what all of them counted as one text."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

from configuration.temporary import temporary_folder
from shokado.monitoring import files
from shokado.monitoring.ended import collect, keep_ended
from shokado.monitoring.process_identity import start_ticks

_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_FOLDER_PREFIX = "shokado-metrics-"


def prepare_folder() -> Path:
    """Give all processes of this server, and no other server, one folder for their numbers; call before metrics
    are made.

    BentoML's own folder is shared by all servers of a BENTOML_HOME, and wiped when one of them starts.
    """
    parent = os.getppid()
    root = temporary_folder()
    folder = root / f"{_FOLDER_PREFIX}{os.getuid()}-{parent}-{start_ticks(parent)}"
    _remove_folders_of_dead_servers(root)
    # A full disk is no reason not to start: see `shokado.monitoring.files`.
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
    if folder.exists() and folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    os.environ[_FOLDER_VARIABLE] = str(folder)
    files.use()
    keep_ended(folder)
    return folder


def exposition(folder: Path) -> tuple[str, bytes]:
    """Content type and Prometheus text of all workers that share `folder`; it is empty while they make it again."""
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Shared(folder))
    return CONTENT_TYPE_LATEST, generate_latest(registry)


class _Shared:
    """What `prometheus_client` calls a collector."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> list[Any]:
        return collect(self._folder)


def _remove_folders_of_dead_servers(root: Path) -> None:
    for folder in root.glob(f"{_FOLDER_PREFIX}{os.getuid()}-*"):
        with contextlib.suppress(ValueError):
            pid, started = (int(part) for part in folder.name.rsplit("-", 2)[1:])
            if start_ticks(pid) != started:
                shutil.rmtree(folder, ignore_errors=True)
