"""What a run logged as its input: MLflow's record of a data set goes in, the file that it was read from comes out.

Only a file on this machine is read. Any other source would have an import ask addresses that the registry's author
chose, and some of them run code.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from shokado.lifecycle.errors import ReferenceRefused

if TYPE_CHECKING:
    from mlflow import MlflowClient

CONTEXT_TAG = "mlflow.data.context"
TRAINING = ("training", "train")
MAX_UNASKED_BYTES = 512 << 20
"""Size of a file that is read without having been asked for: some ten seconds."""


def logged_file(client: "MlflowClient", run_id: str) -> Path | None:
    """The file of the run's training data, or of the first data set that it logged; None where it logged none.

    Raises `ReferenceRefused` where that is no file on this machine, or a very large one.
    """
    inputs = client.get_run(run_id).inputs if run_id else None
    if inputs is None or not inputs.dataset_inputs:
        return None
    dataset = _training(inputs.dataset_inputs).dataset
    called = f"the logged data set {dataset.name}"
    if dataset.source_type != "local":
        raise ReferenceRefused(f"{called} is no file on this machine but {dataset.source_type}")
    path = _path(json.loads(dataset.source).get("uri", ""))
    if not path.is_file():
        raise ReferenceRefused(f"{called} is not on this machine: there is no file {path}")
    if path.stat().st_size > MAX_UNASKED_BYTES:
        raise ReferenceRefused(f"{called} has more than {MAX_UNASKED_BYTES >> 20} MB: --reference {path} reads it")
    return path


def _training(inputs: Sequence[Any]) -> Any:
    def is_training(given: Any) -> bool:
        return any(tag.key == CONTEXT_TAG and tag.value in TRAINING for tag in given.tags)

    return next(filter(is_training, inputs), inputs[0])


def _path(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path) if uri.startswith("file:") else uri)
