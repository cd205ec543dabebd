"""What the process that `bentoml serve` starts, which only looks after the workers, takes of this service."""

import subprocess
import sys
from pathlib import Path

from tests.support.server import ROOT

OF_WORKERS = {
    "aiohttp", "fastapi", "grpc", "onnxruntime", "prometheus_client", "redis", "scipy", "xgboost",
    "runners.runner", "shokado.control.app", "shokado.worker.worker",
}  # fmt: skip


def test_the_supervisor_carries_nothing_that_only_workers_need(models: Path) -> None:
    supervisor = "import gc, sys, _bentoml_impl.server.serving, service; print(gc.isenabled(), *sys.modules)"
    ran = subprocess.run([sys.executable, "-c", supervisor], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    collects, *modules = ran.stdout.split()
    assert "shokado.worker.supervision" in modules
    assert not OF_WORKERS & set(modules)
    assert collects == "True"
