"""The commands of documents, as a shell runs them."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.server import ROOT

ENVIRONMENT = Path(sys.executable).parent.parent


def shell(command: str, environment: dict[str, str] | None = None, cwd: Path = ROOT) -> str:
    finished = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout
