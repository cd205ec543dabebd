"""The model that a server serves, as `GET /v1/models` describes it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

from load_tests.traffic.row_kinds import DrawnFeature, RowKind, row_kind_of
from shokado.client.answers import Versions

Task = Literal["binary", "multiclass", "regression", "multioutput", "binary_margin", "multiclass_margin", "anomaly"]


class NotAModel(Exception):
    """What a server serves does not say what it takes."""


@dataclass(frozen=True)
class TargetModel:
    """What all its versions have in common."""

    name: str
    task: Task
    features: tuple[DrawnFeature, ...]
    classes: tuple[int | str, ...]
    outputs: tuple[str, ...] = ()

    @cached_property
    def rows(self) -> RowKind:
        """What its rows are. Processes of a load test tell each other the rest."""
        return row_kind_of(self.features)

    @property
    def scores(self) -> int:
        """How many a row has."""
        several = self.classes if self.task.startswith("multiclass") else self.outputs
        return len(several) or 1


def model_of(versions: Versions) -> TargetModel:
    """Raises `NotAModel` when no version tells what it takes."""
    for version in versions.versions:
        if version.model is not None and version.signature is not None:
            signature = version.signature
            features = tuple(
                DrawnFeature(one.name, one.type, tuple(one.levels), one.precision) for one in signature.features
            )
            return TargetModel(
                version.model,
                cast("Task", signature.task),
                features,
                tuple(signature.classes),
                tuple(signature.outputs),
            )
    raise NotAModel("no version tells its signature")
