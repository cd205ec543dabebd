"""CatBoost's counts of categories (CTR): what stands in a model's JSON goes in, a number for each category comes out.

In its training CatBoost has counted how often each category of a column came, and with which targets. A split compares
a number that is made of these counts (catboost/libs/model/static_ctr_provider.cpp):

    (counts of the wanted targets + prior) / (all counts + prior's denominator), shifted and scaled, in float32

Categories are found by a hash of the number that CatBoost makes of their text.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_MULTIPLIER = 0x4906BA494954CB65
_BITS = (1 << 64) - 1
_EMPTY = _BITS
"""The hash of an entry of a table that is free."""
_OF_ALL = ("Counter", "FeatureFreq")
_MEANS = ("BinarizedTargetMeanValue", "FloatTargetMeanValue")
_BUCKETS = "Buckets"
_ONE_COLUMN = "cat_feature_value"

Json = Mapping[str, Any]


@dataclass(frozen=True)
class CategoryCount:
    """A number that CatBoost makes of the category of one column.

    Attributes:
        column: its number among the categories.
        table: what was counted, by the hash of each category.
        all: of a counter, the number that counts are compared with.
    """

    column: int
    kind: str
    target: int
    prior: float
    prior_of_all: float
    shift: float
    scale: float
    table: Mapping[int, list[float]]
    all: float

    def number(self, category: int | None) -> np.float32:
        """The number of a category, by the number that CatBoost makes of its text; None: of one that is not counted."""
        counted = self.table.get(key_of(category)) if category is not None else None
        wanted, total = self._counts(counted)
        ratio = (np.float32(wanted) + np.float32(self.prior)) / (np.float32(total) + np.float32(self.prior_of_all))
        return np.float32((ratio + np.float32(self.shift)) * np.float32(self.scale))

    def _counts(self, counted: list[float] | None) -> tuple[float, float]:
        if self.kind in _OF_ALL:
            return (counted[0] if counted else 0), self.all
        if counted is None:
            return 0, 0
        if self.kind in _MEANS:
            return counted[0], counted[1]
        if self.kind == _BUCKETS:
            return counted[self.target], sum(counted)
        return sum(counted[self.target + 1 :]), sum(counted)


def key_of(category: int) -> int:
    """The hash by which a table has a category that is alone."""
    return (_MULTIPLIER * (_MULTIPLIER * (category & _BITS) & _BITS)) & _BITS


def counts_of(content: Json) -> dict[int, tuple[CategoryCount | None, float]]:
    """By the number of each split: what it compares, and with what. None: of several columns at once."""
    info = content["features_info"]
    first = sum(len(item.get("borders") or ()) for item in info.get("float_features") or ())
    first += sum(len(item.get("values") or ()) for item in info.get("categorical_features") or ())
    return dict(enumerate(_compared(content), first))


def _compared(content: Json) -> Iterator[tuple[CategoryCount | None, float]]:
    for item in content["features_info"].get("ctrs") or ():
        count = _count(item, content["ctr_data"])
        for border in item["borders"]:
            yield count, float(np.float32(border))


def _count(item: Json, data: Json) -> CategoryCount | None:
    elements = item["elements"]
    if len(elements) != 1 or elements[0]["combination_element"] != _ONE_COLUMN:
        return None
    wanted = json.loads(item["identifier"])
    found = next(table for name, table in data.items() if json.loads(name) == wanted)
    step, entries = found["hash_stride"], found["hash_map"]
    return CategoryCount(
        column=elements[0]["cat_feature_index"],
        kind=item["ctr_type"],
        target=item["target_border_idx"],
        prior=item["prior_numerator"],
        prior_of_all=item["prior_denomerator"],
        shift=item["shift"],
        scale=item["scale"],
        table={
            key: entries[at + 1 : at + step]
            for at in range(0, len(entries), step)
            if (key := int(entries[at])) != _EMPTY
        },
        all=found.get("counter_denominator", 0),
    )
