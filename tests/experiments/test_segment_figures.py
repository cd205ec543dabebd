"""Figures by segment: the numbers of fairlearn for the same rows, and intervals that keep what they promise."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from configuration.segment_settings import SegmentSettings
from runners.artefacts.card import Card, Task
from runners.artefacts.scores import UnfitLabel, is_right
from shokado.experiments.feedback_collector import Feedback, FeedbackStatus, Ruling, join
from shokado.experiments.prediction_id import PredictionIds
from shokado.experiments.proportions import hoeffding_interval
from shokado.experiments.row_levels import FeatureLevels
from shokado.experiments.segment_counts import Segmenting
from shokado.experiments.segment_figures import RateSpread, SegmentRate, SegmentReport, SpreadVerdict, segment_report
from tests.support.cards import make_card
from tests.support.fairlearn_rates import agrees, fairlearn, needs_fairlearn
from tests.transports.predictions import prediction

SECRET = bytes(range(32))
NOW = 1_790_000_000.0
FEATURES = {"sex": {"levels": ["f", "m", "x"]}, "width": {"cuts": [1]}}
SEGMENTING = Segmenting(SegmentSettings.model_validate({"features": FEATURES}))
SEX = FeatureLevels("sex", ("f", "m", "x"))
BINARY = make_card()


def as_json(report: SegmentReport) -> Any:
    return {
        "levels": [
            {"level": one.level, "rates": {rate: {"value": of.value} for rate, of in one.rates.items()}}
            for one in report.levels
        ],
        "spreads": {name: {"difference": of.difference, "ratio": of.ratio} for name, of in report.spreads.items()},
    }


def ruled(card: Card, scores: Any, **entry: Any) -> Ruling:
    ids = PredictionIds(SECRET, 3600.0, clock=lambda: NOW, levels=SEGMENTING.of)
    answered = prediction(card, scores)
    answered.rows = bytes(8 * len(scores))
    feedback = Feedback(ids.make(answered), **entry)
    return join(feedback, ids.read, {"v1": card}, NOW, 3600.0, segmenting=SEGMENTING)


def sums_of(rulings: list[Ruling], key: str = SEX.key) -> dict[tuple[str, str], float]:
    sums: defaultdict[tuple[str, str], float] = defaultdict(float)
    for ruling in rulings:
        assert ruling.status is FeedbackStatus.ACCEPTED, ruling.reason
        assert ruling.settlement is not None
        for of, number in ruling.settlement.levels.items():
            if of.feature == key:
                sums[of.level, of.name] += number
    return dict(sums)


def drawn(number: int, seed: int = 0) -> tuple[list[str], list[float], list[int]]:
    """Groups, scores and labels: the three groups differ in all rates."""
    random = np.random.default_rng(seed)
    groups = random.choice(["f", "m", "x"], number, p=[0.5, 0.4, 0.1]).tolist()
    base = np.array([{"f": 0.3, "m": 0.6, "x": 0.5}[group] for group in groups])
    labels = (random.random(number) < base).astype(int)
    scores = np.clip(0.5 * base + 0.4 * labels + random.normal(0, 0.2, number), 0.01, 0.99)
    return groups, scores.astype(np.float32).tolist(), labels.tolist()


@needs_fairlearn
@pytest.mark.parametrize("number", [80, 400])
def test_the_numbers_are_those_of_fairlearn(number: int) -> None:
    groups, scores, labels = drawn(number, seed=number)
    rulings = [
        ruled(BINARY, [score], label=label, segments={"sex": group})
        for group, score, label in zip(groups, scores, labels, strict=True)
    ]
    report = segment_report(BINARY, SEX, sums_of(rulings), 0.1)
    predicted = [int(score >= BINARY.positive_from) for score in scores]
    agrees(as_json(report), fairlearn(labels, predicted, groups))


def test_rows_know_their_levels_and_feedback_tells_others() -> None:
    """All rows have the width 0."""
    ruling = ruled(BINARY, [0.9, 0.2], index=1, label=1, segments={"sex": "m"})
    assert ruling.settlement is not None
    found = {(of.feature.partition("@")[0], of.level, of.name): n for of, n in ruling.settlement.levels.items()}
    assert found == {
        (feature, level, name): number
        for feature, level in (("width", "below 1"), ("sex", "m"))
        for name, number in {
            "feedback": 1, "class_labels": 1, "correct": 0, "positives": 1, "selected": 0, "true_positives": 0,
            "probability": pytest.approx(0.2),
        }.items()
    }  # fmt: skip


@pytest.mark.parametrize(
    ("segments", "words"),
    [
        ({"height": 1}, "segments has 'height', of which no levels are set up; segments.features has sex, width"),
        ({"width": 1}, "segments has 'width', which version v1 has in its rows: leave it out"),
    ],
)
def test_levels_that_feedback_cannot_say_are_refused(segments: Any, words: str) -> None:
    ruling = ruled(BINARY, [0.9], label=1, segments=segments)
    assert (ruling.status, ruling.reason, ruling.settlement) == (FeedbackStatus.INVALID, words, None)


def test_rewards_count_for_rows_without_labels() -> None:
    sums = sums_of([ruled(BINARY, [0.9], reward=0.25, segments={"sex": "f"}) for _ in range(4)])
    report = segment_report(BINARY, SEX, sums, 0.1)
    (level,) = report.levels
    assert (level.level, level.feedback, level.labels) == ("f", 4, 0)
    assert level.rates[SegmentRate.CONVERSION].value == 0.25
    assert level.rates[SegmentRate.ACCURACY].value is None
    assert report.unseen == ["m", "x"]


def test_calibration_is_what_came_less_what_was_predicted() -> None:
    rulings = [ruled(BINARY, [0.75], label=label, segments={"sex": "f"}) for label in (1, 0, 0, 0)]
    rate = segment_report(BINARY, SEX, sums_of(rulings), 0.1).levels[0].rates[SegmentRate.CALIBRATION_GAP]
    assert (rate.value, rate.observations) == (-0.5, 4)
    assert rate.low is not None
    assert rate.high is not None
    assert -0.75 <= rate.low < -0.5 < rate.high <= 0.25


def test_errors_of_a_regression_have_their_direction() -> None:
    card = make_card(Task.REGRESSION)
    random = np.random.default_rng(1)
    labels = {"f": random.normal(3, 1, 500), "m": random.normal(5, 1, 150), "x": np.full(99, 4.0)}
    rulings = [
        ruled(card, [4.0], label=float(label), segments={"sex": sex}) for sex, some in labels.items() for label in some
    ]
    report = segment_report(card, SEX, sums_of(rulings), 0.5)
    found = {one.level: one.rates for one in report.levels}
    for level, some in labels.items():
        assert found[level][SegmentRate.MEAN_ERROR].value == pytest.approx(4 - np.mean(some))
        assert found[level][SegmentRate.MEAN_SQUARED_ERROR].value == pytest.approx(np.mean((4 - some) ** 2))
    assert found["f"][SegmentRate.MEAN_ERROR].low == pytest.approx(1, abs=0.3)
    assert found["x"][SegmentRate.MEAN_ERROR].low is None, "too few, and they do not vary"
    spread = report.spreads["mean_error"]
    assert (spread.lowest, spread.highest, spread.verdict) == ("m", "f", SpreadVerdict.BEYOND)
    assert (spread.ratio, spread.difference_high) == (None, None)


def test_of_several_classes_there_is_no_selection() -> None:
    card = make_card(Task.MULTICLASS, examples={"rows": [[1.0, 2.0]], "scores": [[0.2, 0.3, 0.5]]})
    rulings = [ruled(card, [[0.1, 0.2, 0.7]], label=label, segments={"sex": "f"}) for label in ("high", "low")]
    report = segment_report(card, SEX, sums_of(rulings), 0.1)
    assert {rate: one.value for rate, one in report.levels[0].rates.items()} == {"accuracy": 0.5, "conversion": None}
    assert report.spreads.keys() == {"accuracy", "conversion"}


def counts(selected: int, rows: int) -> dict[str, float]:
    return {"feedback": rows, "class_labels": rows, "selected": selected}


def parity(**levels: dict[str, float]) -> RateSpread:
    sums = {(level, name): float(number) for level, of in levels.items() for name, number in of.items()}
    return segment_report(BINARY, SEX, sums, 0.1).spreads["demographic_parity"]


def test_a_small_group_is_never_said_to_be_alike() -> None:
    large = counts(50_000, 100_000)
    assert parity(f=large, m=large).verdict is SpreadVerdict.WITHIN
    assert parity(f=large, m=large, x=counts(5, 10)).verdict is SpreadVerdict.UNKNOWN
    assert parity(f=large, m=large, x=counts(0, 0) | {"feedback": 1}).verdict is SpreadVerdict.UNKNOWN
    assert parity(f=large).verdict is SpreadVerdict.UNKNOWN, "there is nobody to compare with"


def test_a_difference_that_is_sure_is_said() -> None:
    spread = parity(f=counts(5000, 10_000), m=counts(3000, 10_000), x=counts(1, 3))
    assert (spread.verdict, spread.lowest, spread.highest) == (SpreadVerdict.BEYOND, "m", "f")
    assert spread.difference == pytest.approx(0.2)
    assert spread.ratio == pytest.approx(0.6)


def test_nobody_selected_has_no_ratio() -> None:
    spread = parity(f=counts(0, 100), m=counts(0, 100))
    assert (spread.difference, spread.ratio, spread.ratio_high) == (0, None, 1)


def test_equalized_odds_are_the_worse_of_both_rates() -> None:
    def level(true: int, false: int) -> dict[str, float]:
        return {"feedback": 2000, "class_labels": 2000, "positives": 1000, "selected": true + false,
                "true_positives": true}  # fmt: skip

    sums = {
        (name, of): float(n) for name, one in (("f", level(900, 100)), ("m", level(800, 500))) for of, n in one.items()
    }
    spreads = segment_report(BINARY, SEX, sums, 0.1).spreads
    assert spreads["true_positive_rate"].difference == pytest.approx(0.1)
    assert spreads["equalized_odds"].difference == pytest.approx(0.4)
    assert (spreads["equalized_odds"].lowest, spreads["equalized_odds"].highest) == ("f", "m")
    assert spreads["equalized_odds"].ratio == pytest.approx(0.2)
    assert spreads["equalized_odds"].verdict is SpreadVerdict.BEYOND


@pytest.mark.parametrize(("rate", "number"), [(0.5, 10), (0.05, 40), (0.9, 500)])
def test_an_interval_misses_as_rarely_as_it_says(rate: float, number: int) -> None:
    """Exactly: the chance of each count times whether its interval has the rate."""
    from scipy.stats import binom

    missed = 0.0
    for count in range(number + 1):
        low, high = hoeffding_interval(count / number, number, 0.05)
        missed += binom.pmf(count, number, rate) * (not low <= rate <= high)
    assert missed <= 0.05


def test_all_intervals_of_an_answer_hold_together() -> None:
    """Two groups that are alike, and a small one: none of a hundred answers says that they differ by chance."""
    random = np.random.default_rng(5)
    beyond = missed = 0
    for _ in range(100):
        sums: dict[tuple[str, str], float] = {}
        for level, rows in (("f", 300), ("m", 100), ("x", 8)):
            selected = int(random.binomial(rows, 0.4))
            sums |= {(level, name): float(n) for name, n in counts(selected, rows).items()}
        report = segment_report(BINARY, SEX, sums, 0.001)
        rates = [level.rates[SegmentRate.SELECTION_RATE] for level in report.levels]
        missed += not all(
            rate.low <= 0.4 <= rate.high for rate in rates if rate.low is not None and rate.high is not None
        )
        beyond += report.spreads["demographic_parity"].verdict is SpreadVerdict.BEYOND
    assert (missed, beyond) == (0, 0)


def test_labels_that_do_not_fit_count_nowhere() -> None:
    ruling = ruled(BINARY, [0.9], label=7, segments={"sex": "f"})
    assert (ruling.status, ruling.settlement) == (FeedbackStatus.INVALID, None)
    with pytest.raises(UnfitLabel):
        is_right(BINARY, (0.9,), 7)
