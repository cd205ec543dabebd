"""The model that a server serves, as `GET /v1/models` describes it."""

from dataclasses import dataclass
from typing import Literal, cast

from load_tests.traffic.row_kinds import NumberRows, RowKind, TextRows
from shokado.client.answers import Versions

Task = Literal["binary", "multiclass", "regression"]


class NotAModel(Exception):
    """What a server serves does not say what it takes."""


@dataclass(frozen=True)
class TargetModel:
    """What all its versions have in common."""

    name: str
    task: Task
    rows: RowKind
    classes: tuple[int | str, ...]

    @property
    def scores(self) -> int:
        """How many a row has."""
        return len(self.classes) if self.task == "multiclass" else 1


def model_of(versions: Versions) -> TargetModel:
    """Raises `NotAModel` when no version tells what it takes."""
    for version in versions.versions:
        if version.model is not None and version.signature is not None:
            signature = version.signature
            types = tuple(feature.type for feature in signature.features)
            rows = TextRows(signature.features[0].name) if types == ("text",) else NumberRows(types)
            return TargetModel(version.model, cast("Task", signature.task), rows, tuple(signature.classes))
    raise NotAModel("no version tells its signature")
