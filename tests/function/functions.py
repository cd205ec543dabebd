"""Functions in this process: an instance on an event loop of its own, which stands still between two answers."""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from typing import Any

from shokado.dispatch.observers import TELL_AFTER_S
from shokado.function.bundle import open_bundle
from shokado.function.instance import Instance
from tests.support.server import ROOT


class Function:
    """An instance as Lambda's runtime has it."""

    def __init__(self, runner: asyncio.Runner, instance: Instance) -> None:
        self.instance = instance
        self._runner = runner

    def answer(self, event: Any, context: Any = None) -> dict[str, Any]:
        return self._runner.run(self.instance.answer(event, context))


@contextlib.contextmanager
def opened(**variables: str) -> Iterator[Function]:
    """A function of the models of all tests; keywords are its environment variables."""
    before = dict(os.environ)
    os.environ |= variables
    try:
        bundle = open_bundle(ROOT)
    finally:
        os.environ.clear()
        os.environ |= before

    async def make() -> Instance:
        instance = Instance(bundle)
        await instance.start()
        return instance

    with asyncio.Runner() as runner:
        yield Function(runner, runner.run(make()))
        # Observers are told of answers some milliseconds later, and hold them until then.
        runner.run(asyncio.sleep(5 * TELL_AFTER_S))
