"""The told verdict: a yes only of the experiment that is asked for, and only as it ended."""

from dataclasses import replace

import pytest

from configuration.experiment_plan import ExperimentPlan
from configuration.experiment_policy import ExperimentMetric
from shokado.dispatch.experiment import Experiment, ExperimentConclusion, ExperimentStage, Result
from shokado.dispatch.state import Environment
from shokado.dispatch.told_verdict import MAX_AGE_S, VerdictQuestion, VerdictWord, told_verdict

NOW = 1_790_000_000.0
PLAN = ExperimentPlan(metric=ExperimentMetric.REWARD, smallest_effect=0.1)
STAGES = (ExperimentStage(2, {"v1": 0.4, "v2": 0.3, "v3": 0.3}, is_sticky=True),)
RUNNING = Experiment("e1", "v1", ("v2", "v3"), PLAN, NOW - 5000, STAGES)
ANY = VerdictQuestion()


def ended(result: Result, ago_s: float = 0) -> Experiment:
    winner = "v2" if result is Result.PROMOTE else None
    return replace(RUNNING, conclusion=ExperimentConclusion(NOW - ago_s, result, "because", winner))


def told(experiment: Experiment | None, question: VerdictQuestion = ANY) -> VerdictWord:
    environment = Environment("production", "v1", {"v1": 1}, experiment=experiment)
    return told_verdict(environment, question, NOW).word


def test_what_is_stored_is_told() -> None:
    assert told(None) is VerdictWord.NONE
    assert told(RUNNING) is VerdictWord.RUNNING
    assert [told(ended(result)).value for result in Result] == list(Result)


def test_every_end_has_a_word() -> None:
    assert {word.value for word in VerdictWord} == {"NONE", "RUNNING", "PASSED_OVER", *Result}


@pytest.mark.parametrize("result", Result)
def test_one_that_ended_too_long_ago_is_told_to_who_names_it_alone(result: Result) -> None:
    word = VerdictWord(result.value)
    assert told(ended(result, MAX_AGE_S)) is word
    assert told(ended(result, MAX_AGE_S + 1)) is VerdictWord.NONE
    assert told(ended(result, MAX_AGE_S + 1), VerdictQuestion(experiment="e1")) is word
    assert told(ended(result, 1), VerdictQuestion(max_age_s=0)) is VerdictWord.NONE


@pytest.mark.parametrize("experiment", [RUNNING, *map(ended, Result)], ids=lambda one: str(one.conclusion))
def test_another_experiment_or_version_is_none(experiment: Experiment) -> None:
    for question in (VerdictQuestion(experiment="e0"), VerdictQuestion("v9"), VerdictQuestion("v1")):
        assert told(experiment, question) is VerdictWord.NONE


def test_the_winner_alone_is_promoted_and_all_are_rolled_back() -> None:
    assert told(ended(Result.PROMOTE), VerdictQuestion("v2")) is VerdictWord.PROMOTE
    assert told(ended(Result.PROMOTE), VerdictQuestion("v3")) is VerdictWord.PASSED_OVER
    for candidate in ("v2", "v3"):
        assert told(ended(Result.ROLLBACK), VerdictQuestion(candidate)) is VerdictWord.ROLLBACK
