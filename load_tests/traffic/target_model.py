"""The model that a server serves, as `GET /v1/models` describes it, and rows that it takes."""

from dataclasses import dataclass
from random import Random
from typing import Any, Literal, cast

from shokado.client.answers import Versions

Task = Literal["binary", "multiclass", "regression"]
Row = list[float | int] | str
"""One row: a number for each feature, or a text."""

_WORDS = ("meeting", "offer", "free", "invoice", "tomorrow", "prize", "team", "click", "report", "account", "hello")


class NotAModel(Exception):
    """What a server serves does not say what it takes."""


@dataclass(frozen=True)
class TargetModel:
    """What all its versions have in common."""

    name: str
    task: Task
    input_name: str
    """Its tensor's name in the Open Inference Protocol."""
    feature_types: tuple[str, ...]
    classes: tuple[int | str, ...]

    @property
    def takes_text(self) -> bool:
        return self.feature_types == ("text",)

    @property
    def scores(self) -> int:
        """How many a row has."""
        return len(self.classes) if self.task == "multiclass" else 1

    def draw_row(self, random: Random) -> Row:
        """Values of the features' types; the server scores any finite number."""
        if self.takes_text:
            return " ".join(random.choices(_WORDS, k=random.randint(3, 30)))
        return [_draw(kind, random) for kind in self.feature_types]


def model_of(versions: Versions) -> TargetModel:
    """Raises `NotAModel` when no version tells what it takes."""
    for version in versions.versions:
        if version.model is not None and version.signature is not None:
            signature = version.signature
            types = tuple(feature.type for feature in signature.features)
            name = signature.features[0].name if types == ("text",) else "input"
            return TargetModel(version.model, cast("Task", signature.task), name, types, tuple(signature.classes))
    raise NotAModel("no version tells its signature")


def _draw(kind: str, random: Random) -> Any:
    match kind:
        case "boolean":
            return random.randint(0, 1)
        case "category":
            return random.randint(0, 4)
        case "integer":
            return random.randint(0, 1000)
        case _:
            return round(random.uniform(0, 100), 2)
