"""Children: programs of this project in processes of their own, which end in time, with all that they started."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_NICENESS = 10
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

    It is ended when the time is over, which raises `TimeoutError`, or when this is cancelled.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
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


def _environment() -> dict[str, str]:
    # A child's own metrics are nobody's, and it must find this project from whatever folder the server runs in.
    environment = {name: value for name, value in os.environ.items() if name.upper() != "PROMETHEUS_MULTIPROC_DIR"}
    path = [str(_ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    return environment | {"PYTHONPATH": os.pathsep.join(path), "NO_COLOR": "1"}
