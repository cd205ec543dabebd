"""The machine's use is what the kernel tells otherwise, too."""

import os
import shutil
from pathlib import Path

import pytest

from configuration.cpus import available_cpus
from runners.free_memory import granted_bytes
from shokado.monitoring.machine_use import MachineSample, machine_use, sample_machine

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def seconds_in_proc() -> tuple[float, float]:
    """Idle time and all of it; guests' is in the first two columns already (proc(5))."""
    columns = [int(word) / TICKS_PER_S for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return columns[3] + columns[4], sum(columns[:8])


def test_processor_time_is_that_of_the_kernel() -> None:
    idle_before, total_before = seconds_in_proc()
    sample = sample_machine()
    idle_after, total_after = seconds_in_proc()
    assert total_before <= sample.total_s <= total_after
    assert idle_before - 1e-6 <= sample.total_s - sample.busy_s <= idle_after + 1e-6


def test_utilization_is_that_of_the_time_between_two_samples(tmp_path: Path) -> None:
    earlier, later = MachineSample(100.0, 400.0), MachineSample(130.0, 440.0)
    assert machine_use(later, earlier, tmp_path).cpu_utilization == 0.75
    assert machine_use(later, None, tmp_path).cpu_utilization == pytest.approx(130 / 440), "since the machine started"
    assert machine_use(later, later, tmp_path).cpu_utilization == pytest.approx(130 / 440)


def test_memory_and_disk_are_what_there_is(tmp_path: Path) -> None:
    found = machine_use(sample_machine(), None, tmp_path / "not" / "there")
    assert found.disk_path == str(tmp_path)
    assert found.disk_bytes == shutil.disk_usage(tmp_path).total
    assert 0 <= found.disk_free_bytes <= found.disk_bytes
    assert 0 < found.memory_available_bytes <= found.memory_bytes
    assert found.memory_utilization == pytest.approx(1 - found.memory_available_bytes / found.memory_bytes)
    assert found.cpus == available_cpus()
    assert None not in found.model_dump().values()


@pytest.mark.parametrize(("limit", "expected"), [("104857600", 104857600), ("max", 2048 * 1024), (None, 2048 * 1024)])
def test_a_container_has_what_it_was_granted(tmp_path: Path, limit: str | None, expected: int) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal:  {2048 if limit != '104857600' else 10**9} kB\nMemFree: 1 kB\n")
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
    assert granted_bytes(meminfo, tmp_path) == expected
