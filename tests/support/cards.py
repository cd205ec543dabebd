"""Cards of models that exist only on paper."""

from typing import Any

from runners.artefacts.card import ABOVE_ZERO, Card, Task

CLASSES: dict[Task, list[int | str]] = {
    Task.BINARY: [0, 1],
    Task.MULTICLASS: ["low", "middle", "high"],
    Task.REGRESSION: [],
    Task.MULTIOUTPUT: [],
    Task.BINARY_MARGIN: ["no", "yes"],
    Task.MULTICLASS_MARGIN: ["low", "middle", "high"],
    Task.ANOMALY: [-1, 1],
    Task.MULTILABEL: [0, 1],
    Task.MULTILABEL_MARGIN: ["no", "yes"],
}
SEVERAL: dict[str, Any] = {
    "format": 3,
    "outputs": ["speed", "cost"],
    "examples": {"rows": [[1.0, 2.0], [0.1, -3.0]], "scores": [[0.25, 1000.0], [0.1, 3000.0]]},
}
"""What differs in the card of a model of several values a row."""
LABELS: dict[str, Any] = {
    "format": 3,
    "outputs": ["loud", "old"],
    "examples": {"rows": [[1.0, 2.0], [0.1, -3.0]], "scores": [[0.25, 0.75], [0.1, 1.0]]},
}
"""The same of several labels."""
OF_TASK: dict[Task, dict[str, Any]] = {
    Task.BINARY_MARGIN: {"positive_from": ABOVE_ZERO},
    Task.ANOMALY: {"positive_from": 0.0},
    Task.MULTIOUTPUT: SEVERAL,
    Task.MULTILABEL: LABELS,
    Task.MULTILABEL_MARGIN: LABELS | {"positive_from": ABOVE_ZERO},
}

TEXT: dict[str, Any] = {
    "features": [{"name": "message", "type": "text"}],
    "examples": {"rows": ["win a prize", "1.5"], "scores": [0.9, 0.1]},
}
"""What differs in the card of a model that takes a text."""


def card_content(task: Task = Task.BINARY, **changes: Any) -> dict[str, Any]:
    """What `card.json` holds for a small model with two features."""
    return {
        "format": task.since_format,
        "model": "paper",
        "version": "v1",
        "task": task.value,
        "features": [{"name": "width", "type": "float", "description": "cm"}, {"name": "count", "type": "integer"}],
        "classes": CLASSES[task],
        "source": {"uri": "models:/paper/1", "run_id": "r1", "flavor": "xgboost", "framework": "xgboost 3.2.0"},
        "files": {"onnx": {"sha256": "0" * 64, "size_bytes": 10}},
        "verification": {"onnx": {"rows": 10, "max_abs_difference": 1e-7, "tolerance": 1e-4}},
        "examples": {"rows": [[1.0, 2.0], [0.1, -3.0]], "scores": [0.25, 0.1]},
        "metrics": {"auc": 0.9},
        **OF_TASK.get(task, {}),
        **changes,
    }


def make_card(task: Task = Task.BINARY, **changes: Any) -> Card:
    return Card.model_validate(card_content(task, **changes))


NAMES = ("height", "width", "depth")
"""The features of `toy_card`."""


SCORES: dict[Task, Any] = {Task.MULTIOUTPUT: (0.5, 2000.0)} | dict.fromkeys(
    (Task.BINARY, Task.REGRESSION, Task.BINARY_MARGIN, Task.ANOMALY), 0.5
)
"""Of the example of `toy_card`, where it has no columns for classes."""


def toy_card(task: Task = Task.BINARY, classes: tuple[int | str, ...] = (0, 1)) -> Card:
    """A card of three features without ranges or types of their own, with any classes."""
    return make_card(
        task,
        model="toy",
        features=[{"name": name} for name in NAMES],
        classes=classes,
        source={"uri": "models:/toy/1", "run_id": "r", "flavor": "xgboost", "framework": "xgboost 3"},
        examples={
            "rows": [(1.0, 2.0, 3.0)],
            "scores": [SCORES.get(task, (1.0,) + (0.0,) * (len(classes) - 1))],
        },
    )
