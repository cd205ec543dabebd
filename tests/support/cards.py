"""Cards of models that exist only on paper."""

from typing import Any

from runners.artefacts.card import Card, Task

CLASSES: dict[Task, list[int | str]] = {
    Task.BINARY: [0, 1],
    Task.MULTICLASS: ["low", "middle", "high"],
    Task.REGRESSION: [],
}


TEXT: dict[str, Any] = {
    "features": [{"name": "message", "type": "text"}],
    "examples": {"rows": ["win a prize", "1.5"], "scores": [0.9, 0.1]},
}
"""What differs in the card of a model that takes a text."""


def card_content(task: Task = Task.BINARY, **changes: Any) -> dict[str, Any]:
    """What `card.json` holds for a small model with two features."""
    return {
        "format": 2,
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
        **changes,
    }


def make_card(task: Task = Task.BINARY, **changes: Any) -> Card:
    return Card.model_validate(card_content(task, **changes))


NAMES = ("height", "width", "depth")
"""The features of `toy_card`."""


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
            "scores": [(1.0,) + (0.0,) * (len(classes) - 1) if task is Task.MULTICLASS else 0.5],
        },
    )
