"""What is left to the garbage collector: a request that leaves a cycle behind costs a pause, sooner or later."""

import contextlib
import gc
from collections.abc import Iterator

NOISE = 100
"""Fewer objects than this may be another thread's of the tests' process. Ask for something often enough to be seen."""


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """The collector rests, with nothing left to collect."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def of_kinds(*kinds: type) -> list[object]:
    """All objects of these kinds that still exist."""
    return [thing for thing in gc.get_objects() if isinstance(thing, kinds)]
