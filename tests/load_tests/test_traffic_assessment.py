"""The assessment: what each threshold makes of what was seen, and the exit code."""

from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import pytest

from load_tests.traffic.answer import Answer
from load_tests.traffic.assessment import Assessment, Check, CheckResult, Conclusion, assess
from load_tests.traffic.counts import Counts
from load_tests.traffic.profile import Profile
from load_tests.traffic.routing import Generation, generations_of
from load_tests.traffic.run_report import Run, as_text, with_section
from shokado.client.answers import EnvironmentContent, HistoryEntry

RANDOM = Generation({"v1": 0.8, "v2": 0.2}, sticky=False)
HASH = replace(RANDOM, sticky=True)


def profile(**thresholds: object) -> Profile:
    return Profile.model_validate(
        {
            "about": "of a test",
            "stages": [{"seconds": 1, "rate": 5}],
            "users": {"single": 1},
            "thresholds": {"p99_ms": 100, **thresholds},
        }
    )


def seen(
    share: float = 0.2, *, answers: int = 5000, latency_s: float = 0.01, late_s: float = 0.001, generation: int = 1
) -> Counts:
    """As many answers, drawn by that share of v2."""
    counts, random = Counts(), Random(1)
    for _ in range(answers):
        version = "v2" if random.random() < share else "v1"
        counts.add_answer(0, latency_s, Answer(version, generation, "SPLIT"), None)
        counts.lateness.add(late_s)
    return counts


def units(generation: int, switching: int = 0) -> Counts:
    """A thousand units, of which some switch."""
    counts, random = Counts(), Random(2)
    for number in range(1000):
        version = "v2" if random.random() < 0.2 else "v1"
        for _ in range(3):
            counts.add_answer(0, 0.01, Answer(version, generation, "STICKY"), f"unit-{number}")
        if number < switching:
            other = {"v1": "v2", "v2": "v1"}[version]
            counts.add_answer(0, 0.01, Answer(other, generation, "STICKY"), f"unit-{number}")
    return counts


def line(assessment: Assessment, threshold: str) -> Check:
    (found,) = [check for check in assessment.checks if check.threshold == threshold]
    return found


def test_all_that_holds_is_held() -> None:
    assessment = assess(profile(), seen(), {1: RANDOM})

    assert assessment.conclusion is Conclusion.HELD
    assert assessment.words == "held: all thresholds"
    assert line(assessment, "stickiness").outcome is CheckResult.NOTHING


def test_a_slow_server_is_told_from_a_slow_generator() -> None:
    slow = assess(profile(), seen(latency_s=0.3), {1: RANDOM})
    late = assess(profile(), seen(latency_s=0.3, late_s=0.28), {1: RANDOM})

    assert (slow.conclusion, slow.words) == (Conclusion.NOT_HELD, "not held: accepted p99")
    assert late.conclusion is Conclusion.INCONCLUSIVE
    assert "sent up to" in line(late, "accepted p99").measured
    # A time that holds although requests left late would hold without that all the more.
    assert assess(profile(), seen(latency_s=0.09, late_s=0.08), {1: RANDOM}).conclusion is Conclusion.HELD


def test_a_bottleneck_is_inconclusive_but_does_not_excuse_what_it_cannot_cause() -> None:
    counts = seen()
    counts.doubt = "the generator is the bottleneck: it used 99 % of its processor"
    assessment = assess(profile(), counts, {1: RANDOM})

    assert assessment.conclusion is Conclusion.INCONCLUSIVE
    assert assessment.words == "inconclusive: the generator is the bottleneck: it used 99 % of its processor"
    counts.merge(units(2, switching=1))
    assert assess(profile(), counts, {1: RANDOM, 2: HASH}).conclusion is Conclusion.NOT_HELD


@pytest.mark.parametrize(
    ("limit", "outcome"), [(0, CheckResult.NOT_HELD), (0.009, CheckResult.NOT_HELD), (0.011, CheckResult.HELD)]
)
def test_errors_and_refusals_have_thresholds_of_their_own(limit: float, outcome: CheckResult) -> None:
    refused, failed = seen(answers=990), seen(answers=990)
    for _ in range(10):
        refused.add_refusal(0, 0.001)
        failed.fail(0, "status 500")

    assessment = assess(profile(refusal_rate=limit), refused, {1: RANDOM})
    assert line(assessment, "refusals with Retry-After").outcome is outcome
    assert line(assessment, "errors").outcome is CheckResult.HELD
    assessment = assess(profile(error_rate=limit), failed, {1: RANDOM})
    assert line(assessment, "errors").outcome is outcome
    assert line(assessment, "refusals with Retry-After").outcome is CheckResult.HELD


def test_fallbacks_have_one_too() -> None:
    counts = seen()
    counts.add_answer(0, 0.01, Answer("v1", 1, "FALLBACK"), None)

    assert assess(profile(), counts, {1: RANDOM}).words == "not held: fallbacks"
    assert assess(profile(fallback_rate=0.01), counts, {1: RANDOM}).conclusion is Conclusion.HELD


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.5, 1.0])
def test_a_right_split_holds_and_a_wrong_one_is_found(share: float) -> None:
    counts = seen(share)
    right = Generation({"v1": 1 - share, "v2": share}, sticky=False)
    wrong = Generation({"v1": 0.7, "v2": 0.3}, sticky=False)

    assert assess(profile(), counts, {1: right}).conclusion is Conclusion.HELD
    assert "split, generation 1: v2" in assess(profile(), counts, {1: wrong}).words


def test_each_generation_is_held_to_its_own_split() -> None:
    counts = seen(0.2)
    counts.merge(seen(0.5, generation=2))
    half = Generation({"v1": 0.5, "v2": 0.5}, sticky=False)

    assert assess(profile(), counts, {1: RANDOM, 2: half}).conclusion is Conclusion.HELD
    assert assess(profile(), counts, {1: half, 2: half}).conclusion is Conclusion.NOT_HELD
    assert "generation 2" in assess(profile(), counts, {1: RANDOM}).words


def test_one_answer_of_a_version_without_weight_is_one_too_many() -> None:
    counts = seen(0.0)
    only = {1: Generation({"v1": 1.0}, sticky=False)}
    assert assess(profile(), counts, only).conclusion is Conclusion.HELD
    counts.add_answer(0, 0.01, Answer("v3", 1, "SPLIT"), None)

    assert "split, generation 1: v3" in assess(profile(), counts, only).words


def test_where_units_stick_it_is_they_that_are_drawn() -> None:
    counts = units(1)
    # One unit that asks all the time makes no wrong split.
    for _ in range(20_000):
        counts.add_answer(0, 0.01, Answer(counts.units[1].versions["unit-7"], 1, "STICKY"), "unit-7")

    assessment = assess(profile(), counts, {1: HASH})
    assert assessment.conclusion is Conclusion.HELD
    assert "of 1,000)" in line(assessment, "units, generation 1: v2").measured
    # Where they do not stick, each answer is a draw.
    assert assess(profile(), counts, {1: RANDOM}).conclusion is Conclusion.NOT_HELD


def test_a_unit_that_switches_breaks_a_promise_only_where_there_is_one() -> None:
    counts = units(1, switching=1)

    assert assess(profile(), counts, {1: HASH}).words == "not held: stickiness"
    assert assess(profile(), counts, {1: RANDOM}).conclusion is Conclusion.HELD
    assert assess(profile(stickiness="always"), counts, {1: RANDOM}).words == "not held: stickiness"
    assert line(assess(profile(), units(1), {1: HASH}), "stickiness").measured == "0 of 1,000 units switched"


def test_what_nobody_told_is_inconclusive() -> None:
    assessment = assess(profile(), seen(), "the gateway does not show it")
    assert assessment.conclusion is Conclusion.INCONCLUSIVE
    assert assessment.words == "inconclusive: cannot be told: split; stickiness"
    assert line(assessment, "split").measured == "the gateway does not show it"

    silent = assess(profile(), Counts(), {1: RANDOM})
    assert silent.conclusion is Conclusion.INCONCLUSIVE
    assert line(silent, "accepted p99").outcome is CheckResult.UNKNOWN


def test_the_history_tells_shares_and_strategy() -> None:
    split = EnvironmentContent("v1", {}, {"v1": 0.5, "v2": 0.5}, "hash", enabled=True, salt="", shadow=None)
    entry = HistoryEntry(2, datetime.now(UTC), "me", "split", "", {"staging": split}, changed=None, versions=None)
    off = replace(split, shares={"v2": 1}, enabled=False)

    assert generations_of([replace(entry, generation=3, environments={"staging": off}), entry], "staging") == {
        3: Generation({"v1": 1.0}, sticky=True),
        2: Generation({"v1": 0.5, "v2": 0.5}, sticky=True),
    }


def test_the_report_says_all_of_it_and_trusts_no_text() -> None:
    counts = seen()
    counts.fail(0, "status 500: <script>")
    run = Run("mine", profile(), counts, assess(profile(), counts, {1: RANDOM}))
    page = with_section('<body><div id="root"></div></body>', run)

    assert as_text(run).endswith("mine: not held: errors")
    for words in ("of a test", "accepted p99", "at most 100 ms", "split, generation 1: v2", "not held"):
        assert words in as_text(run)
        assert words in page
    assert "<script>" not in page
    assert page.startswith("<body><section")
    assert page.endswith('</section><div id="root"></div></body>')
