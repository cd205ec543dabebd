"""What the server and its models are in the words of the Open Inference Protocol: values, which REST and gRPC encode.

In: the names that a client says. Out: metadata and readiness of the model with all its versions, or of one version.
"""

from collections.abc import Callable
from dataclasses import dataclass

from runners.inputs.union import UnionRows
from shokado import __version__
from shokado.dialects.model_tensors import TensorMetadata, input_tensors, output_tensors, union_tensors
from shokado.dialects.problem import Problem, conflicting_version
from shokado.dispatch.dispatcher import Dispatcher

NAME = "shokado"


@dataclass(frozen=True)
class ServerMetadata:
    """What the server is."""

    name: str
    version: str
    extensions: tuple[str, ...]


OVER_REST = ServerMetadata(NAME, __version__, ("binary_tensor_data", "classification", "model_repository"))
OVER_GRPC = ServerMetadata(NAME, __version__, ("classification",))
"""Tensors are binary anyhow, and versions are loaded over REST."""


@dataclass(frozen=True)
class ModelMetadata:
    """What a model takes and gives; -1 in a shape is the number of rows.

    One matrix is the input; instead, each feature may come as a tensor of its own, named after it. Of a model whose
    versions take different features, these tensors are the inputs.
    """

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


@dataclass(frozen=True)
class ServedModels:
    """The models of one worker: the configured one, and each version or alias by its own name."""

    model: str
    dispatcher: Dispatcher
    all_ready: Callable[[], bool]
    """Whether all that has traffic can answer."""

    def metadata(self, name: str, version: str = "") -> ModelMetadata:
        """What that model takes and gives. Raises `UnknownVersion`, and `Problem` (400, 503)."""
        found, runners = self._version(name, version), self.dispatcher.runners
        runner, row_format = runners.get(found or ""), self.dispatcher.row_format
        if runner is None and found is not None and isinstance(row_format, UnionRows):
            raise Problem("not_ready", f"version {found} is not in memory")
        any_runner = runner or next(iter(runners.values()), None)
        if any_runner is None:
            raise Problem("not_ready", "no version is in memory")
        versions = (found,) if found is not None else tuple(sorted(runners))
        if found is None and isinstance(row_format, UnionRows):
            inputs = union_tensors(row_format)
        else:
            inputs = input_tensors(any_runner.card)
        return ModelMetadata(name, versions, NAME, tuple(inputs), output_tensors(any_runner.card))

    def is_ready(self, name: str, version: str = "") -> bool:
        """Whether that model can answer. Raises `UnknownVersion`, and `Problem` (400)."""
        found = self._version(name, version)
        if found is None:
            return self.all_ready()
        runner = self.dispatcher.runners.get(found)
        return runner is not None and runner.ready

    def _version(self, *names: str) -> str | None:
        """The version that the names mean; None: the model with all its versions."""
        found = {self.dispatcher.resolve(name) for name in names if name and name != self.model}
        if len(found) > 1:
            raise conflicting_version(names[0])
        return found.pop() if found else None
