"""What one Redis carries is measured by real workers, a real Redis, and its replica."""

import re
import subprocess
import sys

import pytest

from load_tests.bench.follower_crowd import WorkerKind
from load_tests.bench.launch import ROOT
from tests.support.redis_server import needs_redis


@pytest.mark.slow
@needs_redis
@pytest.mark.parametrize("kind", WorkerKind)
def test_every_worker_has_each_change_also_after_the_master_was_killed(kind: WorkerKind) -> None:
    command = [sys.executable, "-m", "load_tests.bench.followers", "--followers", "12", "--processes", "2"]
    ran = subprocess.run(
        [*command, "--changes", "3", "--calls", "100", "--kind", kind],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert ran.returncode in (0, 1), ran.stderr
    assert re.search(r"workers +│ 12 ", ran.stdout), ran.stdout
    for figure in ("a worker's report", "an addition of 16 tallies", "a piece of feedback of 500"):
        (cells,) = re.findall(rf"{figure} +│ +([\d.]+) +│ +([\d.]+) +│ +([\d.]+)", ran.stdout)
        assert all(float(cell) > 0 for cell in cells)
    (slowest,) = re.findall(r"slowest +│ ([\d.]+) s", ran.stdout)
    (again,) = re.findall(r"after another +│ ([\d.]+) s", ran.stdout)
    assert (float(slowest) > 1) == (ran.returncode == 1)
    assert float(again) < 60
