"""Processes by names that no other one will ever have: their number, and when they were started."""

import os
import time
from functools import lru_cache
from pathlib import Path


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since the machine did; None when there is no such process.

    Together with the pid it names a process for good, which a time of day would not: the clock may be set.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])


def seconds_of(ticks: int) -> float:
    """What `machine_seconds` said at that clock tick."""
    return ticks / os.sysconf("SC_CLK_TCK")


def machine_seconds() -> float:
    """A clock: seconds since the machine was started, those in which it slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def own_name() -> str:
    """The name of this process, such as `4711-123456`."""
    return _name_of(os.getpid())


def lives(name: str) -> bool:
    """Whether the process of that name has not ended."""
    pid, _, ticks = name.partition("-")
    return start_ticks(int(pid)) == int(ticks)


@lru_cache(maxsize=4)
def _name_of(pid: int) -> str:
    return f"{pid}-{start_ticks(pid) or 0}"
