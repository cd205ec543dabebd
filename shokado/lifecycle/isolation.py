"""Isolation: an order is carried out in a process of its own, bounded in time and memory.

    isolated -> `python -m <package>`, the order as JSON -> carry_out -> the work
                events of its progress, at last an outcome, a line of JSON each <-'

To read a model is to run code of others, and with pickles its author's. What that kills, hangs or fills is the process
of the work alone, which is told in one line; what it prints is not taken for what the command says.
"""

import asyncio
import dataclasses
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from pydantic import TypeAdapter

from runners.artefacts import repository
from runners.child import Ended, run_child
from runners.free_memory import free_bytes, is_short_of_memory, limit_memory, says_short_of_memory
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.progress import Began, Display, Event, Finished, Said, told_to

MAX_SECONDS = 1800.0
"""Half an hour is many times what an import takes; what hangs is mostly ended by hand before."""
MORE = 4
"""How many times the limit the next command offers."""
Order = TypeVar("Order")


class Stored(msgspec.Struct, frozen=True):
    """A version that is in the store now: its tag, what was done for it, and where it came from."""

    tag: str
    outcome: str
    source: str


class _Done(msgspec.Struct, tag="done", frozen=True):
    stored: list[Stored]


class _Refused(msgspec.Struct, tag="refused", frozen=True):
    message: str
    next_command: str | None


class _OutOfMemory(msgspec.Struct, tag="out of memory", frozen=True):
    pass


_Outcome = _Done | _Refused | _OutOfMemory
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Began | Finished | Said | _Done | _Refused | _OutOfMemory).decode


@dataclass(frozen=True)
class ProcessLimits:
    """What the process may take: seconds from its start to its end, and bytes of memory; None: all that is free."""

    max_seconds: float = MAX_SECONDS
    max_bytes: int | None = None


@dataclass(frozen=True)
class Work:
    """What is done in a process of its own.

    Attributes:
        package: the one whose `__main__` carries the order out.
        what: the subject of a sentence, such as `The import of models:/churn/3`.
        command: what somebody types for the same; None where it takes no limits.
    """

    package: str
    what: str
    command: str | None = None


class _Conversation:
    """What the process has said so far. Lines that are no message are not ours."""

    def __init__(self, show: Callable[[Event], None]) -> None:
        self._show = show
        self.step = "begin"
        self.outcome: _Outcome | None = None

    def hear(self, line: str) -> None:
        try:
            message = _decode(line)
        except msgspec.DecodeError:
            return
        if isinstance(message, _Outcome):
            self.outcome = message
            return
        if isinstance(message, Began):
            self.step = message.what
        self._show(message)


def isolated(work: Work, order: Any, limits: ProcessLimits) -> list[Stored]:
    """Have the order, a dataclass, carried out in a process of its own, whose steps are shown here.

    The process ends with this one, and when this one is interrupted. Whatever is not finished leaves nothing in the
    store. Raises `LifecycleError`: as the work does, or because it took too long or too much memory, or died.
    """
    max_bytes = min(limits.max_bytes or 2**62, free_bytes())
    given = json.dumps({"order": dataclasses.asdict(order), "max_bytes": max_bytes}, default=_plain).encode()
    with Display() as display:
        conversation = _Conversation(display.show)
        hear, seconds = conversation.hear, limits.max_seconds
        try:
            ended = asyncio.run(run_child(work.package, timeout_s=seconds, given=given, told=hear, niceness=0))
        except TimeoutError:
            took = f"took longer than {seconds:g} s"
            raise _stopped(work, took, conversation, f"--max-seconds {MORE * seconds:.0f}") from None
        finally:
            if not isinstance(conversation.outcome, _Done):
                repository.remove_left_overs()
    match conversation.outcome:
        case _Done(stored):
            return stored
        case _Refused(message, next_command):
            raise LifecycleError(message, next_command)
        case None if not says_short_of_memory(ended.last_words):
            raise _died(work, ended, conversation)
    # More than is free nobody can have.
    more = f"--max-memory {MORE * max_bytes // 2**20}MiB" if max_bytes == limits.max_bytes else None
    allowed = "it may" if more else "is free here"
    raise _stopped(work, f"took more memory than {allowed}, {max_bytes / 2**20:,.0f} MiB", conversation, more)


def _plain(value: Any) -> Any:
    """A path or a member of an enum as JSON has it."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value.value


def _stopped(work: Work, took: str, conversation: _Conversation, option: str | None) -> LifecycleError:
    where = f"at the step '{conversation.step}'"
    return LifecycleError(
        f"{work.what} {took}, {where}, and was ended. It has left nothing unfinished.",
        f"{work.command} {option}" if work.command and option else None,
    )


def _died(work: Work, ended: Ended, conversation: _Conversation) -> LifecycleError:
    if ended.code == 1 and "Traceback" in ended.errors:
        # A fault of this program, or of a library, and not of whoever typed the command.
        sys.stderr.write("".join(char for char in ended.errors if char.isprintable() or char == "\n"))
    how = f"was killed by {ended.signal}" if ended.signal else f"ended with status {ended.code}"
    how += f" ({ended.last_words})" if ended.last_words else ""
    by_the_kernel = ended.signal == "SIGKILL"
    how += ", as the kernel does where memory is short" if by_the_kernel else ""
    what, where = work.what[0].lower() + work.what[1:], f"at the step '{conversation.step}'"
    return LifecycleError(
        f"The process of {what} {how}, {where}. It has left nothing unfinished.",
        work.command if by_the_kernel else None,
    )


def carry_out(order_type: type[Order], work: Callable[[Order], Iterable[Stored]]) -> None:
    """Be that process: read the order and the limit from standard input, and tell what becomes of it."""
    # What is printed from here on goes to standard error, whose last words are told if the process dies.
    with os.fdopen(os.dup(1), "wb") as channel:
        os.dup2(2, 1)

        def tell(message: Event | _Outcome) -> None:
            channel.write(_encode(message) + b"\n")
            channel.flush()

        given = json.loads(sys.stdin.buffer.read())
        limit_memory(given["max_bytes"])
        try:
            with told_to(tell):
                outcome: _Outcome = _Done([*work(TypeAdapter(order_type).validate_python(given["order"]))])
        except Exception as error:
            if is_short_of_memory(error):
                outcome = _OutOfMemory()
            elif isinstance(error, LifecycleError):
                outcome = _Refused(str(error), error.next_command)
            else:
                raise
        tell(outcome)
    if any(not thread.daemon and thread is not threading.current_thread() for thread in threading.enumerate()):
        # A model's own thread need not end.
        os._exit(0)
