"""Cards of models that exist only in tests."""

from runners.artefacts.card import Card, Examples, Feature, FileKind, ModelFile, Source, Task, Verification

NAMES = ("height", "width", "depth")


def card(task: Task = Task.BINARY, classes: tuple[int | str, ...] = (0, 1)) -> Card:
    score = (1.0,) + (0.0,) * (len(classes) - 1) if task is Task.MULTICLASS else 0.5
    return Card(
        model="toy",
        version="v1",
        task=task,
        features=tuple(Feature(name=name) for name in NAMES),
        classes=classes,
        source=Source(uri="models:/toy/1", run_id="r", flavor="xgboost", framework="xgboost 3"),
        files={FileKind.ONNX: ModelFile(sha256="0" * 64, size_bytes=1)},
        verification={FileKind.ONNX: Verification(rows=1, max_abs_difference=0, tolerance=1e-5)},
        examples=Examples(rows=((1.0, 2.0, 3.0),), scores=(score,)),
    )
