"""Estimates from a log: of a world whose truth is known, and what makes one impossible."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configuration.experiment_policy import ExperimentMetric
from configuration.log_settings import LogSettings
from configuration.settings import Strategy, WeightedSettings
from runners.artefacts.card import Card, Task
from shokado.dispatch.state import Environment
from shokado.experiments.figures import Counted
from shokado.experiments.thompson import next_weights
from shokado.lifecycle.estimating.estimate_report import EstimateReport, NoEstimate, estimate_of
from shokado.lifecycle.estimating.logged_outcomes import OutcomeOrder
from shokado.request_log.log_writer import LogWriter
from shokado.request_log.records import LoggedFeedback, LoggedRequest, LoggedRequests, encode
from tests.support.cards import make_card

CARDS = {version: make_card(version=version) for version in ("v1", "v2", "v3")}
SHARES = {"v1": 0.75, "v2": 0.25}
HOUR_S = 3600.0


class World:
    """Answers requests an hour after the other, and writes them as a worker does."""

    def __init__(self, folder: Path, cards: Mapping[str, Card] = CARDS, begin: float = 0.0) -> None:
        self.folder = folder
        self._cards = cards
        self._writer = LogWriter(LogSettings(share=1), folder, "w", bytes(32))
        self._written = 0
        self._hour = 0
        self._begin = begin

    def hour(
        self,
        shares: Mapping[str, float],
        said: Mapping[str, Sequence[float | None]],
        *,
        reason: str = "SPLIT",
        units: Mapping[str, Sequence[str]] | None = None,
        rows: int = 1,
        environment: str = "production",
        labels: bool = False,
        rewards: bool = False,
        delay_s: float = 1.0,
    ) -> None:
        """A request for each thing that is said later, by the version that answered; nothing is said of None."""
        self._hour += 1
        at = self._begin + self._hour * HOUR_S
        records: list[bytes] = []
        for version, values in said.items():
            if not values:
                continue
            ids = [f"p-{self._written + number}" for number in range(len(values))]
            self._written += len(values)
            named = units[version] if units is not None else ids
            number, total = list(self._cards).index(version), rows * len(values)
            records.append(
                encode(
                    LoggedRequests(
                        number,
                        at,
                        environment,
                        self._hour,
                        [
                            LoggedRequest(one, one, unit, reason, 0.01, rows)
                            for one, unit in zip(ids, named, strict=True)
                        ],
                        bytes(8 * total),
                        np.full(total, 0.75, "<f4").tobytes(),
                        shares=shares,
                    )
                )
            )
            for one, value in zip(ids, values, strict=True):
                if value is not None:
                    label = str(int(value)) if labels else None
                    reward = value if rewards or not labels else None
                    records += [
                        encode(LoggedFeedback(at + delay_s, one, at_row, label, reward)) for at_row in range(rows)
                    ]
        self._writer.write(records, dict(enumerate(self._cards.values())))

    def estimate(
        self, version: str = "v2", against: str | None = None, smallest_effect: float = 0.05, **order: Any
    ) -> EstimateReport:
        self._writer.end_segment()
        given: dict[str, Any] = {"metric": ExperimentMetric.REWARD, "since": 0.0, "until": 1e9} | order
        return estimate_of(self.folder, OutcomeOrder(**given), version, against, 0.95, smallest_effect)


def events(good: int, number: int) -> Sequence[float]:
    return [1.0] * good + [0.0] * (number - good)


def coins(random: np.random.Generator, rate: float, number: int) -> Sequence[float]:
    return [float(one < rate) for one in random.random(number)]


def followed(folder: Path, random: np.random.Generator) -> World:
    """A bandit by the strategy itself, over twelve hours: all versions do better in the second half, when the better
    one has most of the traffic. It earns 0.1 more at any time: 0.55 of all requests, and the other one 0.45.
    """
    world, settings = World(folder), WeightedSettings(min_share=0.1, max_step=0.1, min_change=0)
    split = Environment("production", "v1", {"v1": 0.8, "v2": 0.2}, Strategy.WEIGHTED)
    earned: dict[str, dict[str, float]] = {version: dict.fromkeys(Counted, 0.0) for version in ("v1", "v2")}
    for hour in range(12):
        dealt = random.random(250) < split.shares["v2"]
        rates = {"v1": 0.3 if hour < 6 else 0.6, "v2": 0.4 if hour < 6 else 0.7}
        said = {
            version: coins(random, rate, int((dealt if version == "v2" else ~dealt).sum()))
            for version, rate in rates.items()
        }
        world.hour(dict(split.shares), said)
        for version, values in said.items():
            earned[version][Counted.REWARDS] += len(values)
            earned[version][Counted.REWARD_SUM] += sum(values)
        weights = next_weights(split, earned, settings, random)
        split = Environment("production", "v1", weights, Strategy.WEIGHTED) if weights else split
    return world


@pytest.mark.slow
def test_a_bandit_s_log_tells_what_one_version_had_earned(tmp_path: Path) -> None:
    """Of 200 worlds 10 may be missed; 0 were, and 198 by the plain means with ordinary intervals of 95 %."""
    missed = missed_difference = plainly_missed = 0
    excess = []
    for seed in range(200):
        found = followed(tmp_path / str(seed), np.random.default_rng(seed)).estimate("v2", "v1")
        assert found.is_told
        assert found.instead is not None
        low, high = found.had_served.low or 0, found.had_served.high or 0
        assert high - low < 0.15
        missed += not low <= 0.55 <= high
        missed_difference += not (found.instead.low or 0) <= 0.1 <= (found.instead.high or 0)
        half = 1.96 * np.sqrt(found.plain_mean * (1 - found.plain_mean) / found.own_observations)
        plainly_missed += abs(found.plain_mean - 0.55) > half
        excess.append((found.plain_mean - 0.55, found.had_served.value - 0.55))
    assert missed <= 10
    assert missed_difference <= 10
    assert plainly_missed > 150
    plain, weighed = np.mean(excess, axis=0)
    assert plain > 0.03
    assert abs(weighed) < 0.01


def test_figures_by_hand(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.hour(SHARES, {"v1": events(300, 750), "v2": events(50, 250)})
    world.hour({"v1": 0.5, "v2": 0.5}, {"v1": events(300, 500), "v2": events(300, 500)})
    found = world.estimate("v2", "v1")
    assert found.had_served.value == pytest.approx((50 / 0.25 + 300 / 0.5) / 2000)
    assert found.instead is not None
    assert found.instead.value == pytest.approx(0.4 - (300 / 0.75 + 300 / 0.5) / 2000)
    assert (found.plain_mean, found.served_mean) == (350 / 750, 950 / 2000)
    assert (found.requests, found.observations, found.own_observations) == (2000, 2000, 750)
    assert (found.generations, found.smallest_share, found.environment) == (2, 0.25, "production")
    assert (found.since, found.until) == ("1970-01-01T01:00:00+00:00", "1970-01-01T02:00:00+00:00")
    assert (found.left_out, found.notes) == ({}, [])


def test_what_was_not_dealt_out_is_left_out_and_told(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.hour(SHARES, {"v1": events(300, 750), "v2": events(100, 250)})
    world.hour(SHARES, {"v2": events(40, 40)}, reason="PINNED")
    world.hour(SHARES, {"v1": events(7, 7)}, reason="FALLBACK")
    world.hour({}, {"v2": events(5, 5)})
    found = world.estimate()
    assert found.had_served.value == 0.4
    assert sum(found.left_out.values()) == 52
    assert {number for reason, number in found.left_out.items() if reason.startswith("not dealt out")} == {47}


def test_accuracy_is_of_labels_and_of_all_rows_of_a_request(tmp_path: Path) -> None:
    world = World(tmp_path)
    # Scores of 0.75 are the class 1.
    world.hour(SHARES, {"v1": events(300, 750), "v2": events(100, 250)}, labels=True, rows=3)
    found = world.estimate(metric=ExperimentMetric.ACCURACY)
    assert found.had_served.value == pytest.approx(0.4)
    assert (found.observations, found.own_observations) == (3000, 750)
    one_row = World(tmp_path / "one")
    one_row.hour(SHARES, {"v1": events(300, 750), "v2": events(100, 250)}, labels=True)
    alone = one_row.estimate(metric=ExperimentMetric.ACCURACY)
    # Rows of a request that are all right or all wrong say no more than one.
    assert found.had_served.high == pytest.approx(alone.had_served.high or 0, abs=0.02)
    with pytest.raises(NoEstimate, match="no answer of the window has feedback for squared_error; 3,000 are left out"):
        world.estimate(metric=ExperimentMetric.SQUARED_ERROR)


def test_squared_errors_are_of_values(tmp_path: Path) -> None:
    cards = {version: make_card(Task.REGRESSION, version=version) for version in ("v1", "v2")}
    world = World(tmp_path, cards)
    said: list[float | None] = [float(at % 3) for at in range(1500)]
    world.hour({"v1": 0.5, "v2": 0.5}, {"v1": said, "v2": said}, labels=True)
    found = world.estimate(metric=ExperimentMetric.SQUARED_ERROR)
    assert found.had_served.value == pytest.approx(np.mean([(at - 0.75) ** 2 for at in range(3)]))
    assert found.is_told


def test_a_unit_of_a_hash_split_is_one_draw(tmp_path: Path) -> None:
    """Of 300 units that ask ten times each: as uncertain as 300 requests, and not as 3,000."""
    random = np.random.default_rng(3)
    units = {"v1": [f"a{n}" for n in range(900)], "v2": [f"b{n}" for n in range(300)]}
    rates = {version: random.random(len(names)) < 0.4 for version, names in units.items()}
    sticky, split = World(tmp_path / "sticky"), World(tmp_path / "split")
    for _ in range(10):
        said = {version: rate.astype(float).tolist() for version, rate in rates.items()}
        sticky.hour(SHARES, said, reason="STICKY", units=units)
        split.hour(SHARES, said)
    by_unit, by_request = sticky.estimate(), split.estimate()
    assert by_unit.had_served.value == pytest.approx(by_request.had_served.value)
    width, other = (one.had_served.high - one.had_served.low for one in (by_unit, by_request))  # type: ignore[operator]
    assert width > 2.5 * other
    nameless = World(tmp_path / "nameless")
    nameless.hour(SHARES, {"v1": events(300, 750)}, reason="STICKY", units={"v1": [""] * 750})
    with pytest.raises(NoEstimate, match="750 are left out, of units that the log does not have"):
        nameless.estimate()


def test_a_time_without_a_share_is_named(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.hour({"v1": 1.0}, {"v1": events(50, 100)})
    world.hour(SHARES, {"v1": events(300, 750), "v2": events(100, 250)})
    with pytest.raises(NoEstimate) as refused:
        world.estimate()
    assert str(refused.value) == (
        "v2 had no share in generation 1, 1970-01-01T01:00:00+00:00 to 1970-01-01T01:00:00+00:00, of which 100 "
        "requests are, so nobody knows how it had done then: choose a window without it by --since and --until"
    )
    assert world.estimate(since=1.5 * HOUR_S).had_served.value == 0.4
    assert world.estimate("v1").requests == 1100
    with pytest.raises(NoEstimate, match="v3 had no share of the traffic in the window; v1, v2 had"):
        world.estimate("v3")


def test_a_log_that_lacks_requests_of_one_version_is_not_believed(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.hour(SHARES, {"v1": events(300, 750), "v2": events(90, 120)})
    with pytest.raises(
        NoEstimate, match=r"v1 750 instead of 652, v2 120 instead of 218; p = .*shokado_log_dropped_rows"
    ):
        world.estimate()


def test_feedback_that_comes_for_one_version_alone_is_not_believed(tmp_path: Path) -> None:
    world = World(tmp_path)
    told = events(100, 250)
    world.hour(SHARES, {"v1": events(300, 750), "v2": [value or None for value in told]})
    with pytest.raises(NoEstimate, match="feedback did not come alike for all versions"):
        world.estimate()


def test_feedback_that_comes_late_does_not_count_where_a_delay_is_given(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.hour(SHARES, {"v1": events(300, 750), "v2": events(100, 250)}, delay_s=60)
    world.hour(SHARES, {"v1": events(750, 750), "v2": events(250, 250)}, delay_s=900)
    world.hour(SHARES, {"v1": events(750, 750), "v2": events(250, 250)}, delay_s=60)
    found = world.estimate(label_delay_s=600.0, until=3 * HOUR_S + 100)
    assert found.had_served.value == 0.4
    assert found.left_out == {"too young for their labels": 1000}
    assert world.estimate().had_served.value > 0.7


def test_an_environment_is_named_where_there_are_several(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.hour(SHARES, {"v1": events(300, 750), "v2": events(100, 250)})
    world.hour({"v1": 0.5, "v2": 0.5}, {"v1": events(250, 500), "v2": events(400, 500)}, environment="staging")
    with pytest.raises(NoEstimate, match="several environments: production, staging; name one with --environment"):
        world.estimate()
    assert world.estimate(environment="staging").had_served.value == 0.8
    with pytest.raises(NoEstimate, match="no request of the window was dealt out at random"):
        world.estimate(environment="moon")


def test_too_little_is_no_interval(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.hour(SHARES, {"v1": events(30, 75), "v2": events(10, 25)})
    found = world.estimate()
    assert not found.is_told
    assert (found.had_served.value, found.had_served.low, found.had_served.high) == (0.4, None, None)


def test_another_model_under_the_same_name_is_told(tmp_path: Path) -> None:
    cards = {"v1": CARDS["v1"], "v2": CARDS["v2"], "again": make_card(Task.REGRESSION, version="v2")}
    world = World(tmp_path, cards)
    world.hour(SHARES, {"v1": events(300, 750), "v2": events(100, 250)})
    world.hour(SHARES, {"v1": events(300, 750), "again": events(100, 250)})
    assert world.estimate().notes == ["v2 was 2 imports in the window, which are taken for one"]
