"""What the outputs of a file mean that no registry has: a task, labels, logits, as somebody types them.

What is said, and a model whose answers say the rest, go in; the model with its classes comes out. Importing this module
imports no framework.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runners.artefacts.card import Task
from shokado.lifecycle.errors import UnsupportedModel

if TYPE_CHECKING:
    from shokado.lifecycle.importing.onnx_models import OnnxModel

CLASSIFICATION = "classification"
TASKS = (Task.BINARY.value, Task.MULTICLASS.value, Task.REGRESSION.value, CLASSIFICATION)
"""What may be said of the task; a classification is binary or multiclass by the number of its classes."""
_WHOLE = re.compile(r"-?(0|[1-9]\d*)")
_IF_LOGITS = "Where its outputs are logits, --logits puts a softmax or a sigmoid behind them."


@dataclass(frozen=True)
class OutputMeaning:
    """What somebody says of a file's outputs.

    Attributes:
        task: one of `TASKS`; None: what its answers say.
        classes: labels in the order of its outputs; empty: 0, 1, .. or what the file says.
        is_logits: whether its outputs want a softmax, or a single one a sigmoid, behind them.
    """

    task: str | None = None
    classes: tuple[int | str, ...] = ()
    is_logits: bool = False

    def __post_init__(self) -> None:
        if self.task not in (None, *TASKS):
            raise UnsupportedModel(f"There is no task {self.task!r}: {', '.join(TASKS)} are understood.")

    @property
    def typed(self) -> list[str]:
        """What somebody types for it, in words."""
        words = ["--task", self.task] if self.task is not None else []
        words += ["--classes", ",".join(map(str, self.classes))] if self.classes else []
        return words + ["--logits"] * self.is_logits

    @property
    def has_classes(self) -> bool:
        return self.is_logits or bool(self.classes) or self.task not in (None, Task.REGRESSION)

    def settled(self, file: str, read: Callable[[bool], "OnnxModel"]) -> "OnnxModel":
        """The model of that task and those classes.

        `read` makes the model, with probabilities of classes where it is told that there are any. Raises
        `UnsupportedModel` where what is said contradicts itself, or the model.
        """
        from shokado.lifecycle.importing.onnx_models import OnnxClassifier

        if self.has_classes and self.task == Task.REGRESSION:
            raise UnsupportedModel("A regression has neither classes nor logits: say another task, or leave them out.")
        model = read(self.has_classes)
        found = Task.REGRESSION if model.task.is_of_values else model.task
        is_classifier = isinstance(model, OnnxClassifier)
        if self.task not in (None, CLASSIFICATION, found) or (self.has_classes and not is_classifier):
            raise UnsupportedModel(
                f"{file} is called a model of {self.task or CLASSIFICATION}, and answers as one of {model.task} does. "
                f"{_IF_LOGITS}"
            )
        if not self.classes:
            return model
        assert isinstance(model, OnnxClassifier), "who has classes is one"
        if len(self.classes) != len(model.classes_):
            raise UnsupportedModel(
                f"{len(self.classes)} classes are named, and the model has {len(model.classes_)} outputs."
            )
        return model.called(self.classes)


def parsed_classes(text: str) -> tuple[int | str, ...]:
    """The labels between commas: whole numbers where all are, else texts; none of an empty text."""
    labels = [label.strip() for label in text.split(",")] if text else []
    if all(_WHOLE.fullmatch(label) for label in labels):
        return tuple(map(int, labels))
    return tuple(labels)
