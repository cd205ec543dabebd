"""A trial: an artefact is opened, checked and warmed up in a process of its own, before a worker does so in its own.

    artefact -> `python -m runners.trial`, bounded in time and memory -> passed, or `TrialFailed` with the reason

Foreign code reads the model files. What crashes it, fills the memory or never ends takes this process, and no worker.
"""

import asyncio
import sys
from pathlib import Path

from pydantic import BaseModel

from configuration.settings import BatchingSettings, VersionSettings
from runners.artefacts.card import CardError, read_card
from runners.child import Ended, run_child
from runners.engines.engine import import_xgboost_alone
from runners.free_memory import limit_memory, says_short_of_memory
from runners.runner import Runner

_REFUSED = 3


class TrialFailed(Exception):
    """The artefact cannot be served; the message is one line that says why."""


class TrialOrder(BaseModel):
    """What to try, and how: as a worker would open it."""

    version: str
    folder: Path
    settings: VersionSettings
    batching: BatchingSettings
    max_bytes: int
    """Memory that the model may take."""


async def run_trial(order: TrialOrder, timeout_s: float) -> None:
    """Return when the artefact has passed. Raises `TrialFailed`."""
    try:
        ended = await run_child("runners.trial", timeout_s=timeout_s, given=order.model_dump_json().encode())
    except TimeoutError:
        raise TrialFailed(
            f"in a process of its own it was not opened, checked and warmed up within {timeout_s:.0f} s"
        ) from None
    if ended.code:
        raise TrialFailed(_reason(ended))


def _reason(ended: Ended) -> str:
    if ended.code == _REFUSED:
        return ended.output.strip().splitlines()[-1]
    if ended.code > 0:
        return f"its process failed while it was opened, checked and warmed up: {ended.last_words}"
    said = f" ({ended.last_words})" if ended.last_words else ""
    return f"it kills the process that opens it: {ended.signal} while it was opened, checked and warmed up{said}"


class _Nobody:
    """An observer that keeps nothing."""

    def batch(self, *_: object) -> None: ...


def main() -> None:
    """Read an order from standard input and carry it out."""
    order = TrialOrder.model_validate_json(sys.stdin.buffer.read())
    import_xgboost_alone()
    import onnxruntime  # noqa: F401  # what every trial needs does not count

    limit_memory(order.max_bytes)
    try:
        runner = Runner(order.version, read_card(order.folder), order.folder, order.settings, order.batching)
        asyncio.run(runner.start(_Nobody()))
    except CardError as error:
        refused = str(error)
    except MemoryError:
        refused = "MemoryError"
    except Exception as error:
        refused = f"{type(error).__name__}: {error}"
    else:
        return
    if says_short_of_memory(refused):
        refused += "; it takes more memory than loading.max_trial_bytes allows, or than is free"
    sys.stdout.write(" ".join(refused.split()) + "\n")
    sys.exit(_REFUSED)


if __name__ == "__main__":
    main()
