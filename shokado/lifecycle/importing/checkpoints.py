"""Checkpoints of PyTorch: a file of weights and the name of an architecture go in, a loaded model comes out.

    {"state_dict": .., "input_dim": 10, "feature_names": [..], "metadata": {"task": .., "classes": [..]}}

is what `torch.save` has put into the file; the weights and one of the two next to them are needed. Reading it runs no
code: that is the architecture, which is the user's own, and runs in the import alone. Importing this module does not
import PyTorch.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from shokado.lifecycle.errors import SourceNotFound, UnsupportedModel
from shokado.lifecycle.importing.architectures import Architecture
from shokado.lifecycle.importing.output_meaning import TASKS, OutputMeaning
from shokado.lifecycle.importing.registry import CHECKPOINT, LoadedModel, require_framework

_DIGITS = 16
"""How many of a digest's 64 tell files apart."""
_SHOWN = 3
"""How many of several names an error shows."""


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights, and what it does not say itself. Raises `SourceNotFound` where there is no such file.

    Attributes:
        path: the file.
        architecture: what makes the module that the weights belong to, out of `input_dim` and what it has parameters
            for in the file's `metadata` and in `arguments`.
        arguments: further keywords for it.
        said: what its outputs mean; what is not said is the file's.
    """

    path: Path
    architecture: Architecture
    arguments: Mapping[str, Any] = field(default_factory=dict)
    said: OutputMeaning = field(default_factory=OutputMeaning)

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise SourceNotFound(f"There is no file {self.path}.")

    @cached_property
    def uri(self) -> str:
        """Its name, and digests of the file, and of all that is said here, with the architecture's source."""
        with self.path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        meaning = self.said
        said = json.dumps(
            [self.architecture.name, dict(self.arguments), meaning.task, meaning.classes, meaning.is_logits]
        )
        order = hashlib.sha256(said.encode() + self.architecture.source).hexdigest()
        return f"file:{self.path.name}@{content[:_DIGITS]}+{order[:_DIGITS]}"

    @property
    def model_name(self) -> None:
        """A file does not say of which model it is a version."""
        return

    @property
    def typed(self) -> list[str]:
        """What somebody types for it, in words."""
        words = [str(self.path), "--architecture", self.architecture.name]
        words += ["--architecture-args", json.dumps(dict(self.arguments))] if self.arguments else []
        return words + self.said.typed

    def load(self) -> LoadedModel:
        """The module with its weights, as an ONNX graph beside its own answers.

        Raises `MissingPackage`, or `UnsupportedModel` where the file, the architecture and the options do not fit.
        """
        require_framework(CHECKPOINT)
        import torch

        from shokado.lifecycle.importing.label_rules import class_labels

        content = _Content.of(self._read(), self.arguments.get("input_dim"))
        module = self.architecture(content.width, content.metadata, self.arguments)
        _fill(module, content.state_dict, self.architecture.name)
        model = self._model(module, content)
        return LoadedModel(
            model=model,
            uri=self.uri,
            run_id="",
            flavor=CHECKPOINT,
            framework=f"torch {torch.__version__.partition('+')[0]}",
            signature=None,
            example=None,
            metrics={},
            metadata={
                "task": model.task,
                "features": [{"name": name} for name in content.feature_names],
                "classes": class_labels(getattr(model, "classes_", ())),
            },
        )

    def _read(self) -> Any:
        import torch

        from shokado.lifecycle.importing.torch_models import reason_of

        try:
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # of pickle, zipfile and PyTorch
            raise UnsupportedModel(
                f"{self.path} is no file of torch.save that has tensors and plain values alone: it must have the "
                f"model's state_dict(), not the model. PyTorch says: {reason_of(error)}"
            ) from error

    def _model(self, module: Any, content: "_Content") -> Any:
        """The `OnnxModel` of the task and the classes that the options say, or else the file."""
        from shokado.lifecycle.importing import torch_models

        def read(has_classes: bool) -> Any:
            network = torch_models.as_classifier(module, is_logits=self.said.is_logits) if has_classes else module
            return torch_models.read(network, content.width)

        said = OutputMeaning(self.said.task or content.task, self.said.classes or content.classes, self.said.is_logits)
        return said.settled(self.path.name, read)


@dataclass(frozen=True)
class _Content:
    """What is in the file."""

    state_dict: Mapping[str, Any]
    feature_names: tuple[str, ...]
    metadata: Mapping[str, Any]

    @property
    def width(self) -> int:
        return len(self.feature_names)

    @property
    def task(self) -> str | None:
        """As the metadata have it, if it is one that there is."""
        task = self.metadata.get("task")
        return task if task in TASKS else None

    @property
    def classes(self) -> tuple[int | str, ...]:
        classes = self.metadata.get("classes") or ()
        if not isinstance(classes, list | tuple) or not all(isinstance(label, int | str) for label in classes):
            raise UnsupportedModel("The checkpoint's metadata have classes that are no list of labels: say --classes.")
        return tuple(classes)

    @classmethod
    def of(cls, saved: Any, width: Any = None) -> "_Content":
        """`width` is for a file that says none. Raises `UnsupportedModel` with what is missing or does not fit."""
        has = _shown(list(saved)) if isinstance(saved, Mapping) else type(saved).__name__
        if not isinstance(saved, Mapping) or not isinstance(saved.get("state_dict"), Mapping):
            raise UnsupportedModel(
                f'The checkpoint has {has or "nothing"}, and no "state_dict": save '
                '{"state_dict": model.state_dict(), "input_dim": .., "feature_names": [..]}.'
            )
        names, metadata = saved.get("feature_names"), saved.get("metadata") or {}
        width = saved.get("input_dim", width)
        if names is None and (not isinstance(width, int) or width < 1):
            raise UnsupportedModel(
                f'The checkpoint has {has}, and neither "feature_names" nor an "input_dim", which says how many '
                """features a row has; --architecture-args '{"input_dim": 10}' says it as well."""
            )
        names = [f"f{index}" for index in range(width or 0)] if names is None else list(names)
        if not names or not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
            raise UnsupportedModel('The checkpoint\'s "feature_names" are no texts, or not all different ones.')
        if width not in (None, len(names)):
            raise UnsupportedModel(f'The checkpoint has {len(names)} "feature_names", and the "input_dim" {width}.')
        if not isinstance(metadata, Mapping):
            raise UnsupportedModel('The checkpoint\'s "metadata" are no dictionary.')
        return cls(saved["state_dict"], tuple(names), metadata)


def parsed_arguments(text: str) -> dict[str, Any]:
    """The keywords that a JSON object has. Raises `UnsupportedModel` for any other text."""
    try:
        arguments = json.loads(text)
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise UnsupportedModel(f"""--architecture-args is {text!r}, where JSON such as '{{"hidden": 64}}' belongs.""")
    return arguments


def _fill(module: Any, state_dict: Mapping[str, Any], architecture: str) -> None:
    """Put the weights into the module, and it into its mode for answers.

    Raises `UnsupportedModel` where a weight is missing, left over or of another form.
    """
    own = module.state_dict()
    if reasons := _misfits(own, state_dict):
        raise UnsupportedModel(f"The weights do not fit {architecture}: {'; '.join(reasons)}.")
    try:
        module.load_state_dict(state_dict)
        module.eval()
    except Exception as error:  # whatever a module of somebody's own says
        raise UnsupportedModel(f"The weights do not fit {architecture}: {' '.join(str(error).split())}") from error


def _misfits(own: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """What of the weights is wrong, by its names; numbers of more bits than the module has would be rounded."""
    both = [(name, own[name], given[name]) for name in own if name in given and hasattr(own[name], "shape")]
    shapes = [
        f"{name} {list(getattr(weights, 'shape', ()))} for {list(mine.shape)}"
        for name, mine, weights in both
        if getattr(weights, "shape", None) != mine.shape
    ]
    wider = [
        f"{name} {weights.dtype} for {mine.dtype}".replace("torch.", "")
        for name, mine, weights in both
        if hasattr(weights, "dtype") and weights.dtype.itemsize > mine.dtype.itemsize
    ]
    found = {
        "the file lacks": [name for name in own if name not in given],
        "the architecture has no": [name for name in given if name not in own],
        "of another shape are": shapes,
        "of more digits are": wider,
    }
    return [f"{reason} {_shown(names)}" for reason, names in found.items() if names]


def _shown(names: list[Any]) -> str:
    shown = ", ".join(map(str, names[:_SHOWN]))
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
