"""A model store and an MLflow registry for tests of what fills them, filled once a session by the real commands."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import mlflow
import pytest

from shokado.lifecycle import datasets
from shokado.lifecycle.examples import preparing
from shokado.lifecycle.importing import registry
from shokado.lifecycle.importing.version import Imported

LogModel = Callable[..., str]


@contextlib.contextmanager
def _at(root: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENTOML_HOME", str(root / "bentoml"))
        patch.setenv("BENTOML_DO_NOT_TRACK", "True")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
        patch.delenv("DATASET", raising=False)
        yield root


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the model store (`bentoml`) and the registry (`mlflow.db`)."""
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="package", autouse=True)
def registry_home(root: Path) -> Iterator[Path]:
    """That folder, where everything in this package keeps its models."""
    with _at(root):
        yield root


@pytest.fixture(scope="session")
def prepared(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Imported]:
    """Both versions of every data set, trained and imported; by tag.

    The first test process that wants them makes them, and each has copies of the store and the registry's database.
    """
    base = tmp_path_factory.getbasetemp()
    of_all = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "registry-of-all"
    of_all.mkdir(exist_ok=True)
    with (of_all / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _prepare(of_all)
    # BentoML makes an empty home where it is asked for one.
    shutil.copytree(of_all / "bentoml", root / "bentoml", dirs_exist_ok=True)
    shutil.copy(of_all / "mlflow.db", root / "mlflow.db")
    return {imported.artefact.tag: imported for imported in _prepare(root)}


def _prepare(root: Path) -> list[Imported]:
    with _at(root):
        return [imported for name in datasets.NAMES for imported in preparing.prepare(name)]


@pytest.fixture
def log_model(prepared: dict[str, Imported]) -> LogModel:
    """Logs beside the models of `prepared`."""
    return log_as_stranger


def log_as_stranger(
    flavor: str, model: Any, parameters: Mapping[str, Any] = MappingProxyType({}), **arguments: Any
) -> str:
    """Log a model as a stranger would, without this project's metadata; gives its `runs:/` address."""
    arguments = {"name": "model", "pip_requirements": []} | arguments
    with registry.session() as client:
        experiment = registry.open_experiment(client, "strangers")
        with mlflow.start_run(experiment_id=experiment) as active:
            mlflow.log_params(dict(parameters))
            keyword = {
                "pyfunc": "python_model",
                "xgboost": "xgb_model",
                "sklearn": "sk_model",
                "onnx": "onnx_model",
                "lightgbm": "lgb_model",
            }[flavor]
            getattr(mlflow, flavor).log_model(**{keyword: model}, **arguments)
        return f"runs:/{active.info.run_id}/model"
