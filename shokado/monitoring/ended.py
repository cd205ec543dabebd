"""The files of all processes of a server as one, and what ended ones counted, kept in one file of each kind.

    counter_<process>.db  --(the process has ended)-->  counter_ended.db, which names the process  -->  removed

A file of ended ones takes the place of the last one at once. Whoever is killed before leaves everything as it was; who
is killed after leaves files that do not count any more, as their processes are named.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configuration.file_lock import lock
from shokado.monitoring.files import reserved
from shokado.monitoring.process_identity import lives

KINDS = ("counter", "histogram", "gauge_max")
"""Kinds of metrics that say something of a process that has ended; all other gauges end with theirs."""
MAX_TRIES = 100
"""Tries of a reader, one more each time that files were merged meanwhile."""
_NAMES = "shokado_ended_processes"
"""The metric that names them, in these files only."""

logger = logging.getLogger("bentoml.shokado")


def collect(folder: Path) -> list[Any]:
    """`prometheus_client`'s metrics of all processes, each of which counts once. Raises `OSError`."""
    from prometheus_client.multiprocess import MultiProcessCollector

    for _ in range(MAX_TRIES):
        before = _versions(folder)
        try:
            merged = MultiProcessCollector.merge([str(path) for path in _that_count(folder)])  # type: ignore[no-untyped-call]
        except FileNotFoundError:
            continue
        # What is removed was taken over before: then it may be missing here.
        if _versions(folder) == before:
            return [_with_plain_pids(metric) for metric in merged if metric.name != _NAMES]
    raise OSError(f"{folder}: its files change faster than they can be read")


def keep_ended(folder: Path) -> None:
    """Merge the files of processes that have ended, and remove them, unless somebody else is about to."""
    try:
        with (folder / "ended.lock").open("ab") as file:
            if lock(file):
                for kind in KINDS:
                    _keep(folder, kind)
                for path in _of_processes(folder, "gauge_*"):
                    if not path.name.startswith(KINDS) and not lives(_process(path)):
                        path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("%s: what ended processes counted stays in a file for each: %s", folder, error)


def _keep(folder: Path, kind: str) -> None:
    kept = _kept(folder, kind)
    ended = [path for path in _of_processes(folder, kind) if not lives(_process(path))]
    named = set(_named(kept))
    fresh = [path for path in ended if _process(path) not in named and _is_readable(path)]
    if fresh:
        _write(kept, [kept, *fresh] if kept.exists() else fresh, [_process(path) for path in ended])
    for path in ended:
        path.unlink(missing_ok=True)


def _write(kept: Path, files: list[Path], processes: list[str]) -> None:
    from prometheus_client.mmap_dict import mmap_key
    from prometheus_client.multiprocess import MultiProcessCollector

    scratch = kept.with_suffix(".new")
    scratch.unlink(missing_ok=True)
    try:
        written = reserved()(str(scratch))
        try:
            for metric in MultiProcessCollector.merge([str(path) for path in files], accumulate=False):  # type: ignore[no-untyped-call]
                for sample in metric.samples if metric.name != _NAMES else ():
                    labels = list(sample.labels), list(sample.labels.values())
                    key = mmap_key(metric.name, sample.name, *labels, metric.documentation)
                    written.write_value(key, sample.value, 0.0)
            for process in processes:
                written.write_value(mmap_key(_NAMES, _NAMES, ["process"], [process], ""), 1.0, 0.0)
        finally:
            written.close()
        scratch.replace(kept)
    finally:
        scratch.unlink(missing_ok=True)


def _that_count(folder: Path) -> Iterator[Path]:
    for kind in KINDS:
        named = set(_named(kept := _kept(folder, kind)))
        yield from (path for path in _of_processes(folder, kind) if _process(path) not in named and _is_begun(path))
        if kept.exists():
            yield kept
    for path in _of_processes(folder, "gauge_*"):
        if not path.name.startswith(KINDS) and lives(_process(path)) and _is_begun(path):
            yield path


def _versions(folder: Path) -> list[tuple[int, int] | None]:
    """Which files of ended processes there are now."""
    return [_version(_kept(folder, kind)) for kind in KINDS]


def _version(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _named(kept: Path) -> Iterator[str]:
    """The processes that are in it."""
    import json

    from prometheus_client.mmap_dict import MmapedDict

    if not kept.exists():
        return
    for key, *_ in MmapedDict.read_all_values_from_file(str(kept)):  # type: ignore[no-untyped-call]
        if key.startswith(f'["{_NAMES}"'):
            yield json.loads(key)[2]["process"]


def _kept(folder: Path, kind: str) -> Path:
    return folder / f"{kind}_ended.db"


def _of_processes(folder: Path, kind: str) -> Iterator[Path]:
    return folder.glob(f"{kind}_[0-9]*-[0-9]*.db")


def _process(path: Path) -> str:
    return path.stem.rpartition("_")[2]


def _is_begun(path: Path) -> bool:
    """Whether there is anything in it: a file is made first, and gets its room after that."""
    return os.stat(path).st_size > 0


def _is_readable(path: Path) -> bool:
    from prometheus_client.mmap_dict import MmapedDict

    try:
        if _is_begun(path):
            list(MmapedDict.read_all_values_from_file(str(path)))  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        logger.error("%s cannot be read (%s): what that process counted is lost", path, error)
        return False
    return _is_begun(path)


def _with_plain_pids(metric: Any) -> Any:
    """As the files' names have more than the pid in it."""
    metric.samples = [
        sample._replace(labels={**sample.labels, "pid": sample.labels["pid"].partition("-")[0]})
        if metric.type == "gauge" and "pid" in sample.labels
        else sample
        for sample in metric.samples
    ]
    return metric
