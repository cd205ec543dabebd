"""An entry of the table: a model, the rows that it learns from, and what becomes of it; added in one line."""

import hashlib
import importlib.util
import inspect
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import run
from typing import Any

import mlflow
import onnx
import pytest

from runners.artefacts.card import Task
from shokado.lifecycle.importing.column_names import ColumnName
from shokado.lifecycle.importing.onnx_files import OnnxFile
from shokado.lifecycle.importing.version import ImportOrder
from tests.frameworks.samples import TEXT, UNKNOWN, Sample

SERVED_AS = {
    Task.BINARY: "label and probability",
    Task.MULTICLASS: "label and probabilities",
    Task.REGRESSION: "value",
    Task.MULTIOUTPUT: "list of values",
    Task.BINARY_MARGIN: "label, and its decision function",
    Task.MULTICLASS_MARGIN: "label, and its decision function",
    Task.ANOMALY: "-1 or 1, and its decision function",
    Task.MULTILABEL: "list of labels, and probabilities",
    Task.MULTILABEL_MARGIN: "list of labels, and decision functions",
}
"""What the document says of each task."""
_LOGGED_AS = {
    "xgboost": "xgb_model",
    "sklearn": "sk_model",
    "onnx": "onnx_model",
    "pytorch": "pytorch_model",
    "keras": "model",
    "lightgbm": "lgb_model",
    "catboost": "cb_model",
    "statsmodels": "statsmodels_model",
}
"""What each flavor's `log_model` calls the model."""
FILES = ("onnx file", "bentoml.onnx")
"""In place of a flavor, for what no registry has."""
_SAVE = """
import json, sys, bentoml, onnx
metadata = {"feature_names": json.loads(sys.argv[3])}
print(bentoml.onnx.save_model(sys.argv[1], onnx.load(sys.argv[2]), metadata=metadata).tag)
"""
_EXAMPLE_ROWS, HELD = 20, 50
_NOT_IN_DEV: Mapping[str, str] = {
    "pytorch": "torch",
    "keras": "keras",
    "lightgbm": "lightgbm",
    "catboost": "catboost",
    "statsmodels": "statsmodels",
}
"""Packages of flavors that `requirements/dev.txt` has not."""


def _needs(package: str) -> str:
    return f"needs {package}; to install what models are trained with: make frameworks"


class LazyPackage:
    """A package that need not be there: it is imported when a model of it is trained, or the test is skipped."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(pytest.importorskip(self._name, reason=_needs(self._name)), name)


Train = Callable[[Sample], Any]


def fitted(estimator: Any, learned: str) -> Train:
    """What fits an estimator, or what a function makes, to the attribute `learned` of the rows."""

    def train(rows: Sample) -> Any:
        made = estimator() if inspect.isfunction(estimator) else estimator
        given = rows.texts if TEXT in rows.frame else rows.frame
        return made.fit(given, getattr(rows, learned))

    return train


@dataclass(frozen=True, eq=False, repr=False)
class TriedModel:
    """A model that is trained, logged, imported, served and asked, or refused.

    Attributes:
        flavor: of MLflow, with whose own `log_model` it is logged; or one of `FILES`.
        name: what the document calls it.
        sample: the rows that `train` gets.
        outcome: as what it is served, or words of the reason why it is refused.
        takes_unknown: whether it answers a text that its training did not have.
        arguments: further ones of `log_model`.
    """

    flavor: str
    name: str
    sample: Sample
    outcome: Task | str
    train: Train
    takes_unknown: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"{self.flavor} {self.name}, {self.sample.title}"

    @property
    def label(self) -> str:
        """Its version's name in the store, which takes neither its letters nor its length."""
        return f"v{hashlib.sha256(str(self).encode()).hexdigest()[:10]}"

    @property
    def columns(self) -> str:
        """What the document says of its rows."""
        return self.sample.title + (", unknown ones too" if self.takes_unknown else "")

    @property
    def said(self) -> str:
        """What the document says of it."""
        return SERVED_AS[self.outcome] if isinstance(self.outcome, Task) else f"refused: {self.outcome}"

    @property
    def held(self) -> Any:
        """50 rows that it has not seen, of those that it takes: a DataFrame."""
        held = self.sample.held
        taken = held if self.takes_unknown else held[~(held == UNKNOWN).any(axis=1)]
        return taken.head(HELD)

    def skip_without_package(self) -> None:
        package = _NOT_IN_DEV.get(self.flavor)
        if package and importlib.util.find_spec(package) is None:
            pytest.skip(_needs(package))

    def order(self, uri: str, name: str) -> ImportOrder:
        """To import it from where it was logged, as a version of the model of that name."""
        if self.flavor not in FILES:
            return ImportOrder(uri, self.label, name)
        said = self.flavor == "onnx file"
        file = OnnxFile(uri, tuple(ColumnName(str(column)) for column in self.sample.frame) if said else ())
        return ImportOrder(file.uri, self.label, name, file=file)

    def log(self, experiment: str) -> str:
        """Train it and log it as anybody would; gives its `runs:/` address. `experiment` is an id.

        Of `FILES`, the path or the tag.
        """
        model = self.train(self.sample)
        if self.flavor in FILES:
            return self._saved(model)
        example = self.sample.frame[:_EXAMPLE_ROWS]
        given = {"name": "model", "input_example": example, "pip_requirements": []} | dict(self.arguments)
        if self.flavor == "sklearn":
            given = {"serialization_format": "cloudpickle"} | given
        if TEXT in example:
            # A vectorizer is given texts, where MLflow would give it a table of them.
            given["input_example"], given["signature"] = None, mlflow.models.infer_signature(example[TEXT])
        if self.flavor == "onnx":
            given["signature"] = mlflow.models.infer_signature(example)
        if self.flavor == "pytorch":
            given["serialization_format"] = "pickle"  # the other one takes arrays, which have no names
        if self.flavor == "keras":
            given["input_example"], given["signature"] = None, mlflow.models.infer_signature(example.to_numpy())
        with mlflow.start_run(experiment_id=experiment) as run:
            logged = getattr(mlflow, self.flavor).log_model(**{_LOGGED_AS[self.flavor]: model}, **given)
        if self.flavor == "keras":  # whose own call takes no names
            mlflow.models.set_signature(logged.model_uri, mlflow.models.infer_signature(example))
        return f"runs:/{run.info.run_id}/model"

    def _saved(self, model: Any) -> str:
        path = Path(tempfile.mkdtemp()) / "model.onnx"
        onnx.save(model, path)
        if self.flavor != "bentoml.onnx":
            return str(path)
        # BentoML keeps the first store that it has seen in a process.
        command = [sys.executable, "-c", _SAVE, "saved", str(path), json.dumps(list(self.sample.frame))]
        return run(command, check=True, capture_output=True, text=True).stdout.strip()
