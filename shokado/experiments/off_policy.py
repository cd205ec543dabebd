"""Off-policy estimates: what the mean reward had been if one version had answered everything. Pure.

For a split that moves, as that of the `weighted` strategy does, the means of versions cannot be compared: one that got
its traffic in good times looks good. What is known is with which chance each request was given to a version: the
version's share in the generation that answered. So each reward counts once for every request it stands for (D. G.
Horvitz and D. J. Thompson, "A generalization of sampling without replacement from a finite universe", Journal of the
American Statistical Association 47, 1952), normalised by their sum (J. Hájek, 1971), which varies less where rewards
are far from 0.

The estimates are sums of increments whose mean, given all that was before, is 0; so shares may follow earlier rewards,
and rates may change. Their sequence is the asymptotic one of I. Waudby-Smith et al. (2024, see `mixtures`), section
2.3; of bandits: I. Waudby-Smith, L. Wu, A. Ramdas, N. Karampatziakis and P. Mineiro, "Anytime-valid off-policy
inference for contextual bandits", ACM/IMS Journal of Data Science 1 (2024).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shokado.experiments.confidence_sequences import Score
from shokado.experiments.moments import Moments

MIN_REWARDS = 200
"""So many rewards of a version are enough for the normal distribution to be near."""


@dataclass(frozen=True, slots=True)
class GenerationEvidence:
    """What was seen while the split was the same: rewards by version, and the shares by which requests were dealt."""

    shares: Mapping[str, float]
    rewards: Mapping[str, Moments]
    """Those of answers old enough for a reward to have come. Whether one is missing must not depend on the version."""


@dataclass(frozen=True, slots=True)
class OffPolicyEstimate:
    """A mean reward, or a difference of two, over all requests that got a reward."""

    estimate: float
    low: float
    high: float
    """Infinite where too little was seen."""
    rewards: int
    """How many the version itself has, or the one of both that has fewer."""


def had_served(
    version: str, generations: Sequence[GenerationEvidence], alpha: float, resolution: float
) -> OffPolicyEstimate:
    """What the mean reward had been, had this version answered all requests.

    Args:
        version: one that had a share in every generation that has a reward.
        generations: what was seen, in any order.
        alpha: the chance at most with which the sequence ever misses the mean.
        resolution: above 0, a difference that should be told from none; see `confidence_sequences`.

    Raises:
        ValueError: the version had no share in a generation, of which nothing is known then.
    """
    total, variance = _weighted(version, generations)
    return _estimate(total, variance, _requests(generations), _number(version, generations), alpha, resolution)


def had_served_instead(
    version: str, other: str, generations: Sequence[GenerationEvidence], alpha: float, resolution: float
) -> OffPolicyEstimate:
    """By how much the mean reward had been higher, had this version answered all requests, and not the other.

    A request was given to one of the two at most, so the variances of both sums are added.
    """
    (total, variance), (total_of_other, variance_of_other) = (_weighted(one, generations) for one in (version, other))
    number = min(_number(one, generations) for one in (version, other))
    requests = _requests(generations)
    return _estimate(total - total_of_other, variance + variance_of_other, requests, number, alpha, resolution)


def _weighted(version: str, generations: Sequence[GenerationEvidence]) -> tuple[float, float]:
    """The sum of rewards over all requests that they stand for, and its variance."""
    requests = there = total = 0.0
    for one in generations:
        if (number := _rewarded(one)) == 0:
            continue
        if not one.shares.get(version):
            raise ValueError(f"{version} had no share in a generation, so nobody knows how it had done there")
        requests += number
        there += float(_of(version, one).count) / one.shares[version]
        total += float(_of(version, one).total) / one.shares[version]
    mean = total / there if there else 0.0
    variance = 0.0
    for one in generations:
        if seen := one.rewards.get(version):
            around = float(seen.squares) - 2 * mean * float(seen.total) + mean**2 * float(seen.count)
            variance += max(around, 0.0) / one.shares[version] ** 2
    return mean * requests, variance


def _estimate(
    total: float, variance: float, requests: float, number: float, alpha: float, resolution: float
) -> OffPolicyEstimate:
    if not requests or not number:
        return OffPolicyEstimate(np.nan, -np.inf, np.inf, 0)
    total, variance, weight = np.float64(total), np.float64(variance), np.float64(requests)
    score = Score(*(np.asarray(part) for part in (total, weight, variance, variance / weight)))
    low, high = (float(bound) for bound in score.bounds(alpha, resolution))
    if number < MIN_REWARDS:
        low, high = -np.inf, np.inf
    return OffPolicyEstimate(float(score.estimate), low, high, round(number))


def _of(version: str, generation: GenerationEvidence) -> Moments:
    return generation.rewards.get(version, Moments(0.0, 0.0, 0.0))


def _rewarded(generation: GenerationEvidence) -> float:
    return sum(float(one.count) for one in generation.rewards.values())


def _requests(generations: Sequence[GenerationEvidence]) -> float:
    return sum(_rewarded(one) for one in generations)


def _number(version: str, generations: Sequence[GenerationEvidence]) -> float:
    return sum(float(_of(version, one).count) for one in generations)
