"""Off-policy estimates: by hand, and of a split that follows its rewards while rates change."""

import numpy as np
import pytest

from shokado.experiments.moments import Moments
from shokado.experiments.off_policy import GenerationEvidence, had_served, had_served_instead


def generation(share: float, first: tuple[float, float], second: tuple[float, float]) -> GenerationEvidence:
    """The second version has the share; each has so many rewards, and a sum of them."""
    rewards = {"v1": Moments.of_events(first[1], first[0]), "v2": Moments.of_events(second[1], second[0])}
    return GenerationEvidence({"v1": 1 - share, "v2": share}, rewards)


def test_each_reward_stands_for_the_requests_it_was_drawn_from() -> None:
    """A tenth of 1,000 in the first, and half of 1,000 in the second."""
    seen = [generation(0.1, (900, 450), (100, 20)), generation(0.5, (500, 400), (500, 300))]
    found = had_served("v2", seen, 0.05, 0.05)
    assert found.estimate == pytest.approx((20 / 0.1 + 300 / 0.5) / 2000)
    assert found.low < found.estimate < found.high
    assert found.rewards == 600
    # The plain mean has the good generation five times.
    assert found.estimate + 0.1 < 320 / 600


def test_a_version_without_a_share_is_not_known() -> None:
    seen = [generation(0.0, (900, 450), (0, 0)), generation(0.5, (500, 400), (500, 300))]
    with pytest.raises(ValueError, match="v2 had no share"):
        had_served("v2", seen, 0.05, 0.05)
    assert had_served("v1", seen, 0.05, 0.05).rewards == 1400


def test_few_rewards_say_nothing() -> None:
    found = had_served("v2", [generation(0.1, (900, 450), (100, 20))], 0.05, 0.05)
    assert (found.low, found.high) == (-np.inf, np.inf)
    assert np.isnan(had_served("v2", [], 0.05, 0.05).estimate)


def test_one_instead_of_the_other() -> None:
    seen = [generation(0.1, (9000, 4500), (1000, 600))]
    one, other = (had_served(version, seen, 0.05, 0.05) for version in ("v2", "v1"))
    both = had_served_instead("v2", "v1", seen, 0.05, 0.05)
    assert both.estimate == pytest.approx(one.estimate - other.estimate) == pytest.approx(0.1)
    assert 0 < both.low < both.high
    back = had_served_instead("v1", "v2", seen, 0.05, 0.05)
    assert (back.low, back.high) == pytest.approx((-both.high, -both.low))


def test_a_split_that_follows_its_rewards_misses_as_rarely_as_stated() -> None:
    """Of 300 bandits that are looked at after each of 30 generations, with 5 %, more than 27 are one in 1,000 cases."""
    random = np.random.default_rng(5)
    missed = plain = 0
    for _ in range(300):
        share, seen, wrong = 0.5, list[GenerationEvidence](), False
        for at in range(30):
            rates = np.array([0.3, 0.3]) + 0.2 * (at % 10 > 5)
            given = int(random.binomial(400, share))
            numbers = 400 - given, given
            rewarded = random.binomial(numbers, rates)
            seen.append(generation(share, (numbers[0], rewarded[0]), (numbers[1], rewarded[1])))
            share = 0.9 if rewarded[1] / max(numbers[1], 1) > 0.42 else 0.2
            truth = 0.3 + 0.2 * np.mean([step % 10 > 5 for step in range(at + 1)])
            found = had_served("v2", seen, 0.05, 0.05)
            wrong |= not found.low <= truth <= found.high
        missed += wrong
        rewards = [one.rewards["v2"] for one in seen]
        mean = sum(float(one.total) for one in rewards) / sum(float(one.count) for one in rewards)
        plain += bool(mean - truth > 0.03)
    assert missed <= 27
    assert plain > 200
