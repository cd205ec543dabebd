"""Fetching: an address in the MLflow registry goes in, the tag of its artefact in the BentoML model store comes out.

    fetch -> `python -m shokado models import .. --no-pickle`, a process of its own -> tag (FetchFailed, CannotFetch)

Nothing of a model is read in this process before it is an artefact, which cannot carry code.
"""

import asyncio
import importlib.util
import re
from typing import NamedTuple

from configuration.credentials import without_credentials
from configuration.settings import Settings
from runners.artefacts.repository import remove_left_overs
from runners.child import Ended, run_child
from shokado.stores.machine import Machine

ADDRESS = re.compile(r"models:/[^/@\x00-\x1f]{1,255}(/\d{1,9}|/latest|@[^/@\x00-\x1f]{1,255})?")
"""`models:/<name>`, or with `/<number>`, `/latest` or `@<alias>` behind it; or `models:/<model id>`.

The import resolves what may move, and the artefact's card says what it was.
"""
FORMS = "models:/<name>/<number>, models:/<name>/latest, models:/<name>@<alias> or models:/<model id>"

_NEEDED = ("shokado.lifecycle.importing", "mlflow")
_NEW = "imported"
"""What the command calls an artefact that it has made where there was none."""


class FetchFailed(Exception):
    """The import was refused, or took too long; the message says why and what to run."""


class CannotFetch(FetchFailed):
    """The packages that imports need are not installed here, as in a bento."""


def is_address(source: str) -> bool:
    return ADDRESS.fullmatch(source) is not None


def command(uri: str, label: str, model: str) -> str:
    """What somebody types to import by hand what `fetch` would."""
    return f"shokado models import {uri} --as {label} --name {model}"


def import_options(settings: Settings) -> tuple[str, ...]:
    """Options of the command by what is configured."""
    return () if settings.explanations.keep_rows else ("--no-rows",)


class Fetched(NamedTuple):
    """What an import has left in the store."""

    tag: str
    new: bool
    """Whether there was nothing under the tag before."""


async def fetch(
    machine: Machine, uri: str, label: str, model: str, timeout_s: float, max_bytes: int, *options: str
) -> Fetched:
    """Import a registered model as `<model>:<label>`, unless it is there. One import at a time on this machine.

    It may take `max_bytes` of memory; `options` are further ones of the command. The process ends, with all that it
    started, when the time is over or this is cancelled. Raises `FetchFailed`.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise CannotFetch(
            f"{uri} cannot be imported here, where {' and '.join(missing)} are not installed; run it elsewhere and "
            f"copy the artefact into this server's BentoML model store: {command(uri, label, model)}"
        )
    limits = ("--max-memory", str(max_bytes), "--max-seconds", str(max(timeout_s, 1)))
    arguments = ("shokado", "models", "import", uri, "--as", label, "--name", model, "--no-pickle", *limits, *options)
    try:
        async with asyncio.timeout(max(timeout_s, 0)), machine.turn("import", timeout_s):
            ended = await run_child(*arguments, timeout_s=timeout_s)
    except TimeoutError:
        await asyncio.to_thread(remove_left_overs)
        raise FetchFailed(f"the import of {uri} took longer than {timeout_s:.0f} s") from None
    except OSError as error:
        raise FetchFailed(f"the import of {uri} cannot begin: {error}") from error
    if ended.code:
        raise FetchFailed(_reason(ended, uri))
    tag, outcome = ended.output.splitlines()[-1].split("  ")[:2]
    return Fetched(tag, outcome == _NEW)


def _reason(ended: Ended, uri: str) -> str:
    """What the command said, on one line; of a traceback, which is a bug, the last line. Without credentials."""
    _, expected, said = without_credentials(ended.errors).rpartition("error: ")
    if expected and "Traceback" not in said:
        return "; ".join(line.strip() for line in said.splitlines() if line.strip())
    return f"the import of {uri} failed: {without_credentials(ended.last_words) or 'it was killed'}"
