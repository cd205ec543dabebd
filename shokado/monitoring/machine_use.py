"""What the machine has and what of it is taken: processors, memory, disk. In a container, what that one was granted.

A sample is taken beside each snapshot of the metrics, off the event loop; processor time is the difference of two.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from configuration.cpus import available_cpus
from runners.free_memory import free_bytes, granted_bytes


class MachineUse(BaseModel):
    """The machine, or the container, that this server runs in."""

    model_config = ConfigDict(frozen=True)

    cpus: int = Field(description="Processors that this server may use.")
    cpu_utilization: float = Field(
        description="Busy part of all processors of the machine, 0 to 1, over the recent window; since the machine "
        "started, where there is none."
    )
    load_average: float = Field(description="Threads of the machine that run or wait to, over a minute.")
    memory_bytes: int = Field(description="All there is, or what the container may have.")
    memory_available_bytes: int = Field(description="What could still be taken; caches that can be dropped count.")
    memory_utilization: float = Field(description="Taken part, 0 to 1.")
    disk_path: str = Field(description="Where the request log and, by default, the store of the routing are.")
    disk_bytes: int = Field(description="Size of the file system there.")
    disk_free_bytes: int = Field(description="What an unprivileged process can still write there.")
    disk_utilization: float = Field(description="Taken part, 0 to 1.")


@dataclass(frozen=True, slots=True)
class MachineSample:
    """The machine at one moment."""

    busy_s: float
    """Time of all processors since the machine started, in which they did something."""
    total_s: float
    """The same, whatever they did."""


def sample_machine() -> MachineSample:
    """Processor time of the machine, as `/proc/stat` has it."""
    import psutil

    times = psutil.cpu_times()
    # Time of guests is counted in that of users already.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return MachineSample(total - times.idle - getattr(times, "iowait", 0.0), total)


def machine_use(now: MachineSample, before: MachineSample | None, folder: Path) -> MachineUse:
    """The machine's use, with its processors' since `before`; `folder`, or the next one above that is there, is on the
    disk that is told.
    """
    since = before if before is not None and before.total_s < now.total_s else MachineSample(0.0, 0.0)
    memory, free = granted_bytes(), free_bytes()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    disk = os.statvfs(folder)
    size, available = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
    return MachineUse(
        cpus=available_cpus(),
        cpu_utilization=_part(now.busy_s - since.busy_s, now.total_s - since.total_s),
        load_average=os.getloadavg()[0],
        memory_bytes=memory,
        memory_available_bytes=min(free, memory),
        memory_utilization=_part(memory - min(free, memory), memory),
        disk_path=str(folder),
        disk_bytes=size,
        disk_free_bytes=available,
        disk_utilization=_part(size - disk.f_bfree * disk.f_frsize, size),
    )


def _part(taken: float, whole: float) -> float:
    return min(max(taken / whole, 0.0), 1.0) if whole > 0 else 0.0
