"""Guardrails: what is broken for sure, what was only seen beyond, and what is kept."""

import numpy as np
import pytest

from configuration.experiment_policy import ExperimentMetric, Guardrail
from shokado.experiments.experiment_evidence import StageEvidence, Sums, VersionEvidence
from shokado.experiments.guardrail_state import GuardrailState
from shokado.experiments.guardrails import guardrail_finding
from shokado.experiments.moments import ClusteredMoments, Moments

ERRORS = ExperimentMetric.ERROR_RATE
SHARES = {"v1": 0.5, "v2": 0.5}


def stage(metric: ExperimentMetric, candidate: Sums, control: Sums) -> StageEvidence:
    return StageEvidence(
        SHARES, {"v1": VersionEvidence(sums={metric: control}), "v2": VersionEvidence(sums={metric: candidate})}
    )


def state(guardrail: Guardrail, *stages: StageEvidence) -> GuardrailState:
    return guardrail_finding(guardrail, "v1", "v2", stages, 0.01, 0.05).state


@pytest.mark.parametrize(
    ("errors", "requests", "expected"),
    [
        (0, 0, GuardrailState.UNKNOWN),
        (0, 1, GuardrailState.UNKNOWN),
        (0, 300, GuardrailState.UNKNOWN),
        (9, 1000, GuardrailState.UNKNOWN),
        (0, 1000, GuardrailState.KEPT),
        (1, 1000, GuardrailState.KEPT),
        (70, 10_000, GuardrailState.KEPT),
        (12, 1000, GuardrailState.BEYOND),
        (40, 1000, GuardrailState.BROKEN),
        (6, 6, GuardrailState.BROKEN),
    ],
)
def test_a_limit_is_broken_where_chance_does_not_explain_it(
    errors: int, requests: int, expected: GuardrailState
) -> None:
    found = stage(ERRORS, Moments.of_events(errors, requests), Moments.of_events(0, requests))
    assert state(Guardrail(metric=ERRORS, limit=0.01), found) is expected


def test_a_margin_is_to_the_control() -> None:
    guardrail = Guardrail(metric=ERRORS, margin=0.02)
    few = stage(ERRORS, Moments.of_events(400, 4000), Moments.of_events(390, 4000))
    both_bad = stage(ERRORS, Moments.of_events(1200, 12_000), Moments.of_events(1170, 12_000))
    worse = stage(ERRORS, Moments.of_events(400, 4000), Moments.of_events(100, 4000))
    assert state(guardrail, both_bad) is GuardrailState.KEPT
    assert state(guardrail, worse) is GuardrailState.BROKEN
    assert state(guardrail, few) is GuardrailState.UNKNOWN
    texts = [guardrail_finding(guardrail, "v1", "v2", [one], 0.01, 0.05).text for one in (worse, both_bad, few)]
    assert texts == [
        "error_rate worse by 0.075, and surely by 0.05687 (at most 0.02)",
        "error_rate worse by 0.0025, surely by less than 0.01364 (at most 0.02)",
        "error_rate worse by 0.0025, and perhaps by 0.02125 (at most 0.02)",
    ]


@pytest.mark.parametrize(("ours", "theirs"), [(0, 0), (400, 0), (0, 400)])
def test_what_was_not_compared_is_not_kept(ours: float, theirs: float) -> None:
    guardrail = Guardrail(metric=ERRORS, margin=0.9, limit=0.9)
    found = stage(ERRORS, Moments.of_events(0, ours), Moments.of_events(0, theirs))
    finding = guardrail_finding(guardrail, "v1", "v2", [found], 0.01, 0.05)
    assert finding.state is GuardrailState.UNKNOWN
    assert f"error_rate not compared yet: {ours} observations, and {theirs} of the control" in finding.text


def test_numbers_without_bounds_are_not_compared_by_a_few() -> None:
    guardrail = Guardrail(metric=ExperimentMetric.LATENCY, margin=5)

    def lasting(number: float) -> StageEvidence:
        ms = Moments(number, 20 * number, 500 * number)
        return stage(guardrail.metric, ms, ms)

    assert [state(guardrail, lasting(number)) for number in (900, 1100)] == [
        GuardrailState.UNKNOWN,
        GuardrailState.KEPT,
    ]
    assert guardrail_finding(guardrail, "v1", "v2", [lasting(900)], 0.01, 0.05).text == (
        "latency worse by 0 (at most 5)"
    )


def test_less_of_what_is_better_is_worse() -> None:
    guardrail = Guardrail(metric=ExperimentMetric.ACCURACY, margin=0.02)
    good, bad = Moments.of_events(3600, 4000), Moments.of_events(3000, 4000)
    assert state(guardrail, stage(guardrail.metric, bad, good)) is GuardrailState.BROKEN
    assert state(guardrail, stage(guardrail.metric, good, bad)) is GuardrailState.KEPT


def test_stages_are_compared_one_by_one() -> None:
    """More errors in both at night, when the candidate has most of the traffic, are not the candidate's."""
    day = stage(ERRORS, Moments.of_events(2, 1000), Moments.of_events(18, 9000))
    night = stage(ERRORS, Moments.of_events(900, 9000), Moments.of_events(100, 1000))
    assert state(Guardrail(metric=ERRORS, margin=0.02), day, night) is GuardrailState.KEPT
    assert state(Guardrail(metric=ERRORS, limit=0.02), day, night) is GuardrailState.BROKEN


def test_limit_and_margin_share_the_error_rate() -> None:
    found = stage(ERRORS, Moments.of_events(40, 1000), Moments.of_events(39, 1000))
    one = guardrail_finding(Guardrail(metric=ERRORS, limit=0.01), "v1", "v2", [found], 0.01, 0.05)
    both = guardrail_finding(Guardrail(metric=ERRORS, limit=0.01, margin=0.02), "v1", "v2", [found], 0.01, 0.05)
    assert both.p_value == pytest.approx(2 * one.p_value)
    assert both.state is GuardrailState.BROKEN
    assert "at most 0.01" in both.text
    assert "worse by 0.001, and perhaps by 0.02561 (at most 0.02)" in both.text


def test_units_whose_requests_fail_together_are_counted_once() -> None:
    """Of 100 units with 50 requests each all of two fail: that is no proof of a rate above 1 %."""
    counts = np.full(100, 50.0)
    failed = np.zeros(100)
    failed[:2] = 50
    limit = Guardrail(metric=ERRORS, limit=0.01)
    clustered = ClusteredMoments.of_clusters(counts, failed)
    assert state(limit, stage(ERRORS, clustered, clustered)) is GuardrailState.BEYOND
    high = Guardrail(metric=ERRORS, limit=0.02)
    assert state(high, stage(ERRORS, clustered, clustered)) is GuardrailState.UNKNOWN
    alike = Moments.of_events(100, 5000)
    assert state(limit, stage(ERRORS, alike, alike)) is GuardrailState.BROKEN
    assert state(high, stage(ERRORS, Moments.of_events(50, 5000), alike)) is GuardrailState.KEPT
    failed[:2] = 5
    rarely = ClusteredMoments.of_clusters(counts, failed)
    assert state(high, stage(ERRORS, rarely, rarely)) is GuardrailState.KEPT


def test_a_guardrail_that_is_kept_is_broken_as_rarely_as_stated() -> None:
    """Just at its limit: of 400 candidates, with 5 %, more than 35 are one in 1,000 cases."""
    random = np.random.default_rng(7)
    guardrail, broken = Guardrail(metric=ERRORS, limit=0.02), 0
    for _ in range(400):
        errors = np.cumsum(random.binomial(100, 0.02, size=50))
        looks = (
            guardrail_finding(
                guardrail, "v1", "v2", [stage(ERRORS, Moments.of_events(seen, 100.0 * n), Moments(0, 0, 0))], 0.05, 0.05
            )
            for n, seen in enumerate(errors.tolist(), 1)
        )
        broken += any(look.state is GuardrailState.BROKEN for look in looks)
    assert broken <= 35


def test_a_guardrail_that_is_not_kept_is_found_kept_as_rarely_as_stated() -> None:
    """Just beyond limit and margin: of 150 candidates, with 5 %, more than 17 are one in 1,000 cases."""
    random = np.random.default_rng(8)
    guardrail, rates = Guardrail(metric=ERRORS, limit=0.12, margin=0.02), (0.12, 0.1)
    found = 0
    for _ in range(150):
        errors = np.cumsum(random.binomial(500, rates, size=(20, 2)), axis=0)
        looks = (
            stage(ERRORS, Moments.of_events(ours, 500 * n), Moments.of_events(theirs, 500 * n))
            for n, (ours, theirs) in enumerate(errors.tolist(), 1)
        )
        found += any(state(guardrail, look) is GuardrailState.KEPT for look in looks)
    assert found <= 17
