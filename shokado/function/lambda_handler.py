"""AWS Lambda's handler, and a cold start: everything is made ready when this module is imported.

Lambda imports it in its init phase, which has a whole processor and ten seconds, and calls `lambda_handler` with one
event after the other. What the start took stands in the log, in two lines.
"""

import time

_BEGAN = time.monotonic()

import asyncio
import gc
import logging
import os
from pathlib import Path
from typing import Any

# What imports leave is hardly garbage, and walking it again and again takes time of the start.
gc.disable()

from shokado.function.bundle import open_bundle
from shokado.function.instance import Instance

logger = logging.getLogger("bentoml.shokado")
_ROOT = Path(__file__).resolve().parents[2]
_SNAPSHOT = "snap-start"


class _Start:
    """How long the parts of this process's start took, told once each."""

    def __init__(self) -> None:
        self._at = _BEGAN
        self._parts: list[str] = []
        self._answered = False

    def done(self, part: str) -> None:
        now = time.monotonic()
        self._parts.append(f"{part} {now - self._at:.2f} s")
        self._at = now

    def tell(self) -> None:
        logger.info("cold start: %.2f s (%s)", self._at - _BEGAN, ", ".join(self._parts))

    def tell_first_answer(self, seconds: float) -> None:
        if not self._answered:
            self._answered = True
            logger.info("first answer: %.1f ms", seconds * 1000)


def _refuse_snapshots() -> None:
    """Raise where instances are made from a snapshot, in which all of them would draw the same random numbers."""
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == _SNAPSHOT:
        raise RuntimeError("shokado: instances restored by SnapStart would all draw the same versions: turn it off")


async def _start(start: _Start) -> Instance:
    bundle = open_bundle(_ROOT)
    start.done("configuration and artefacts")
    instance = Instance(bundle)
    await instance.start()
    start.done("versions")
    return instance


def lambda_handler(event: Any, context: Any) -> dict[str, Any]:
    """Answer an event of a gateway. Raises `NotHttp` for one that is of none."""
    began = time.monotonic()
    answer = _LOOP.run_until_complete(_INSTANCE.answer(event, context))
    _START.tell_first_answer(time.monotonic() - began)
    return answer


logger.setLevel(logging.INFO)
_refuse_snapshots()
_START = _Start()
_START.done("imports")
_LOOP = asyncio.new_event_loop()
_INSTANCE = _LOOP.run_until_complete(_start(_START))
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 100)
gc.enable()
_START.tell()
