"""A process with all its descendants, read from /proc: their memory and processor time, and their end."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path


def family(pid: int) -> set[int]:
    """`pid` and every living descendant; empty when `pid` is gone."""
    children: dict[int, list[int]] = {}
    living: set[int] = set()
    for entry in Path("/proc").glob("[0-9]*"):
        parent = _parent(entry)
        if parent is not None:
            living.add(int(entry.name))
            children.setdefault(parent, []).append(int(entry.name))
    found: set[int] = set()
    waiting = [pid] if pid in living else []
    while waiting:
        current = waiting.pop()
        found.add(current)
        waiting.extend(children.get(current, []))
    return found


def _parent(entry: Path) -> int | None:
    """Parent of a process that runs; None for one that ended or is a zombie."""
    try:
        state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return None if state == "Z" else int(parent)


def pss_bytes(pids: Iterable[int]) -> int:
    """Proportional set size: private memory plus a share of what several map, so that it can be summed."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
    return total


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time that they have taken since their start, their own and the kernel's for them."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def end(pids: Iterable[int], grace_seconds: float) -> None:
    """SIGTERM, then SIGKILL for what is left after `grace_seconds`; returns when none of them runs."""
    left = _send(set(pids), signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = {pid for pid in left if _parent(Path(f"/proc/{pid}")) is not None}
    _send(left, signal.SIGKILL)


def _send(pids: set[int], number: signal.Signals) -> set[int]:
    reached = set()
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
        reached.add(pid)
    return reached
