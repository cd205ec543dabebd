"""A trial of a function on this machine: a zip and an event go in, the answer comes out, as Lambda would give it."""

import json
import os
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from shokado.lifecycle.errors import BuildFailed, LifecycleError
from shokado.lifecycle.packaging.function_order import FunctionOrder, Runtime
from shokado.lifecycle.progress import say

_TIMEOUT_S = 300
_PROGRAM = """
import json, logging, sys
logging.basicConfig(format="%(message)s")
sys.path.insert(0, sys.argv[1])
from lambda_function import lambda_handler
print(json.dumps(lambda_handler(json.load(sys.stdin), None)))
"""


def try_function(path: Path, event: Any, variables: dict[str, str]) -> Any:
    """What the function in the zip answers to the event, in a process of its own, with its own packages alone.

    `variables` are those of the function. Raises `LifecycleError` for what is no zip of this machine's Python.
    """
    with tempfile.TemporaryDirectory(prefix="shokado-function-") as at:
        folder = Path(at) / "task"
        try:
            with zipfile.ZipFile(path) as zipped:
                zipped.extractall(folder)
        except (OSError, zipfile.BadZipFile) as error:
            raise LifecycleError(f"{path}: {error}", "shokado lambda build --runtime here") from error
        finished = _run(folder, json.dumps(event), variables)
    if finished.returncode:
        last = finished.stderr.strip().splitlines()[-1:]
        foreign = "ImportError" in finished.stderr or "ModuleNotFoundError" in finished.stderr
        raise LifecycleError(
            "\n".join(["The function does not answer:", *last]),
            "shokado lambda build --runtime here, if it was built for another Python" if foreign else None,
        )
    for line in finished.stderr.splitlines():
        say(line)
    return json.loads(finished.stdout.splitlines()[-1])


def isolated_command(python: Path, program: str, folder: Path) -> list[str]:
    """A command of that Python with its standard library, and what is in the folder; no other packages."""
    return [str(python), "-ISc", program, str(folder)]


def isolated_environment(folder: Path) -> dict[str, str]:
    """Variables as a function has them: none of this machine's but the path of programs."""
    return {"PATH": os.defpath, "HOME": str(folder.parent), "TMPDIR": str(folder.parent), "LANG": "C.UTF-8"}


def _run(folder: Path, event: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    python = FunctionOrder(runtime=Runtime.HERE).interpreter()
    assert python is not None, "this machine has the Python that runs this"
    try:
        return subprocess.run(
            isolated_command(python, _PROGRAM, folder),
            input=event,
            env={**isolated_environment(folder), **variables},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildFailed(f"The function has not answered within {_TIMEOUT_S} s.") from error
