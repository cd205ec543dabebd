"""These tests have a model store and a registry of their own."""

import shutil
from pathlib import Path

import mlflow
import pytest

from tests.support.model_store import own_store, project, python
from tests.support.registry import log_model, prepared, registry_home, root

__all__ = ["log_model", "own_store", "prepared", "project", "python", "registry_home", "root"]


@pytest.fixture
def home(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model store that may be changed, and the registry from which it was filled."""
    home = tmp_path / "bentoml"
    shutil.copytree(models / "models" / "customers", home / "models" / "customers")
    monkeypatch.setenv("BENTOML_HOME", str(home))
    uri = f"sqlite:///{models.parent / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    # MLflow keeps the address that this process was told before.
    mlflow.set_tracking_uri(uri)
    return home
