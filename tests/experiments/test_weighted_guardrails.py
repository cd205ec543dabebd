"""Guardrails of the weighted strategy: what is past a limit is found and held, and what keeps it is left alone."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from configuration.experiment_policy import ExperimentMetric, Guardrail
from configuration.settings import WeightedSettings
from shokado.experiments.figures import Counted, Tallies
from shokado.experiments.weighted_guardrails import LimitStanding, findings, lookback_s, past_limits
from shokado.stores.store import Tally

BEGIN = 1_790_000_040
"""The beginning of a minute."""
ERRORS = Guardrail(metric=ExperimentMetric.ERROR_RATE, limit=0.02)
SLOW = Guardrail(metric=ExperimentMetric.SLOW_SHARE, limit=0.1)


def guarded(*guardrails: Guardrail, hold_s: float = 600) -> WeightedSettings:
    return WeightedSettings(guardrails=guardrails or (ERRORS,), guardrail_hold_s=hold_s)


def minutes(*counted: Mapping[str, float], version: str = "v2") -> Tallies:
    """What was counted in minutes that follow each other."""
    return {
        (BEGIN + 60 * at, Tally(version, "", name)): value
        for at, one in enumerate(counted)
        for name, value in one.items()
    }


def ended(answers: float, failed: float = 0, slow: float = 0) -> dict[str, float]:
    return {Counted.REQUESTS: answers, Counted.FAILED: failed, Counted.ON_TIME: answers - slow}


def of_errors(shares: Sequence[float], number: int, random: np.random.Generator) -> Tallies:
    """Minutes with so many requests each, of which a part fails."""
    failed = random.binomial(number, shares)
    return minutes(*(ended(number - one, one) for one in failed.tolist()))


def look(tallies: Tallies, after: int, settings: WeightedSettings | None = None) -> LimitStanding:
    """What is found at the end of so many minutes, of what was counted by then."""
    now = BEGIN + 60 * after
    by_then = {(minute, tally): value for (minute, tally), value in tallies.items() if minute < now}
    return findings(by_then, ["v2"], settings or guarded(), now)["v2"][0]


def test_what_keeps_its_limit_is_told_with_what_was_observed() -> None:
    found = findings(minutes(ended(990, 10), ended(1990, 10)), ["v1", "v2"], guarded(), BEGIN + 120)
    assert found["v2"] == [LimitStanding(ExperimentMetric.ERROR_RATE, 0.02, None, 20, 3000)]
    assert found["v1"][0].observed is None
    assert past_limits(found) == {}


def test_what_is_past_a_limit_is_named_with_the_figures_it_was_found_by() -> None:
    found = findings(minutes(ended(500), ended(400, 100)), ["v2"], guarded(), BEGIN + 120)["v2"][0]
    assert (found.past_since, found.bad, found.requests) == (BEGIN + 60, 100, 500)
    assert past_limits({"v2": [found]}) == {
        "v2": "error_rate 0.2 of 500 requests (at most 0.02), found at 14:15 UTC",
    }


def test_slow_answers_are_of_those_that_were_answered() -> None:
    settings = guarded(ERRORS, SLOW)
    found = findings(minutes(ended(1000, 1000, slow=50)), ["v2"], settings, BEGIN + 60)["v2"]
    assert [(one.metric, one.bad, one.requests) for one in found] == [
        ("error_rate", 1000, 2000),
        ("slow_share", 50, 1000),
    ]
    assert found[0].past_since is not None
    assert found[1].past_since is None


def test_a_version_that_begins_to_fail_after_a_good_hour_is_found_within_minutes() -> None:
    tallies = of_errors([0.005] * 60 + [0.08] * 5, 200, np.random.default_rng(3))
    assert look(tallies, 60).past_since is None
    assert look(tallies, 65, guarded(hold_s=3600)).past_since is not None


def test_it_is_held_for_as_long_as_it_fails_and_comes_back_when_it_does_not() -> None:
    random = np.random.default_rng(4)
    # With a twentieth of the requests once it is held, as it then has its minimum share.
    failing, held = of_errors([0.1] * 3, 400, random), of_errors([0.1] * 40 + [0.0] * 30, 20, random)
    tallies = {**failing, **{(minute + 180, tally): value for (minute, tally), value in held.items()}}
    settings = guarded(hold_s=900)
    states = [look(tallies, after, settings).past_since is not None for after in range(3, 73)]
    assert all(states[:40])
    back = states.index(False)
    assert 40 < back <= 40 + 15
    assert not any(states[back:])


def test_it_is_held_for_a_while_though_the_next_requests_are_well() -> None:
    tallies = minutes(ended(400, 100), *[ended(1000)] * 20)
    states = [look(tallies, after).past_since is not None for after in range(1, 21)]
    assert states == [True] * 10 + [False] * 10


def test_one_that_was_held_is_found_anew_by_what_came_since() -> None:
    tallies = minutes(ended(400, 100), *[ended(1000)] * 12, ended(400, 100))
    found = look(tallies, 14)
    assert (found.past_since, found.bad, found.requests) == (BEGIN + 13 * 60, 100, 500)


def test_without_requests_it_stays_held_until_nobody_looks_back_so_far() -> None:
    tallies = minutes(ended(400, 100))
    assert look(tallies, 30).past_since == BEGIN
    assert look(tallies, 42).past_since is None
    assert lookback_s(guarded()) == 2400
    assert lookback_s(WeightedSettings()) == 0


def test_what_lies_ahead_after_a_clock_was_set_back_does_not_count() -> None:
    assert look(minutes(*[{}] * 5, ended(400, 100)), 10).past_since is not None
    tallies = {(minute + 3600, tally): value for (minute, tally), value in minutes(ended(400, 100)).items()}
    assert findings(tallies, ["v2"], guarded(), BEGIN + 60)["v2"][0].requests == 0


@pytest.mark.parametrize("number", [20, 2000])
def test_a_version_that_just_keeps_its_limit_is_not_found_past_it_in_500_hours(number: int) -> None:
    """One alarm is a chance of 1 in 48. A test of each stretch by itself, with the same 0.001, gives many."""
    random = np.random.default_rng(number)
    found = repeated = 0
    for _ in range(500):
        tallies = of_errors([0.02] * 60, number, random)
        # Held for longer than that: what is found at any minute is still told at the end.
        found += look(tallies, 60, guarded(hold_s=7200)).past_since is not None
        failed = np.array([tallies[BEGIN + 60 * at, Tally("v2", "", Counted.FAILED)] for at in range(60)])
        sums = np.concatenate([[0], np.cumsum(failed)])
        stretches = np.subtract.outer(np.arange(61), np.arange(61)) * number
        excess = np.subtract.outer(sums, sums) - 0.02 * stretches
        repeated += bool(
            (excess > 3.09 * np.sqrt(0.02 * 0.98 * np.maximum(stretches, 0)) + 1e-9).any(where=stretches > 0)
        )
    assert found == 0
    assert repeated > 50
