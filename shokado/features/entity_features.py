"""The features of one entity, as the transformer has them: which there are, and until when they hold."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from shokado.features.feature_wire import FeatureAnswer, FeatureValue

Entity = Mapping[str, bool | int | float | str]
"""What a request names: values by the names of Feast's join keys, and of what is transformed."""


class Lack(StrEnum):
    """Why there is no value of a feature."""

    MISSING = "missing"
    """The store has none."""
    STALE = "stale"
    """The store's is older than it may be."""
    UNAVAILABLE = "unavailable"
    """It could not be looked up in time, or at all."""


class EntityFeatures(msgspec.Struct, frozen=True, gc=False):
    """All features of an entity; the fields lie side by side, in the order of `names`."""

    names: tuple[str, ...]
    values: tuple[FeatureValue, ...]
    found: tuple[bool, ...]
    expires: tuple[float | None, ...]
    """Unix seconds from when on a value is too old."""

    def values_at(self, now: float) -> dict[str, FeatureValue | Lack]:
        """What each feature is at this time, in Unix seconds, or why there is no value of it."""
        return {
            name: Lack.MISSING if not found else Lack.STALE if expires is not None and expires <= now else value
            for name, value, found, expires in zip(self.names, self.values, self.found, self.expires, strict=True)
        }

    def holds_until(self, now: float) -> float | None:
        """When the first of them that is not too old yet will be; None where none ever is."""
        ahead = [expires for expires in self.expires if expires is not None and expires > now]
        return min(ahead, default=None)


def features_of(answer: FeatureAnswer, count: int) -> list[EntityFeatures]:
    """The features of each entity of a batch of `count`. Raises `ValueError` for columns of another length."""
    columns = answer.features
    for column in columns:
        sides = (column.values, column.found, column.times, column.expires)
        if any(side is not None and len(side) != count for side in sides):
            raise ValueError(f"the feature {column.name!r} has not one value for each of {count} entities")
    names = tuple(column.name for column in columns)
    if not names:
        return [EntityFeatures((), (), (), ())] * count
    never = [None] * count
    values = zip(*(column.values for column in columns), strict=True)
    found = zip(*(column.found for column in columns), strict=True)
    expires = zip(*(column.expires or never for column in columns), strict=True)
    return [EntityFeatures(names, *sides) for sides in zip(values, found, expires, strict=True)]
