"""Progress lines: one per step, with what was done and how long it took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape


@dataclass
class Step:
    """A step under way; what it finds out goes into `outcome` and is printed at its end."""

    outcome: str = ""


@contextmanager
def step(what: str, clock: Callable[[], float] = time.perf_counter) -> Iterator[Step]:
    """Print `what` with its outcome and its seconds when the block ends well; an exception prints nothing here."""
    console = Console(highlight=False)
    current, started = Step(), clock()
    with console.status(what):
        yield current
    line = f"{what}: {current.outcome}" if current.outcome else what
    console.print(f"  [dim]{clock() - started:6.1f} s[/]  {escape(line)}", soft_wrap=True)


def say(line: str) -> None:
    """Print a line that is not a step."""
    Console(highlight=False).print(f"            {line}", soft_wrap=True, markup=False)
