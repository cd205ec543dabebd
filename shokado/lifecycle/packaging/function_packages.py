"""Packages of a function: a lock goes in, a folder of what its Python imports comes out, compiled."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from shokado.lifecycle.errors import BuildFailed, LifecycleError
from shokado.lifecycle.importing import registry
from shokado.lifecycle.packaging.function_order import FunctionOrder
from shokado.lifecycle.progress import say, step

LOCK = registry.PROJECT / "requirements" / "function.txt"
LOCK_WITH_XGBOOST = LOCK.with_name("function-xgboost.txt")
_UNUSED_FOLDERS = ("tests", "test", "bin", "include")
_UNUSED_FILES = (".pyx", ".pxd", ".pyi", ".h", ".hpp", ".a", ".c", ".cpp")
_UNUSED_OF_ONNXRUNTIME = ("transformers", "quantization", "tools", "datasets", "backend", "capi/libonnxruntime.so.*")
_LAST_LINES = 15
"""Lines that a failure shows."""


def install_packages(order: FunctionOrder, folder: Path, *, xgboost: bool) -> None:
    """Install what the lock names into a folder, and take out what building, testing or preparing models needs.

    Raises:
        LifecycleError: uv is not installed.
        BuildFailed: a package has no wheel for the runtime, or cannot be reached.
    """
    command = [
        *(_uv(), "pip", "install", "--quiet", "--target", str(folder), "--no-deps", "--require-hashes"),
        *("--only-binary", ":all:", "--requirements", str(LOCK_WITH_XGBOOST if xgboost else LOCK)),
        *(("--python", sys.executable) if order.platform is None else ("--python-platform", order.platform)),
        *(() if order.platform is None else ("--python-version", order.runtime.python)),
    ]
    with step("install packages") as current:
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode:
            last = "\n".join(finished.stderr.splitlines()[-_LAST_LINES:])
            raise BuildFailed(f"The packages of {order.runtime} cannot be installed:\n{last}")
        _prune(folder)
        current.outcome = f"for {order.runtime} on {order.platform or 'this machine'}"


def compile_all(order: FunctionOrder, folder: Path) -> None:
    """Compile everything, never to be checked against its source: what is unpacked for a function cannot be changed.

    Where this machine lacks the function's Python, this is left out, and said: each start will compile what it imports.
    """
    python = order.interpreter()
    if python is None:
        say(
            f"there is no Python {order.runtime.python} here, so nothing is compiled, and each start takes seconds "
            f"longer; next: uv python install {order.runtime.python}, and have it on PATH"
        )
        return
    with step("compile") as current:
        # Paths in tracebacks are those of the function, whose folder is this one.
        command = [str(python), "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
        subprocess.run([*command, "-s", str(folder), "-p", "/var/task", str(folder)], check=False)
        current.outcome = f"with Python {order.runtime.python}"


def _prune(folder: Path) -> None:
    (folder / ".lock").unlink(missing_ok=True)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and path.name in _UNUSED_FOLDERS:
            shutil.rmtree(path)
        elif path.is_file() and path.suffix in _UNUSED_FILES:
            path.unlink()
    for pattern in _UNUSED_OF_ONNXRUNTIME:
        for path in (folder / "onnxruntime").glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv", path=os.environ.get("PATH"))
    if found is None:
        raise LifecycleError("uv is needed, which installs packages of another Python.", "python -m pip install uv")
    return found
