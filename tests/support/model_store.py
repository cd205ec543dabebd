"""An empty model store, and interpreters that use it."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, run

import pytest


@pytest.fixture
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty model store, where the test may damage what it likes."""
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    return tmp_path / "bentoml"


@pytest.fixture(scope="session")
def project() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture
def python(project: Path) -> Callable[..., CompletedProcess[str]]:
    """Run this interpreter in the checkout; keywords are further environment variables."""

    def start(*arguments: str, **variables: str) -> CompletedProcess[str]:
        command, environment = [sys.executable, *arguments], os.environ | variables
        return run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=120, check=False)

    return start
