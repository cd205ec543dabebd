"""The weighted strategy: its bounds hold whatever was observed, and the better version wins."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configuration.settings import Strategy, WeightedSettings
from shokado.dispatch.state import Environment
from shokado.experiments.figures import Counted, Counts
from shokado.experiments.thompson import (
    Criterion,
    Evidence,
    chances,
    criterion_of,
    decayed,
    estimate,
    next_weights,
    observations,
)
from shokado.stores.store import Tally
from tests.dispatch.shares import VERSIONS

SETTINGS = WeightedSettings()
count = st.floats(0, 1e9)
part = st.floats(0, 1)


@st.composite
def counts(draw: st.DrawFn) -> Counts:
    """Counts as they come: parts are no larger than the whole, and any kind may be missing."""
    rewards, labels, requests = draw(count), draw(count), draw(count)
    found = {
        Counted.REWARDS: rewards,
        Counted.REWARD_SUM: rewards * draw(part),
        Counted.CLASS_LABELS: labels,
        Counted.CORRECT: labels * draw(part),
        Counted.REQUESTS: requests,
        Counted.ON_TIME: requests * draw(part),
        Counted.FAILED: draw(count),
    }
    kept = draw(st.sets(st.sampled_from(sorted(found))))
    return {name: value for name, value in found.items() if name in kept}


@st.composite
def deviations(draw: st.DrawFn) -> Counts:
    """Counts of a regression whose errors are of any size that a label allows."""
    errors = draw(st.lists(st.floats(0, 1e39), max_size=5))
    return {
        Counted.VALUE_LABELS: float(len(errors)),
        Counted.SQUARED_ERROR: sum(error**2 for error in errors),
        Counted.SQUARED_ERROR_SQUARED: sum(error**4 for error in errors),
    }


weights = st.lists(st.one_of(st.just(0.0), st.floats(0.001, 1000)), min_size=1, max_size=5).filter(any)
evidence = st.dictionaries(st.sampled_from(VERSIONS), st.one_of(counts(), deviations()))
settings = st.builds(
    WeightedSettings,
    min_share=st.floats(0, 0.5),
    max_step=st.floats(1e-6, 1),
    min_change=st.sampled_from([0.0, 0.01]),
)


def environment(*weights: float) -> Environment:
    return Environment("production", "v1", dict(zip(VERSIONS, weights, strict=False)), Strategy.WEIGHTED)


def seeded(seed: int = 7) -> np.random.Generator:
    return np.random.default_rng(seed)


def rewards(mean: float, number: float = 100) -> Counts:
    return {Counted.REWARDS: number, Counted.REWARD_SUM: mean * number}


def squared_errors(*deviations: float) -> Counts:
    return {
        Counted.VALUE_LABELS: len(deviations),
        Counted.SQUARED_ERROR: sum(deviation**2 for deviation in deviations),
        Counted.SQUARED_ERROR_SQUARED: sum(deviation**4 for deviation in deviations),
    }


@given(given=weights, evidence=evidence, settings=settings, seed=st.integers(0, 2**32))
def test_the_bounds_hold_whatever_was_observed(
    given: list[float], evidence: Evidence, settings: WeightedSettings, seed: int
) -> None:
    split = environment(*given)
    new = next_weights(split, evidence, settings, seeded(seed))
    if new is None:
        return
    assert sum(new.values()) == pytest.approx(1, abs=1e-12)
    assert list(new) == list(split.weights)
    least = min(settings.min_share, 1 / len(split.shares))
    for version, share in new.items():
        old = split.shares.get(version, 0.0)
        assert abs(share - old) <= settings.max_step + 1e-9
        assert share >= min(old, least) - 1e-12
        assert (share > 0) <= (old > 0)
    assert any(share != split.shares.get(version, 0.0) for version, share in new.items())


@given(given=weights.filter(lambda given: sum(map(bool, given)) > 1), evidence=evidence, settings=settings)
def test_a_version_below_the_minimum_rises_towards_it(
    given: list[float], evidence: Evidence, settings: WeightedSettings
) -> None:
    split = environment(*given)
    new = next_weights(split, evidence, settings, seeded()) or {}
    least = min(settings.min_share, 1 / len(split.shares))
    for version, old in split.shares.items():
        if old < least * (1 - 1e-9) and version in new:
            assert new[version] >= old
    if settings.max_step == 1 and new:
        assert all(new[version] >= least - 1e-12 for version in split.shares)


@given(given=weights, evidence=evidence, seed=st.integers(0, 2**32))
def test_the_same_generator_gives_the_same_weights(given: list[float], evidence: Evidence, seed: int) -> None:
    split = environment(*given)
    first, second = (next_weights(split, evidence, SETTINGS, seeded(seed)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("observed", [{}, {"v1": {}}, {"v3": rewards(1)}, {"v1": {Counted.ROWS: 5.0}}])
def test_nothing_moves_while_nothing_was_observed(observed: Evidence) -> None:
    assert next_weights(environment(80, 20), observed, SETTINGS, seeded()) is None


def test_a_version_alone_keeps_everything() -> None:
    assert next_weights(environment(3), {"v1": rewards(0)}, SETTINGS, seeded()) is None
    assert next_weights(environment(3, 0), {"v1": rewards(0), "v2": rewards(1)}, SETTINGS, seeded()) is None


def test_a_version_without_traffic_gets_none_however_good_it_was() -> None:
    new = next_weights(
        environment(1, 0, 1), {"v1": rewards(0.1), "v2": rewards(1), "v3": rewards(0.5)}, SETTINGS, seeded()
    )
    assert new is not None
    assert new == pytest.approx({"v1": 0.4, "v2": 0, "v3": 0.6})


def test_one_update_takes_one_step() -> None:
    observed = {"v1": rewards(0.1), "v2": rewards(0.9)}
    assert next_weights(environment(80, 20), observed, SETTINGS, seeded()) == pytest.approx({"v1": 0.7, "v2": 0.3})


def test_steps_end_at_the_minimum_and_then_nothing_moves() -> None:
    observed = {"v1": rewards(0.1), "v2": rewards(0.9)}
    split, updates = environment(80, 20), 0
    while new := next_weights(split, observed, SETTINGS, seeded()):
        split, updates = environment(*new.values()), updates + 1
    assert updates == 8
    assert split.shares == pytest.approx({"v1": SETTINGS.min_share, "v2": 1 - SETTINGS.min_share})


def test_a_minimum_that_not_all_can_have_means_equal_parts() -> None:
    strict = WeightedSettings(min_share=0.5, max_step=1)
    observed = {"v1": rewards(0.1), "v2": rewards(0.9)}
    new = next_weights(environment(90, 5, 5), observed, strict, seeded())
    assert new == pytest.approx(dict.fromkeys(("v1", "v2", "v3"), 1 / 3))


def test_a_change_that_is_too_small_is_left_out_but_a_small_step_of_a_large_one_is_not() -> None:
    observed = {"v1": rewards(0.1), "v2": rewards(0.9)}
    at_rest = environment(0.055, 0.945)
    assert next_weights(at_rest, observed, SETTINGS, seeded()) is None
    assert next_weights(at_rest, observed, WeightedSettings(min_change=0.001), seeded()) is not None
    small_steps = WeightedSettings(max_step=0.001, min_change=0.01)
    assert next_weights(environment(50, 50), observed, small_steps, seeded()) == pytest.approx(
        {"v1": 0.499, "v2": 0.501}
    )


def test_a_version_that_was_not_observed_is_tried() -> None:
    found = chances({"v1": rewards(0.5)}, Criterion.REWARD, ["v1", "v2"], seeded())
    assert found["v2"] == pytest.approx(0.5, abs=0.05)
    assert sum(found.values()) == pytest.approx(1)


def test_versions_that_do_the_same_keep_equal_chances() -> None:
    found = chances({name: rewards(0.5) for name in VERSIONS}, Criterion.REWARD, VERSIONS, seeded())
    assert list(found.values()) == pytest.approx([0.2] * 5, abs=0.02)


@given(given=weights, evidence=evidence, settings=settings, past=st.sets(st.sampled_from(VERSIONS)))
def test_versions_past_a_limit_have_the_least_at_once_and_the_others_get_the_rest(
    given: list[float], evidence: Evidence, settings: WeightedSettings, past: set[str]
) -> None:
    split = environment(*given)
    held, others = past & split.shares.keys(), split.shares.keys() - past
    new = next_weights(split, evidence, settings, seeded(), past)
    least = min(settings.min_share, 1 / len(split.shares))
    if new is None:
        assert not others or all(split.shares[version] <= least + 1e-12 for version in held)
        return
    assert sum(new.values()) == pytest.approx(1, abs=1e-12)
    for version, share in split.shares.items():
        if version in held:
            assert min(share, least) - 1e-12 <= new[version] <= least + 1e-12
        else:
            # What it had, its part of what became free, and a step.
            assert new[version] >= min(share, least) - 1e-12
            assert new[version] >= share - settings.max_step - 1e-9


def test_a_version_past_a_limit_goes_down_in_one_step_and_comes_back_in_small_ones() -> None:
    observed = {"v1": rewards(0.1), "v2": rewards(0.9), "v3": rewards(0.1)}
    split = environment(20, 70, 10)
    new = next_weights(split, observed, SETTINGS, seeded(), {"v2"})
    assert new is not None
    assert new["v2"] == SETTINGS.min_share
    assert new["v1"] == pytest.approx(0.95 * 2 / 3, abs=SETTINGS.max_step)
    back = next_weights(environment(*new.values()), observed, SETTINGS, seeded())
    assert back is not None
    assert back["v2"] == pytest.approx(SETTINGS.min_share + SETTINGS.max_step)


def test_a_version_past_a_limit_goes_down_though_nothing_was_observed_of_the_others() -> None:
    new = next_weights(environment(50, 50), {"v2": rewards(0.9)}, SETTINGS, seeded(), {"v2"})
    assert new == pytest.approx({"v1": 0.95, "v2": 0.05})
    assert next_weights(environment(5, 95), {}, SETTINGS, seeded(), {"v1"}) is None
    assert next_weights(environment(50, 50), {"v2": rewards(0.9)}, SETTINGS, seeded(), {"v1", "v2"}) is None


def test_the_chance_of_being_better_is_that_of_two_beta_posteriors() -> None:
    """P(X2 > X1) for X1 ~ Beta(1, 2) and X2 ~ Beta(2, 1) is the integral of 2(1 - x)(1 - x^2) over [0, 1]: 5/6."""
    found = chances({"v1": rewards(0, 1), "v2": rewards(1, 1)}, Criterion.REWARD, ["v1", "v2"], seeded())
    assert found["v2"] == pytest.approx(5 / 6, abs=0.02)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({"v1": rewards(0.5), "v2": {Counted.CLASS_LABELS: 9.0}}, Criterion.REWARD),
        ({"v1": {Counted.CLASS_LABELS: 9.0, Counted.REQUESTS: 100.0}}, Criterion.ACCURACY),
        ({"v2": {Counted.VALUE_LABELS: 9.0, Counted.REQUESTS: 100.0}}, Criterion.SQUARED_ERROR),
        ({"v1": {Counted.REQUESTS: 100.0}}, Criterion.ON_TIME),
        ({"v1": {Counted.FAILED: 1.0}}, Criterion.ON_TIME),
        ({"v3": rewards(0.5)}, None),
        ({}, None),
    ],
)
def test_feedback_comes_before_latency(seen: Evidence, expected: Criterion | None) -> None:
    assert criterion_of(seen, ["v1", "v2"]) is expected


def test_an_error_is_no_answer_on_time() -> None:
    seen: Evidence = {"v1": {Counted.REQUESTS: 80.0, Counted.ON_TIME: 60.0, Counted.FAILED: 20.0}}
    assert observations(seen, Criterion.ON_TIME, "v1") == 100
    assert estimate(seen, Criterion.ON_TIME, "v1") == 0.6
    assert estimate(seen, Criterion.ON_TIME, "v2") is None


def test_the_smaller_squared_error_wins() -> None:
    random = seeded()
    seen = {name: squared_errors(*random.normal(0, scale, 200)) for name, scale in (("v1", 2.0), ("v2", 1.0))}
    assert chances(seen, Criterion.SQUARED_ERROR, ["v1", "v2"], random)["v2"] > 0.99


@pytest.mark.parametrize("few", [(), (0.0,), (5.0,), (0.01, 0.02)])
def test_a_regression_with_few_labels_is_neither_written_off_nor_preferred_for_sure(few: tuple[float, ...]) -> None:
    seen = {"v1": squared_errors(*seeded().normal(0, 1, 1000)), "v2": squared_errors(*few)}
    assert 0.05 < chances(seen, Criterion.SQUARED_ERROR, ["v1", "v2"], seeded())["v2"] < 0.95


def test_regressions_without_any_error_are_equal() -> None:
    seen = {"v1": squared_errors(0, 0, 0), "v2": squared_errors(0, 0, 0)}
    assert chances(seen, Criterion.SQUARED_ERROR, ["v1", "v2"], seeded())["v2"] == pytest.approx(0.5, abs=0.05)


@given(seen=st.fixed_dictionaries({"v1": deviations(), "v2": deviations()}), exponent=st.integers(-60, 0))
def test_the_unit_of_a_regression_does_not_matter(seen: dict[str, Counts], exponent: int) -> None:
    if not any(counts[Counted.SQUARED_ERROR] for counts in seen.values()):
        return
    unit = 2.0**exponent
    scaled: Evidence = {
        name: {
            Counted.VALUE_LABELS: counts[Counted.VALUE_LABELS],
            Counted.SQUARED_ERROR: counts[Counted.SQUARED_ERROR] * unit,
            Counted.SQUARED_ERROR_SQUARED: counts[Counted.SQUARED_ERROR_SQUARED] * unit * unit,
        }
        for name, counts in seen.items()
    }
    found, again = (chances(each, Criterion.SQUARED_ERROR, ["v1", "v2"], seeded()) for each in (seen, scaled))
    # Where nothing varies, the variance is what rounding leaves of it.
    assert found == pytest.approx(again, abs=0.02)


def test_a_minute_weighs_half_for_each_half_life_since_it_ended() -> None:
    tallies = {
        (minute, Tally("v1", "production", Counted.REWARDS)): 1000.0 for minute in (0, 3_600 - 60, 7_200 - 60, 7_200)
    }
    assert decayed(tallies, "production", 7_200, 3_600) == {
        "v1": {Counted.REWARDS: 1000 * (2 + 0.5 + 2 ** -(7140 / 3600))}
    }


@pytest.mark.parametrize(("ahead_s", "weight"), [(0, 1.0), (3_600, 0.5), (36_000, 2.0**-10)])
def test_a_minute_of_before_the_clock_was_set_back_fades_as_well(ahead_s: int, weight: float) -> None:
    tallies = {(7_200 + ahead_s, Tally("v1", "production", Counted.REWARDS)): 1000.0}
    assert decayed(tallies, "production", 7_200, 3_600) == {"v1": {Counted.REWARDS: 1000 * weight}}


def test_evidence_is_of_one_environment_and_of_what_counts_for_all() -> None:
    tallies = {
        (0, Tally("v1", "production", Counted.REWARDS)): 1.0,
        (0, Tally("v1", "staging", Counted.REWARDS)): 10.0,
        (0, Tally("v1", "", Counted.REQUESTS)): 100.0,
    }
    assert decayed(tallies, "staging", 0, 60) == {"v1": {Counted.REWARDS: 10, Counted.REQUESTS: 100}}


class Simulation:
    """Traffic of two versions, 200 requests a minute, and an update every minute."""

    def __init__(self, settings: WeightedSettings, weights: tuple[float, float]) -> None:
        self.random = seeded(2024)
        self.settings = settings
        self.environment = environment(*weights)
        self.tallies: dict[tuple[int, Tally], float] = {}
        self.minute = 0

    def run(self, minutes: int, observe: Callable[[str, int], Mapping[str, float]]) -> Mapping[str, float]:
        """Shares after so many minutes; `observe` gives the counts that a version gets from a number of requests."""
        for _ in range(minutes):
            numbers = self.random.multinomial(200, list(self.environment.shares.values()))
            for version, number in zip(self.environment.shares, numbers, strict=True):
                for name, value in observe(version, int(number)).items():
                    self.tallies[self.minute, Tally(version, "production", name)] = value
            self.minute += 60
            evidence = decayed(self.tallies, "production", self.minute, self.settings.half_life_s)
            new = next_weights(self.environment, evidence, self.settings, self.random)
            self.environment = environment(*new.values()) if new else self.environment
        return self.environment.shares

    def converting(self, **chances: float) -> Callable[[str, int], Mapping[str, float]]:
        """Half of the answers get a reward, which is 1 with the version's chance and else 0."""

        def observe(version: str, number: int) -> Mapping[str, float]:
            rewarded = self.random.binomial(number, 0.5)
            converted = self.random.binomial(rewarded, chances[version])
            return {Counted.REWARDS: rewarded, Counted.REWARD_SUM: converted, Counted.REQUESTS: number}

        return observe

    def answering(self, **chances: float) -> Callable[[str, int], Mapping[str, float]]:
        """No feedback; answers are on time with the version's chance."""

        def observe(version: str, number: int) -> Mapping[str, float]:
            return {Counted.REQUESTS: number, Counted.ON_TIME: self.random.binomial(number, chances[version])}

        return observe


def test_the_version_that_converts_better_wins_and_the_other_keeps_the_minimum() -> None:
    simulation = Simulation(SETTINGS, (0.9, 0.1))
    shares = simulation.run(60, simulation.converting(v1=0.3, v2=0.5))
    assert shares["v2"] > 0.8
    assert shares["v1"] >= SETTINGS.min_share - 1e-9


def test_a_version_that_became_better_wins_later() -> None:
    simulation = Simulation(WeightedSettings(half_life_s=600), (0.5, 0.5))
    assert simulation.run(60, simulation.converting(v1=0.3, v2=0.5))["v2"] > 0.8
    shares = simulation.run(120, simulation.converting(v1=0.7, v2=0.5))
    assert shares["v1"] > 0.8
    assert shares["v2"] >= SETTINGS.min_share - 1e-9


def test_without_decay_to_speak_of_it_would_not_win_as_soon() -> None:
    simulation = Simulation(WeightedSettings(half_life_s=1e9), (0.5, 0.5))
    simulation.run(60, simulation.converting(v1=0.3, v2=0.5))
    assert simulation.run(20, simulation.converting(v1=0.7, v2=0.5))["v2"] > 0.8


def test_without_feedback_the_version_that_is_on_time_more_often_wins() -> None:
    simulation = Simulation(SETTINGS, (0.5, 0.5))
    assert simulation.run(60, simulation.answering(v1=0.99, v2=0.9))["v1"] > 0.8
