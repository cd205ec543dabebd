"""The model that a server serves, as `GET /v1/models` describes it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

from load_tests.traffic.row_kinds import DrawnFeature, RowKind, row_kind_of, united
from shokado.client.answers import Signature, Versions

Task = Literal[
    "binary",
    "multiclass",
    "regression",
    "multioutput",
    "binary_margin",
    "multiclass_margin",
    "anomaly",
    "multilabel",
    "multilabel_margin",
]


class NotAModel(Exception):
    """What a server serves does not say what it takes."""


@dataclass(frozen=True)
class TargetModel:
    """What all its versions have in common, and the features that any of them takes."""

    name: str
    task: Task
    features: tuple[DrawnFeature, ...]
    classes: tuple[int | str, ...]
    outputs: tuple[str, ...] = ()
    by_name: bool = False
    """Whether versions differ in what they take, so that rows must name it."""

    @cached_property
    def rows(self) -> RowKind:
        """What its rows are. Processes of a load test tell each other the rest."""
        return row_kind_of(self.features, by_name=self.by_name)

    @property
    def scores(self) -> int:
        """How many a row has."""
        several = self.classes if self.task.startswith("multiclass") else self.outputs
        return len(several) or 1


def model_of(versions: Versions) -> TargetModel:
    """Raises `NotAModel` when no version tells what it takes."""
    known = [(one.model, one.signature) for one in versions.versions if one.model and one.signature]
    if not known:
        raise NotAModel("no version tells its signature")
    name, signature = known[0]
    taken = [_drawn(other) for _, other in known]
    differ = any(features != taken[0] for features in taken)
    return TargetModel(
        name,
        cast("Task", signature.task),
        united(taken) if differ else taken[0],
        tuple(signature.classes),
        tuple(signature.outputs),
        differ,
    )


def _drawn(signature: Signature) -> tuple[DrawnFeature, ...]:
    return tuple(DrawnFeature(one.name, one.type, tuple(one.levels), one.precision) for one in signature.features)
