"""Children: programs of this project in processes of their own, which end in time, with all that they started.

    run_child -> `python -m runners.child <pid> <module> ..` -> the module, tied to the process of that id

When that one dies, however it does, the kernel ends the child: nobody would wait for what comes of it.
"""

import asyncio
import contextlib
import ctypes
import os
import runpy
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_NICENESS = 10
"""How far the process stands back behind those that serve."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Ended:
    """A child that has ended by itself, or was ended by a signal: then `code` is the signal's number, negative."""

    code: int
    output: str
    errors: str

    @property
    def last_words(self) -> str:
        """The last line that it wrote to its standard error; empty where there is none."""
        lines = [line.strip() for line in self.errors.splitlines() if line.strip()]
        return lines[-1] if lines else ""


async def run_child(module: str, *arguments: str, timeout_s: float, given: bytes = b"") -> Ended:
    """Run a module with these arguments and this standard input, and return what came of it.

    It is ended when the time is over, which raises `TimeoutError`, when this is cancelled, and when this process ends.
    Call on the main thread, which lives as long: to the kernel a child's parent is the thread that started it.
    """
    assert threading.current_thread() is threading.main_thread()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
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
    # Live requests go first.
    with contextlib.suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
    try:
        output, errors = await asyncio.wait_for(process.communicate(given), max(timeout_s, 0))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    assert process.returncode is not None
    return Ended(process.returncode, output.decode(errors="replace"), errors.decode(errors="replace"))


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
    # A child's own metrics are nobody's, and it must find this project from whatever folder the server runs in.
    environment = {name: value for name, value in os.environ.items() if name.upper() != "PROMETHEUS_MULTIPROC_DIR"}
    path = [str(_ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    return environment | {"PYTHONPATH": os.pathsep.join(path), "NO_COLOR": "1"}


if __name__ == "__main__":
    main()
