"""Fetching: an address in the MLflow registry goes in, the tag of its artefact in the BentoML model store comes out.

    fetch -> `python -m lifecycle models import .. --no-pickle`, a process of its own -> tag (FetchFailed, CannotFetch)

Nothing of a model is read in this process before it is an artefact, which cannot carry code.
"""

import asyncio
import contextlib
import importlib.util
import os
import re
import signal
import sys
from pathlib import Path

from configuration.credentials import without_credentials

ADDRESS = re.compile(r"models:/[^/@\x00-\x1f]{1,255}(/\d{1,9}|/latest|@[^/@\x00-\x1f]{1,255})?")
"""`models:/<name>`, or with `/<number>`, `/latest` or `@<alias>` behind it; or `models:/<model id>`.

The import resolves what may move, and the artefact's card says what it was.
"""
FORMS = "models:/<name>/<number>, models:/<name>/latest, models:/<name>@<alias> or models:/<model id>"

_ROOT = Path(__file__).resolve().parents[1]
_NEEDED = ("lifecycle", "mlflow")
_NICENESS = 10


class FetchFailed(Exception):
    """The import was refused, or took too long; the message says why and what to run."""


class CannotFetch(FetchFailed):
    """The packages that imports need are not installed here, as in a bento."""


def is_address(source: str) -> bool:
    return ADDRESS.fullmatch(source) is not None


def command(uri: str, label: str, model: str) -> str:
    """What somebody types to import by hand what `fetch` would."""
    return f"shokado models import {uri} --as {label} --name {model}"


async def fetch(uri: str, label: str, model: str, timeout_s: float, *options: str) -> str:
    """Import a registered model as `<model>:<label>`, unless it is there, and return its tag.

    `options` are further ones of the command. The process ends, with all that it started, when the time is over or
    this is cancelled. Raises `FetchFailed`.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise CannotFetch(
            f"{uri} cannot be imported here, where {' and '.join(missing)} are not installed; run it elsewhere and "
            f"copy the artefact into this server's BentoML model store: {command(uri, label, model)}"
        )
    arguments = ("-m", "lifecycle", "models", "import", uri, "--as", label, "--name", model, "--no-pickle", *options)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env=_environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    # Live requests go first.
    with contextlib.suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
    try:
        output, errors = await asyncio.wait_for(process.communicate(), max(timeout_s, 0))
    except TimeoutError:
        raise FetchFailed(f"the import of {uri} took longer than {timeout_s:.0f} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if process.returncode:
        raise FetchFailed(_reason(errors.decode(errors="replace"), uri))
    return output.decode(errors="replace").splitlines()[-1].split()[0]


def _environment() -> dict[str, str]:
    # The import's own metrics are nobody's, and it must find `lifecycle` from whatever folder the server runs in.
    environment = {name: value for name, value in os.environ.items() if name.upper() != "PROMETHEUS_MULTIPROC_DIR"}
    path = [str(_ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    return environment | {"PYTHONPATH": os.pathsep.join(path), "NO_COLOR": "1"}


def _reason(errors: str, uri: str) -> str:
    """What the command said, on one line; of a traceback, which is a bug, the last line. Without credentials."""
    errors = without_credentials(errors)
    _, expected, said = errors.rpartition("error: ")
    if expected and "Traceback" not in said:
        return "; ".join(line.strip() for line in said.splitlines() if line.strip())
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return f"the import of {uri} failed: {lines[-1] if lines else 'it was killed'}"
