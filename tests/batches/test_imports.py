"""What serves, and what starts as a command, imports nothing of what scores tables."""

import subprocess
import sys

import pytest

from tests.support.server import ROOT


@pytest.mark.parametrize("module", ["shokado.control.app", "shokado.worker.worker", "shokado.cli.app"])
def test_neither_ray_nor_arrow_is_imported(module: str) -> None:
    found = f"import {module}, sys; print(*sorted({{'ray', 'pyarrow'}} & sys.modules.keys()))"
    command = [sys.executable, "-c", found]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == []
