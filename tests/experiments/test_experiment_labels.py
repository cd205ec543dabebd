"""Labels and rewards for an experiment: which of them count, for what, and of which stage."""

from typing import Any

import pytest

from configuration.experiment_plan import ExperimentPlan
from configuration.experiment_policy import ExperimentMetric, Guardrail
from runners.artefacts.card import Card, Task
from shokado.dispatch.experiment import CountedStage, Experiment, ExperimentStage
from shokado.dispatch.reason import Reason
from shokado.dispatch.request import Origin
from shokado.experiments.feedback_collector import Feedback, FeedbackStatus, join
from shokado.experiments.prediction_id import PredictionIds
from shokado.stores.evidence import Evidence, Sighting
from tests.experiments.test_joining_feedback import BINARY, HOUR_S, NOW, REGRESSION, SECRET, SEVERAL
from tests.support.cards import toy_card
from tests.transports.predictions import prediction

SHARES = {"v1": 0.5, "v2": 0.5}
STAGES = (ExperimentStage(7, SHARES, is_sticky=False), ExperimentStage(12, SHARES, is_sticky=True))


def experiment(metric: ExperimentMetric, *others: ExperimentMetric) -> Experiment:
    rails = tuple(Guardrail(metric=other, margin=1) for other in others)
    plan = ExperimentPlan(metric=metric, smallest_effect=0.1, guardrails=rails, label_delay_s=60, max_duration_s=1000)
    return Experiment("e1", "v1", ("v2",), plan, NOW, STAGES)


def seen(
    under_way: Experiment,
    card: Card = BINARY,
    scores: Any = (0.9,),
    reason: Reason = Reason.SPLIT,
    generation: int = 9,
    age_s: float = 10,
    **entry: Any,
) -> tuple[Sighting, ...]:
    """What an accepted entry says for an experiment."""
    answered = prediction(card, list(scores))
    answered.origin = Origin("v1", "production", generation, card, CountedStage(under_way))
    answered.reason, answered.unit = reason, "user-17"
    ids = PredictionIds(SECRET, HOUR_S, clock=lambda: NOW - age_s)
    ruling = join(Feedback(ids.make(answered), **entry), ids.read, {"v1": card}, NOW, HOUR_S, {"production": under_way})
    assert ruling.status is FeedbackStatus.ACCEPTED, ruling.reason
    assert ruling.settlement is not None
    return tuple(ruling.settlement.sightings)


def values(sightings: tuple[Sighting, ...]) -> dict[str, float]:
    """The observation of each scope, which must be counted once with its square."""
    found = {}
    for one in sightings:
        count, total, squares = (of.name.rpartition(".")[2] for of in one.counts)
        assert (count, total, squares) == ("count", "sum", "squares")
        number, value, square = one.counts.values()
        assert (number, square) == (1, value**2)
        found[one.scope] = value
    return found


def test_a_label_in_time_counts_for_the_unit_and_the_stage_and_cohort_of_its_prediction() -> None:
    under_way = experiment(ExperimentMetric.ACCURACY)
    (one,) = seen(under_way, label=1)
    cohort = under_way.cohort_of(NOW - 10)
    assert one.counts == {
        Evidence(7, "v1", cohort, "accuracy.count"): 1,
        Evidence(7, "v1", cohort, "accuracy.sum"): 1,
        Evidence(7, "v1", cohort, "accuracy.squares"): 1,
    }
    assert (one.experiment, one.scope, one.unit) == (
        "e1",
        "labelled.accuracy",
        CountedStage(under_way).unit_bytes("user-17"),
    )
    (later,) = seen(under_way, label=0, generation=14)
    assert {of.stage for of in later.counts} == {12}
    assert values((later,)) == {"labelled.accuracy": 0}


@pytest.mark.parametrize(
    "given",
    [
        {"age_s": 61},
        {"generation": 6},
        {"reason": Reason.PINNED},
        {"reason": Reason.FALLBACK},
        {"label": None, "reward": 1},
    ],
    ids=["late", "before the experiment", "pinned", "fallback", "no label"],
)
def test_what_is_late_or_of_no_split_or_no_metric_counts_for_no_experiment(given: dict[str, Any]) -> None:
    assert seen(experiment(ExperimentMetric.ACCURACY), **{"label": 1} | given) == ()


@pytest.mark.parametrize(
    ("card", "scores", "label", "squared", "absolute"),
    [(REGRESSION, (3.0,), 5, 4.0, 2.0), (SEVERAL, ([1.0, 2.0],), [3, 1], 2.5, 1.5)],
)
def test_errors_of_values_count_by_each_metric_that_is_wanted(
    card: Card, scores: Any, label: Any, squared: float, absolute: float
) -> None:
    both = experiment(ExperimentMetric.SQUARED_ERROR, ExperimentMetric.ABSOLUTE_ERROR)
    found = values(seen(both, card, scores, label=label))
    assert found == {"labelled.squared_error": squared, "labelled.absolute_error": absolute}
    one = experiment(ExperimentMetric.ABSOLUTE_ERROR)
    assert values(seen(one, card, scores, label=label)) == {"labelled.absolute_error": absolute}


def test_a_reward_and_a_label_of_the_same_row_count_each() -> None:
    found = values(seen(experiment(ExperimentMetric.REWARD, ExperimentMetric.ACCURACY), label=0, reward=0.25))
    assert found == {"labelled.reward": 0.25, "labelled.accuracy": 0}


def test_a_reward_counts_whatever_the_model() -> None:
    card = toy_card(Task.MULTICLASS, ("a", "b", "c"))
    assert values(seen(experiment(ExperimentMetric.REWARD), card, ([0.1, 0.2, 0.7],), reward=1)) == {
        "labelled.reward": 1
    }
