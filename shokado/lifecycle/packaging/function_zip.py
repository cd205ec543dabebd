"""A function as a zip: an order goes in, the zip comes out in one piece, with its size and how long its start takes.

Lambda's limits are those of its developer guide, "Lambda quotas".
"""

import os
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from configuration.file_lock import lock
from shokado.lifecycle.errors import BuildFailed
from shokado.lifecycle.importing import registry
from shokado.lifecycle.packaging.function_folder import MODELS, content_of, fill
from shokado.lifecycle.packaging.function_order import FunctionOrder
from shokado.lifecycle.packaging.function_packages import compile_all, install_packages
from shokado.lifecycle.packaging.function_trial import isolated_command, isolated_environment
from shokado.lifecycle.packaging.imaging import megabytes
from shokado.lifecycle.progress import step

MAX_UNZIPPED_BYTES = 250 * 2**20
"""Size of a function's code, unzipped."""
MAX_DIRECT_BYTES = 50 * 2**20
"""Size of a zip that is sent to AWS with the request; larger ones go by way of S3."""
FOLDER = registry.PROJECT / "var" / "lambda"
"""Where functions are put together, and what they are."""
_STAGE = "stage-"
_SHOWN = 8
"""How many parts are named where they are too large together."""
_STARTED = re.compile(r"cold start: ([0-9.]+) s \((.*)\)")
_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest one that a zip can say, of all files: the same content gives the same zip."""
_START_TIMEOUT_S = 300
_PROGRAM = """
import logging, sys
logging.basicConfig()
sys.path.insert(0, sys.argv[1])
import lambda_function
"""


@dataclass(frozen=True)
class StagedFunction:
    """A function in a folder, as it will be at /var/task."""

    folder: Path
    bytes: int
    parts: tuple[tuple[str, int], ...]
    """Its packages and folders by size in bytes, the largest first."""
    cold_start: str
    """How long it took here until all versions were ready; why that is not known otherwise."""


@dataclass(frozen=True)
class FunctionZip:
    """A zip that was built."""

    path: Path
    unzipped_bytes: int
    parts: tuple[tuple[str, int], ...]
    cold_start: str

    @property
    def bytes(self) -> int:
        return self.path.stat().st_size

    @property
    def goes_by_s3(self) -> bool:
        """Whether it is too large to be sent with the request."""
        return self.bytes > MAX_DIRECT_BYTES


def build_zip(order: FunctionOrder, target: Path) -> FunctionZip:
    """Build it. Raises what `staged` raises, and `BuildFailed` where all together is larger than a zip may be."""
    with staged(order) as function:
        refuse_too_large(function.parts, function.bytes, MAX_UNZIPPED_BYTES)
        with step("zip") as current:
            write_zip(function.folder, target)
            current.outcome = f"{target}, {megabytes(target.stat().st_size)}"
    return FunctionZip(target, function.bytes, function.parts, function.cold_start)


@contextmanager
def staged(order: FunctionOrder) -> Iterator[StagedFunction]:
    """The function's folder, started once; removed at the end. The folder above it holds nothing else.

    Raises:
        LifecycleError: the configuration has what a function cannot keep, or a version is missing.
        BuildFailed: packages cannot be installed, or the function does not start.
    """
    content = content_of(order)
    FOLDER.mkdir(parents=True, exist_ok=True)
    remove_left_overs(FOLDER)
    with tempfile.TemporaryDirectory(prefix=_STAGE, dir=FOLDER) as at, held(Path(f"{at}.lock")):
        folder = Path(at) / "task"
        folder.mkdir()
        install_packages(order, folder, xgboost=order.xgboost or content.needs_xgboost)
        fill(folder, content)
        compile_all(order, folder)
        # Some umasks leave nothing to other users, of whom Lambda's is one.
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        parts = weigh(folder)
        yield StagedFunction(folder, sum(size for _, size in parts), parts, measure_start(order, folder))


def remove_left_overs(folder: Path) -> None:
    """Remove what builds that were killed have left; those under way hold the lock of theirs."""
    for lock_file in folder.glob(f"{_STAGE}*.lock"):
        with lock_file.open("ab") as file:
            if lock(file):
                shutil.rmtree(lock_file.with_suffix(""), ignore_errors=True)
                lock_file.unlink(missing_ok=True)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock of a stage, which is let go of also by who is killed; there is no file of it at the end."""
    with path.open("ab") as file:
        lock(file)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def weigh(folder: Path) -> tuple[tuple[str, int], ...]:
    """The bytes of each package, of each folder of this project, and of each version; the largest first."""
    sizes: Counter[str] = Counter()
    for path in folder.rglob("*"):
        if path.is_file():
            steps = path.relative_to(folder).parts
            deep = 4 if steps[0] == MODELS.parts[0] else 1
            sizes["/".join(steps[:deep])] += path.stat().st_size
    return tuple(sizes.most_common())


def refuse_too_large(parts: tuple[tuple[str, int], ...], total: int, limit: int) -> None:
    """Raise `BuildFailed` where Lambda would not take so many bytes, naming what is large."""
    if total <= limit:
        return
    largest = "\n".join(f"{megabytes(size):>10}  {part}" for part, size in parts[:_SHOWN])
    raise BuildFailed(
        f"The function has {megabytes(total)} unpacked, and Lambda takes {megabytes(limit)}. "
        f"The largest parts are:\n{largest}",
        "shokado lambda image, which may have 10 GB" if limit == MAX_UNZIPPED_BYTES else None,
    )


def write_zip(folder: Path, target: Path) -> None:
    """Zip the folder's content, readable for every user, in the place of what is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as written:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _TIME)
                    entry.external_attr, entry.compress_type = 0o100644 << 16, zipfile.ZIP_DEFLATED
                    with path.open("rb") as read, written.open(entry, "w", force_zip64=True) as into:
                        shutil.copyfileobj(read, into, 2**20)
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)


def measure_start(order: FunctionOrder, folder: Path) -> str:
    """How long the function takes to start in a process of its own, with its own packages alone.

    Raises `BuildFailed` where it does not start.
    """
    python = order.interpreter() if order.runs_here else None
    if python is None:
        return f"not measured, as there is no Python {order.runtime.python} for {order.architecture} here"
    with step("start it once") as current:
        finished = subprocess.run(
            isolated_command(python, _PROGRAM, folder),
            env=isolated_environment(folder),
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=_START_TIMEOUT_S,
        )
        found = _STARTED.search(finished.stderr)
        if finished.returncode or found is None:
            last = finished.stderr.strip().splitlines()[-3:]
            raise BuildFailed("The function does not start:\n" + "\n".join(last))
        current.outcome = f"{found[1]} s: {found[2]}"
        return f"{found[1]} s"
