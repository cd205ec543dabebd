"""Progress lines: one per step, with what was done and how long it took.

step, say -> the terminal
          -> or, in a process of its own (`isolation`), events to the process that shows them: `Display`
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import msgspec
from rich.console import Console
from rich.markup import escape


class Began(msgspec.Struct, tag="began", frozen=True):
    """A step is under way."""

    what: str


class Finished(msgspec.Struct, tag="finished", frozen=True):
    """A step has ended, and well."""

    what: str
    outcome: str
    seconds: float


class Said(msgspec.Struct, tag="said", frozen=True):
    """A line that is not a step."""

    line: str


Event = Began | Finished | Said

_listener: ContextVar[Callable[[Event], None] | None] = ContextVar("listener", default=None)
"""Who is told instead of the terminal."""


@dataclass
class Step:
    """A step under way; what it finds out goes into `outcome` and is printed at its end."""

    outcome: str = ""


@contextmanager
def told_to(listener: Callable[[Event], None]) -> Iterator[None]:
    """Tell someone of the steps and lines of the block, and not the terminal."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def step(what: str, clock: Callable[[], float] = time.perf_counter) -> Iterator[Step]:
    """Print `what` with its outcome and its seconds when the block ends well; an exception prints nothing here."""
    current, started = Step(), clock()
    with Display() as display:
        tell = _listener.get() or display.show
        tell(Began(what))
        yield current
        tell(Finished(what, current.outcome, clock() - started))


def say(line: str) -> None:
    """Print a line that is not a step."""
    with Display() as display:
        (_listener.get() or display.show)(Said(line))


class Display:
    """Shows events on the terminal: the step that is under way, until it ends or the block does, and lines."""

    def __init__(self) -> None:
        self._under_way = ExitStack()

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *_: object) -> None:
        self._under_way.close()

    def show(self, event: Event) -> None:
        """Show what has happened."""
        console = Console(highlight=False)
        match event:
            case Began(what):
                self._under_way.close()
                self._under_way.enter_context(console.status(escape(what)))
            case Finished(what, outcome, seconds):
                self._under_way.close()
                line = f"{what}: {outcome}" if outcome else what
                console.print(f"  [dim]{seconds:6.1f} s[/]  {escape(line)}", soft_wrap=True)
            case Said(line):
                console.print(f"            {line}", soft_wrap=True, markup=False)
