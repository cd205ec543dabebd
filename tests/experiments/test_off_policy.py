"""Off-policy estimates: by hand, and of a split that follows its rewards while rates change."""

from collections.abc import Sequence

import numpy as np
import pytest

from shokado.experiments.off_policy import DealtOutcomes, had_served, had_served_instead


class Log:
    """Outcomes, as they come."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.versions: list[str] = []
        self.split: list[int] = []
        self.draws: list[int] = []
        self.splits: list[dict[str, float]] = []

    def generation(self, share: float, first: tuple[int, int], second: tuple[int, int]) -> None:
        """The second version has the share; each has so many rewards, of which so many are 1."""
        self.splits.append({"v1": 1 - share, "v2": share})
        for version, (number, good) in (("v1", first), ("v2", second)):
            values = np.repeat([1.0, 0.0], [good, number - good])
            self.add(version, np.random.default_rng(number).permutation(values).tolist())

    def add(self, version: str, values: Sequence[float], draw: int | None = None) -> None:
        """Of the last split, each of a draw of its own or all of this one."""
        for value in values:
            self.values.append(value)
            self.versions.append(version)
            self.split.append(len(self.splits) - 1)
            self.draws.append(len(self.draws) if draw is None else draw)

    def seen(self, *, bounded: bool = True) -> DealtOutcomes:
        return DealtOutcomes(
            np.array(self.values),
            np.array(self.versions, dtype=np.str_),
            self.splits,
            np.array(self.split, dtype=np.int64),
            np.array(self.draws, dtype=np.int64),
            bounded,
        )


def log_of(*generations: tuple[float, tuple[int, int], tuple[int, int]]) -> DealtOutcomes:
    log = Log()
    for one in generations:
        log.generation(*one)
    return log.seen()


def test_each_reward_stands_for_the_requests_it_was_drawn_from() -> None:
    """A tenth of 1,000 in the first, and half of 1,000 in the second."""
    seen = log_of((0.1, (900, 450), (100, 20)), (0.5, (500, 400), (500, 300)))
    found = had_served("v2", seen, 0.05, 0.05)
    assert found.estimate == pytest.approx((20 / 0.1 + 300 / 0.5) / 2000)
    assert found.low < found.estimate < found.high
    assert (found.observations, found.draws) == (600, 600)
    # The plain mean has the good generation five times.
    assert found.estimate + 0.1 < 320 / 600


def test_a_version_without_a_share_is_not_known() -> None:
    seen = log_of((0.0, (900, 450), (0, 0)), (0.5, (500, 400), (500, 300)))
    with pytest.raises(ValueError, match="v2 had no share"):
        had_served("v2", seen, 0.05, 0.05)
    assert had_served("v1", seen, 0.05, 0.05).observations == 1400


@pytest.mark.parametrize("second", [(199, 100), (1000, 29), (1000, 971)])
def test_few_rewards_say_nothing(second: tuple[int, int]) -> None:
    found = had_served("v2", log_of((0.1, (900, 450), second)), 0.05, 0.05)
    assert (found.low, found.high) == (-np.inf, np.inf)
    assert found.estimate == pytest.approx(second[1] / second[0])


def test_values_without_bounds_need_more() -> None:
    log, random = Log(), np.random.default_rng(5)
    log.splits.append({"v2": 1.0})
    log.add("v2", random.exponential(9, 999).tolist())
    assert had_served("v2", log.seen(bounded=False), 0.05, 0.05).high == np.inf
    log.add("v2", [9.0])
    found = had_served("v2", log.seen(bounded=False), 0.05, 0.5)
    assert found.low < 9 < found.high < 12


def test_nothing_was_seen() -> None:
    log = Log()
    log.splits.append({"v1": 0.5, "v2": 0.5})
    log.add("v1", [1.0])
    assert np.isnan(had_served("v2", log.seen(), 0.05, 0.05).estimate)


def test_one_instead_of_the_other() -> None:
    seen = log_of((0.1, (9000, 4500), (1000, 600)))
    one, other = (had_served(version, seen, 0.05, 0.05) for version in ("v2", "v1"))
    both = had_served_instead("v2", "v1", seen, 0.05, 0.05)
    assert both.estimate == pytest.approx(one.estimate - other.estimate) == pytest.approx(0.1)
    assert 0 < both.low < both.high
    back = had_served_instead("v1", "v2", seen, 0.05, 0.05)
    assert (back.low, back.high) == pytest.approx((-both.high, -both.low))


def test_rows_of_one_draw_are_one_witness() -> None:
    """Four rows that are alike say no more than one, and the interval is the same as of one each."""
    alone, alike = Log(), Log()
    random = np.random.default_rng(7)
    for log in (alone, alike):
        log.splits.append({"v1": 0.5, "v2": 0.5})
    for draw in range(2000):
        version, value = ("v1", "v2")[draw % 2], float(random.random() < 0.4)
        alone.add(version, [value], draw)
        alike.add(version, [value] * 4, draw)
    one, four = (had_served("v2", log.seen(), 0.05, 0.02) for log in (alone, alike))
    assert four.draws == one.draws == 1000
    assert four.high - four.low > 0.9 * (one.high - one.low)


@pytest.mark.slow
def test_a_split_that_follows_its_rewards_misses_as_rarely_as_stated() -> None:
    """Of 150 bandits that are looked at six times in 30 generations, with 5 %, more than 17 are one in 1,000 cases."""
    random = np.random.default_rng(5)
    missed = plain = 0
    for _ in range(150):
        share, log, wrong = 0.5, Log(), False
        for at in range(30):
            rate = 0.3 + 0.2 * (at % 10 > 5)
            second = int(random.binomial(400, share))
            numbers = 400 - second, second
            good = random.binomial(numbers, rate)
            log.generation(share, (numbers[0], int(good[0])), (numbers[1], int(good[1])))
            share = 0.9 if good[1] / max(numbers[1], 1) > 0.42 else 0.2
            if at % 5 == 4:
                truth = 0.3 + 0.2 * np.mean([step % 10 > 5 for step in range(at + 1)])
                found = had_served("v2", log.seen(), 0.05, 0.05)
                wrong |= not found.low <= truth <= found.high
        missed += wrong
        seen = log.seen()
        plain += bool(seen.values[seen.versions == "v2"].mean() - truth > 0.03)
    assert missed <= 17
    assert plain > 100
