"""Guardrails: what is broken for sure, what was only seen beyond, and what is kept."""

import numpy as np
import pytest

from configuration.experiment_policy import ExperimentMetric, Guardrail
from shokado.experiments.experiment_evidence import StageEvidence, Sums, VersionEvidence
from shokado.experiments.guardrails import GuardrailState, guardrail_finding
from shokado.experiments.moments import ClusteredMoments, Moments

ERRORS = ExperimentMetric.ERROR_RATE
SHARES = {"v1": 0.5, "v2": 0.5}


def stage(metric: ExperimentMetric, candidate: Sums, control: Sums) -> StageEvidence:
    return StageEvidence(
        SHARES, {"v1": VersionEvidence(sums={metric: control}), "v2": VersionEvidence(sums={metric: candidate})}
    )


def state(guardrail: Guardrail, *stages: StageEvidence) -> GuardrailState:
    return guardrail_finding(guardrail, "v1", "v2", stages, 0.01).state


@pytest.mark.parametrize(
    ("errors", "requests", "expected"),
    [
        (0, 0, GuardrailState.KEPT),
        (1, 1000, GuardrailState.KEPT),
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
    both_bad = stage(ERRORS, Moments.of_events(400, 4000), Moments.of_events(390, 4000))
    worse = stage(ERRORS, Moments.of_events(400, 4000), Moments.of_events(100, 4000))
    assert state(guardrail, both_bad) is GuardrailState.KEPT
    assert state(guardrail, worse) is GuardrailState.BROKEN
    assert guardrail_finding(guardrail, "v1", "v2", [worse], 0.01).text == (
        "error_rate worse by 0.075, and surely by 0.05687, (at most 0.02)"
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
    one = guardrail_finding(Guardrail(metric=ERRORS, limit=0.01), "v1", "v2", [found], 0.01)
    both = guardrail_finding(Guardrail(metric=ERRORS, limit=0.01, margin=0.02), "v1", "v2", [found], 0.01)
    assert both.p_value == pytest.approx(2 * one.p_value)
    assert both.state is GuardrailState.BROKEN
    assert "at most 0.01" in both.text
    assert "worse by 0.001 (at most 0.02)" in both.text


def test_units_whose_requests_fail_together_are_counted_once() -> None:
    """Of 100 units with 50 requests each all of two fail: that is no proof of a rate above 1 %."""
    counts = np.full(100, 50.0)
    failed = np.zeros(100)
    failed[:2] = 50
    limit = Guardrail(metric=ERRORS, limit=0.01)
    clustered = ClusteredMoments.of_clusters(counts, failed)
    assert state(limit, stage(ERRORS, clustered, clustered)) is GuardrailState.BEYOND
    alike = Moments.of_events(100, 5000)
    assert state(limit, stage(ERRORS, alike, alike)) is GuardrailState.BROKEN


def test_a_guardrail_that_is_kept_is_broken_as_rarely_as_stated() -> None:
    """Just at its limit: of 400 candidates, with 5 %, more than 35 are one in 1,000 cases."""
    random = np.random.default_rng(7)
    guardrail, broken = Guardrail(metric=ERRORS, limit=0.02), 0
    for _ in range(400):
        errors = np.cumsum(random.binomial(100, 0.02, size=50))
        looks = (
            guardrail_finding(
                guardrail, "v1", "v2", [stage(ERRORS, Moments.of_events(seen, 100.0 * n), Moments(0, 0, 0))], 0.05
            )
            for n, seen in enumerate(errors.tolist(), 1)
        )
        broken += any(look.state is GuardrailState.BROKEN for look in looks)
    assert broken <= 35
