"""Environments of a few versions, and the exact share of [0, 1) that each version gets."""

import math
from typing import Any

from hypothesis import strategies as st

from shokado.dispatch.assignment import assign
from shokado.dispatch.state import Environment

VERSIONS = ("v1", "v2", "v3", "v4", "v5")
BELOW_ONE = math.nextafter(1.0, 0.0)

weight = st.one_of(
    st.just(0.0),
    st.integers(1, 100).map(float),
    st.floats(min_value=0, max_value=1.7e308),
    st.sampled_from([5e-324, 1e-300, 1e-9, 1e300, 1.7e308]),
)
weights = (
    st.lists(weight, min_size=1, max_size=5).filter(any).map(lambda given: dict(zip(VERSIONS, given, strict=False)))
)
random_numbers = st.one_of(st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, BELOW_ONE, 5e-324]))


def environment(weights: dict[str, float], active: str = "v1", **given: Any) -> Environment:
    return Environment("production", active, weights, **given)


def shares(environment: Environment) -> dict[str, float]:
    """How long the piece of [0, 1) is that each version gets, found by asking `assign` at both ends of each piece."""
    found: dict[str, float] = {}
    start = 0.0
    for end, _ in environment.thresholds:
        if end > start:
            version = assign(environment, start).version
            assert assign(environment, math.nextafter(end, 0.0)).version == version
            found[version] = found.get(version, 0.0) + end - start
            start = end
    assert start == 1.0
    return found
