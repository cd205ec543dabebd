"""Pace and batch limit: what they learn from batches, and what they must not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.batching.pace import BatchLimit, DrainRate, Pace

ROWS = st.integers(1, 10_000)
SECONDS = st.floats(1e-6, 10)
BATCHES = st.lists(st.tuples(ROWS, SECONDS), max_size=60)
TARGET_S = 0.01
QUICK_S, SLOW_S = TARGET_S / 2, TARGET_S * 2


def filled(limit: BatchLimit, seconds: float, times: int = 1) -> BatchLimit:
    """The limit after that many batches of its own size."""
    for _ in range(times):
        limit.observe(limit.rows, seconds)
    return limit


def test_a_pace_that_saw_nothing_expects_no_time() -> None:
    assert Pace().estimate(100) == 0


@given(rows=ROWS, seconds=SECONDS)
def test_a_pace_expects_of_a_batch_what_the_same_batch_took(rows: int, seconds: float) -> None:
    pace = Pace()
    pace.observe(rows, seconds)
    assert pace.estimate(rows) == pytest.approx(seconds)


@given(batches=BATCHES.filter(bool), rows=ROWS)
def test_a_pace_expects_no_more_and_no_less_per_row_than_it_ever_saw(
    batches: list[tuple[int, float]], rows: int
) -> None:
    pace = Pace()
    for size, seconds in batches:
        pace.observe(size, seconds)
    per_row = [seconds / size for size, seconds in batches]
    assert min(per_row) * (1 - 1e-9) <= pace.estimate(rows) / rows <= max(per_row) * (1 + 1e-9)


def test_a_pace_keeps_small_and_large_batches_apart() -> None:
    pace = Pace()
    pace.observe(1, 0.001)
    pace.observe(1024, 0.1024)
    assert pace.estimate(1) == pytest.approx(0.001)
    assert pace.estimate(1024) == pytest.approx(0.1024)


def test_a_size_never_seen_is_scaled_from_the_next_larger_one() -> None:
    pace = Pace()
    for size, per_row in ((1, 1e-3), (100, 1e-4), (1000, 1e-5)):
        pace.observe(size, size * per_row)
    assert pace.estimate(10) == pytest.approx(10 * 1e-4)
    assert pace.estimate(200) == pytest.approx(200 * 1e-5)
    assert pace.estimate(50_000) == pytest.approx(50_000 * 1e-5)


def test_a_pace_follows_a_change_within_some_ten_batches() -> None:
    pace = Pace()
    pace.observe(64, 0.1)
    for _ in range(10):
        pace.observe(64, 0.2)
    assert pace.estimate(64) == pytest.approx(0.2, rel=0.1)


def test_a_pace_moves_by_a_fifth_of_one_slow_batch() -> None:
    pace = Pace()
    pace.observe(64, 0.1)
    pace.observe(64, 0.2)
    assert pace.estimate(64) == pytest.approx(0.12)


@given(ceiling=ROWS, start=st.one_of(st.none(), ROWS), batches=BATCHES)
def test_the_limit_stays_between_its_floor_and_its_ceiling(
    ceiling: int, start: int | None, batches: list[tuple[int, float]]
) -> None:
    limit = BatchLimit(TARGET_S, ceiling, start)
    for rows, seconds in [*batches, *[(limit.rows, seconds) for _, seconds in batches]]:
        assert min(16, ceiling) <= limit.rows <= ceiling
        limit.observe(min(rows, limit.rows), seconds)
    assert min(16, ceiling) <= limit.rows <= ceiling


@given(ceiling=st.integers(64, 10_000), data=st.data())
def test_quick_full_batches_raise_the_limit_by_a_fixed_step(ceiling: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(16, ceiling - 2 * (ceiling // 64)))
    limit = BatchLimit(TARGET_S, ceiling, start)
    step = filled(limit, QUICK_S).rows - start
    assert step == ceiling // 64
    assert filled(limit, QUICK_S).rows - start == 2 * step


@given(ceiling=st.integers(100, 10_000), data=st.data())
def test_a_slow_full_batch_lowers_the_limit_by_a_fifth(ceiling: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(20, ceiling))
    assert filled(BatchLimit(TARGET_S, ceiling, start), SLOW_S).rows == int(start * 0.8)


def test_a_slow_batch_half_as_large_as_the_limit_lowers_it() -> None:
    limit = BatchLimit(TARGET_S, 1000, 100)
    limit.observe(50, SLOW_S)
    assert limit.rows == 80


@given(rows=st.integers(1, 49), seconds=SECONDS)
def test_a_small_batch_moves_the_limit_neither_way(rows: int, seconds: float) -> None:
    limit = BatchLimit(TARGET_S, 1000, 100)
    limit.observe(rows, seconds)
    assert limit.rows == 100


def test_a_quick_batch_that_was_not_full_does_not_raise_the_limit() -> None:
    limit = BatchLimit(TARGET_S, 1000, 100)
    limit.observe(99, QUICK_S)
    assert limit.rows == 100


def test_a_batch_that_just_meets_the_target_raises_the_limit() -> None:
    assert filled(BatchLimit(TARGET_S, 1000, 100), TARGET_S).rows > 100


def test_the_limit_recovers_its_ceiling_after_a_slow_spell() -> None:
    limit = filled(BatchLimit(TARGET_S, 4096, 4096), SLOW_S, times=40)
    assert limit.rows == 16
    assert filled(limit, QUICK_S, times=64).rows == 4096


@given(capacity=st.integers(100, 4000), start=st.integers(16, 4096))
def test_the_limit_settles_near_what_fits_the_target(capacity: int, start: int) -> None:
    limit = BatchLimit(TARGET_S, 4096, start)
    seen = []
    for _ in range(200):
        seen.append(limit.rows)
        limit.observe(limit.rows, TARGET_S * limit.rows / capacity)
    settled = seen[100:]
    assert max(settled) <= capacity + 64
    assert min(settled) >= 0.8 * capacity - 1


def test_a_drain_rate_counts_the_time_between_batches() -> None:
    rate = DrainRate()
    assert rate.seconds_for(10) is None
    rate.observe(100, 0.5)
    rate.observe(50, 0.25)
    assert rate.seconds_for(400) == pytest.approx(2.0)


def test_a_drain_rate_forgets_within_seconds() -> None:
    rate = DrainRate()
    for _ in range(50):
        rate.observe(1000, 1.0)
    for _ in range(15):
        rate.observe(100, 1.0)
    assert rate.seconds_for(100) == pytest.approx(1.0, rel=0.01)
