"""The cache of features: what was looked up lately of each entity, for a while, and of no more than so many."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from shokado.features.entity_features import EntityFeatures


class FeatureCache:
    """A worker's own. A feature that becomes too old meanwhile is told as such: it is kept with its time."""

    def __init__(self, ttl_s: float, max_entities: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`ttl_s` 0: nothing is kept."""
        self._ttl_s = ttl_s
        self._max_entities = max_entities
        self._clock = clock
        self._kept: OrderedDict[Hashable, tuple[float, EntityFeatures]] = OrderedDict()
        """By entity, when it is let go and what is known; who was asked for last comes last."""

    def get(self, key: Hashable) -> EntityFeatures | None:
        """What is known of the entity."""
        found = self._kept.get(key)
        if found is None:
            return None
        if found[0] <= self._clock():
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return found[1]

    def put(self, key: Hashable, features: EntityFeatures) -> None:
        """Keep it, and let the one go that nobody has asked for longest where there are too many."""
        if not self._ttl_s:
            return
        self._kept[key] = (self._clock() + self._ttl_s, features)
        self._kept.move_to_end(key)
        if len(self._kept) > self._max_entities:
            self._kept.popitem(last=False)

    def __len__(self) -> int:
        return len(self._kept)
