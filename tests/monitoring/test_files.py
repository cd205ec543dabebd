"""Metrics where their folder is full or gone: numbers may be lost for a while, the process never."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.support.disk import fill

PROGRAM = """
import sys
from pathlib import Path
from shokado.monitoring import files
from shokado.monitoring.metrics.folder import exposition, prepare_folder
from shokado.monitoring.metrics.groups import Metrics
from tests.support.predictions import prediction_of
files.TRY_EVERY_S = 0.0
folder = prepare_folder()
metrics = Metrics(["v1"])
def count(number):
    for _ in range(number):
        metrics.predictions.started("v1", 1)
        metrics.predictions.answered("v1", [prediction_of()])
    metrics.registry.flush()
    metrics.registry.flush()
    text = exposition(folder)[1].decode()
    lines = [line for line in text.splitlines() if line.startswith('shokado_requests_total{version="v1"}')]
    return float(lines[0].split()[1]) if lines else None
"""


def run(folder: Path, program: str) -> str:
    # The parent names the folder of a server's numbers: the tests' own has others, of benchmarks.
    command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", PROGRAM + program]
    ended = subprocess.run(
        command, cwd=ROOT, env={"TMPDIR": str(folder)}, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, (ended.returncode, ended.stderr)
    return ended.stdout.strip()


def test_a_folder_that_was_deleted_is_made_again_with_all_that_was_counted(tmp_path: Path) -> None:
    assert run(tmp_path, "print(count(2)); import shutil; shutil.rmtree(folder); print(count(3))") == "2.0\n5.0"


def test_a_full_folder_costs_no_process_and_what_was_counted_comes_back(small_disk: Path) -> None:
    """Mapped files without room kill whoever writes to them."""
    program = """
from tests.support.disk import fill
print(count(1))
free = fill(folder.parent)
for number in range(2, 17):
    metrics.registry.add_version(f"v{number}")
metrics.registry.flush()
count(2)
print(files.MetricsFile.lost is not None)
free()
print(count(3), files.MetricsFile.lost)
"""
    assert run(small_disk, program) == "1.0\nTrue\n6.0 None"


def test_a_process_starts_where_there_is_no_room_at_all(small_disk: Path) -> None:
    free = fill(small_disk)
    # Python takes another folder for temporary files then.
    assert run(small_disk, "print(count(1))") == "1.0"
    free()
