"""What the workers take of the machine, and what it has left, for dashboards where nothing else tells that."""

import asyncio
from pathlib import Path
from typing import Any

from shokado.monitoring.machine_use import MachineSample, MachineUse, machine_use, sample_machine
from shokado.monitoring.metrics.metric_registry import MetricRegistry

LOOK_EVERY_S = 5.0
"""How often the machine is looked at."""


class MachineMetrics:
    """Make one per process. All workers tell the same of the machine, and each its own part of what they take."""

    def __init__(self, registry: MetricRegistry, folder: Path) -> None:
        """`folder` is where the server writes what it keeps."""
        import psutil

        self._folder = folder
        self._process: Any = psutil.Process()
        self._cpu_seconds = 0.0
        self._sample: MachineSample | None = None
        self._memory = registry.gauge(
            "shokado_worker_memory_bytes", "Resident memory of all workers, with what they share.", "livesum"
        )
        self._cpu = registry.counter("shokado_worker_cpu_seconds", "Processor time of all workers.", [])
        self._busy = registry.gauge("shokado_machine_cpu_utilization", "Busy part of all processors.", "livemax")
        self._free = registry.gauge(
            "shokado_machine_memory_available_bytes", "Memory that could still be taken, of the machine.", "livemax"
        )
        self._disk = registry.gauge(
            "shokado_machine_disk_free_bytes", "Room on the disk that the server writes to.", "livemax"
        )

    async def look(self) -> None:
        """Look at the process and the machine, in a thread: a file system may hang."""
        memory, cpu_seconds, sample, use = await asyncio.to_thread(self._see)
        self._memory.set(memory)
        self._cpu.add(number=cpu_seconds - self._cpu_seconds)
        self._cpu_seconds, self._sample = cpu_seconds, sample
        self._busy.set(use.cpu_utilization)
        self._free.set(use.memory_available_bytes)
        self._disk.set(use.disk_free_bytes)

    def _see(self) -> tuple[int, float, MachineSample, MachineUse]:
        with self._process.oneshot():
            times, memory = self._process.cpu_times(), self._process.memory_info().rss
        sample = sample_machine()
        return memory, times.user + times.system, sample, machine_use(sample, self._sample, self._folder)
