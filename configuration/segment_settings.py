"""Segments: by which features the figures of versions are told apart, and into which levels."""

from itertools import pairwise
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from configuration.frozen import FrozenSettings

MAX_FEATURES = 4
"""Each adds a byte a row to prediction ids, and its levels to what the store counts."""
MAX_LEVELS = 20
"""So many levels a feature has that are told apart; the others are one."""


class FeatureSegments(FrozenSettings):
    """The levels of one feature. Of a category, and of a boolean, they are its own unless they are named."""

    levels: tuple[Annotated[str, BeforeValidator(str), Field(min_length=1, max_length=64)], ...] = Field(
        default=(), max_length=MAX_LEVELS
    )
    """Levels that are told apart, as texts; the first ones of the category where none is named. A feature that no
    version takes needs them: its level comes with feedback.
    """
    cuts: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = Field(default=(), max_length=MAX_LEVELS - 1)
    """Where the ranges of a number begin, ascending: `[30, 50]` are below 30, 30 to below 50, and 50 and above."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.levels and self.cuts:
            raise ValueError("levels are of a category, and cuts of a number: give one of both")
        if len(set(self.levels)) < len(self.levels):
            raise ValueError("levels repeat")
        if not all(low < high for low, high in pairwise(self.cuts)):
            raise ValueError(f"cuts ascend, such as [30, 50]; these are {list(self.cuts)}")
        return self


def _by_name(value: Any) -> Any:
    """A list of names is one of features with levels of their own."""
    if isinstance(value, list | tuple):
        return dict.fromkeys(value, FeatureSegments())
    if isinstance(value, dict):
        return {name: {} if of is None else of for name, of in value.items()}
    return value


class SegmentSettings(FrozenSettings):
    """By what `GET /v1/metrics/{version}?by=` tells figures apart; see `shokado.experiments.row_levels`."""

    features: Annotated[dict[str, FeatureSegments], BeforeValidator(_by_name)] = Field(
        default={}, max_length=MAX_FEATURES
    )
    """None: nothing is added to prediction ids, and nothing is counted."""
