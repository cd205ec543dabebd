"""What observers cost: each one that a worker has is measured, as it is wired there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import HOME, ROOT


@pytest.fixture(scope="module")
def printed(models: Path) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "load_tests.bench.observer_costs", "--turns", "1"],
        cwd=ROOT, env=os.environ | {"BENTOML_HOME": str(HOME), "COLUMNS": "120"}, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize(
    "observer",
    [
        "PredictionMetrics",
        "Tallying",
        "ShadowCopier",
        "ShadowCopier, with a shadow",
        "BatchMetrics",
        "RequestLogger",
        "RequestLogger, writing",
        "PredictionIds",
        "PredictionIds, with 4 segments",
    ],
)
def test_each_observer_of_a_worker_is_measured(printed: str, observer: str) -> None:
    (costs,) = re.findall(rf"^ *{observer} {{2,}}([\d, ]+)$", printed, re.MULTILINE)
    assert len(costs.split()) == 3
