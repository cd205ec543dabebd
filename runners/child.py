"""Children: programs of this project in processes of their own, which end in time, with all that they started.

    run_child -> `python -m runners.child <pid> <module> ..` -> the module, tied to the process of that id

When that one dies, however it does, the kernel ends the child: nobody would wait for what comes of it. A child that
runs code of others limits its memory first (`runners.free_memory`).
"""

import asyncio
import contextlib
import ctypes
import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
NICENESS = 10
"""How far the process stands back behind those that serve."""
_PR_SET_PDEATHSIG = 1
_NOT_ITS_OWN = ("PROMETHEUS_MULTIPROC_DIR", "SHOKADO_")
"""How variables begin that a child does not get."""
_KEPT_BYTES = 2**16
"""How much of each stream is kept, its end: code of others may say gigabytes."""
_LAST_WORDS = 300
"""Characters of the last line."""
_LOOK_EVERY_S = 0.02
_PIPES_S = 1.0
"""How long pipes are read once the child has ended: what it set apart from itself may hold on to them."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A child that has ended by itself, or was ended by a signal: then `code` is the signal's number, negative.

    `output` and `errors` are the last 64 KiB of its standard output and standard error.
    """

    code: int
    output: str
    errors: str

    @property
    def last_words(self) -> str:
        """The last line that it wrote to its standard error; empty where there is none."""
        lines = [line.strip() for line in self.errors.splitlines() if line.strip()]
        return "".join(filter(str.isprintable, lines[-1]))[:_LAST_WORDS] if lines else ""

    @property
    def signal(self) -> str | None:
        """The name of the signal that ended it, such as SIGKILL; None where it ended by itself."""
        return signal.Signals(-self.code).name if self.code < 0 else None


async def run_child(
    module: str,
    *arguments: str,
    timeout_s: float,
    given: bytes = b"",
    told: Callable[[str], None] | None = None,
    niceness: int = NICENESS,
    look_every_s: float = _LOOK_EVERY_S,
) -> Ended:
    """Run a module with these arguments and this standard input, and return what came of it.

    Each line of its standard output is `told` at once, and its end is seen within `look_every_s`. The child is ended
    when the time is over, which raises `TimeoutError`, when this is cancelled, and when this process ends; what it
    started ends with it. Call on the main thread, which lives as long: to the kernel a child's parent is the thread
    that started it.
    """
    assert threading.current_thread() is threading.main_thread()
    starting = asyncio.create_subprocess_exec(
        sys.executable,
        # Files of the folder that this runs in are no modules.
        "-P",
        "-m",
        "runners.child",
        str(os.getpid()),
        module,
        *arguments,
        env=_environment(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    process = await _started(asyncio.ensure_future(starting))
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    if niceness:
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, process.pid, niceness)
    output = asyncio.ensure_future(_read(process.stdout, told))
    errors = asyncio.ensure_future(_read(process.stderr, None))
    try:
        async with asyncio.timeout(max(timeout_s, 0)):
            await _give(process.stdin, given)
            # `wait` waits for the pipes as well, which what the child started may hold.
            while process.returncode is None:
                await asyncio.sleep(look_every_s)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.wait((output, errors), timeout=_PIPES_S)
        output.cancel()
        errors.cancel()
        code = process.returncode if process.returncode is not None else await process.wait()
    return Ended(code, _said(output), _said(errors))


async def _started(starting: "asyncio.Future[asyncio.subprocess.Process]") -> asyncio.subprocess.Process:
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # Were the start itself cancelled, asyncio would wait for ever for pipes that it has not connected yet.
        process = await starting
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()
        raise


async def _give(stream: asyncio.StreamWriter, given: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stream.write(given)
        await stream.drain()
        stream.close()


async def _read(stream: asyncio.StreamReader, told: Callable[[str], None] | None) -> bytes:
    """The last bytes of a stream, whose lines are told meanwhile."""
    kept = line = b""
    while chunk := await stream.read(_KEPT_BYTES):
        kept = (kept + chunk)[-_KEPT_BYTES:]
        if told is not None:
            *lines, line = (line + chunk).split(b"\n")
            line = line[-_KEPT_BYTES:]
            for each in lines:
                told(each.decode(errors="replace"))
    return kept


def _said(reading: "asyncio.Future[bytes]") -> str:
    return reading.result().decode(errors="replace") if reading.done() and not reading.cancelled() else ""


def end_with_parent(number: signal.Signals) -> None:
    """Let the kernel send this process that signal when its parent dies. Raises `AttributeError` where it cannot."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def main() -> None:
    """Be the child: end with the parent, and run the module."""
    parent, module, *arguments = sys.argv[1:]
    with contextlib.suppress(AttributeError, OSError):
        end_with_parent(signal.SIGKILL)
    if os.getppid() != int(parent):
        sys.exit("the process that wanted this one has ended")
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _environment() -> dict[str, str]:
    # A child must find this project from whatever folder the server runs in. Metrics are not a child's own, and the
    # settings of a server, some of which are secret, are no business of what runs a model's code.
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith(_NOT_ITS_OWN)}
    path = [str(_ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    return environment | {"PYTHONPATH": os.pathsep.join(path), "NO_COLOR": "1"}


if __name__ == "__main__":
    main()
