"""Where the figures come from: a benchmark without its machine is a rumour."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Hardware:
    """The parts that decide a throughput."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str

    def __str__(self) -> str:
        return f"{self.cpu}, {self.cores} cores, {self.memory_gib:.0f} GiB memory, {self.kernel}, Python {self.python}"


def this_machine() -> Hardware:
    return Hardware(
        cpu=_field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=int(_field(Path("/proc/meminfo"), "MemTotal").split()[0]) / 2**20,
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
    )


def _field(file: Path, name: str) -> str:
    """The first value of `name : value`; empty when the file has no such line."""
    for line in file.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
