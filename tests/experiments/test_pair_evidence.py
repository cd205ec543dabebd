"""Evidence of pairs: what a label and the shadow's scores of its request are worth together."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from configuration.experiment_plan import ExperimentPlan
from configuration.experiment_policy import ExperimentDesign, ExperimentMetric
from runners.artefacts.card import Card
from runners.artefacts.scores import answers_of
from shokado.dispatch.experiment import CountedStage, Experiment, ExperimentStage
from shokado.dispatch.reason import Reason
from shokado.dispatch.request import Origin
from shokado.experiments.feedback_collector import Feedback, FeedbackStatus, join
from shokado.experiments.pair_evidence import WAITS_S, is_sampled, joined
from shokado.experiments.prediction_id import PredictionIds
from shokado.stores.evidence import Sighting, level_of
from shokado.stores.pairs import MetPair, PairedLabel
from tests.experiments.test_joining_feedback import BINARY, HOUR_S, NOW, REGRESSION, SECRET, SEVERAL
from tests.stores.test_evidence import unit
from tests.transports.predictions import prediction

STAGES = (ExperimentStage(7, {"v1": 1.0}, is_sticky=False), ExperimentStage(12, {}, is_sticky=False))


def experiment(metric: ExperimentMetric = ExperimentMetric.ACCURACY, **plan: Any) -> Experiment:
    content: dict[str, Any] = {"smallest_effect": 0.1, "label_delay_s": 1000, "max_duration_s": 1001}
    design = ExperimentDesign.SHADOW
    return Experiment("e1", "v1", ("v2",), ExperimentPlan(metric=metric, design=design, **content | plan), NOW, STAGES)


def kept(
    under_way: Experiment,
    card: Card = BINARY,
    scores: Any = (0.9, 0.2),
    reason: Reason = Reason.SPLIT,
    version: str = "v1",
    generation: int = 9,
    age_s: float = 10,
    **entry: Any,
) -> PairedLabel | None:
    """What is kept of an entry, which is accepted in any case, and says nothing by itself."""
    answered = prediction(card, list(scores))
    answered.origin = Origin(version, "production", generation, card, CountedStage(under_way))
    answered.reason, answered.unit = reason, "user-17"
    ids = PredictionIds(SECRET, 10 * HOUR_S, clock=lambda: NOW - age_s)
    known = {version: card}
    content: dict[str, Any] = {"label": 1} | entry
    ruling = join(Feedback(ids.make(answered), **content), ids.read, known, NOW, 10 * HOUR_S, {"production": under_way})
    assert ruling.status is FeedbackStatus.ACCEPTED, ruling.reason
    assert ruling.settlement is not None
    assert ruling.settlement.sightings == ()
    return ruling.settlement.paired


def worth(under_way: Experiment, label: PairedLabel | None, answers: bytes) -> Sighting | None:
    """What a label is worth with these answers of the shadow."""
    assert label is not None
    found = joined(under_way, MetPair(label.cohort, label.key, label.row, label.content, answers))
    ((of, number),) = found.counts.items()
    assert (of.stage, of.version, of.cohort, of.name, number) == (7, "v2", label.cohort, "pairs.joined", 1)
    return found.sighting


def observed(sighting: Sighting | None) -> dict[tuple[str, str], float]:
    assert sighting is not None
    assert {(of.stage, of.cohort) for of in sighting.counts} == {(7, experiment().cohort_of(NOW - 10))}
    assert (sighting.experiment, sighting.unit) == ("e1", CountedStage(experiment()).unit_bytes("user-17"))
    return {(of.version, of.name): number for of, number in sighting.counts.items()}


def test_a_label_is_kept_for_its_row_and_counted() -> None:
    found = kept(experiment(), index=1, label=0)
    assert found is not None
    assert (found.experiment, found.row, found.waits) == ("e1", 1, True)
    assert (found.counted.stage, found.counted.version, found.counted.name) == (7, "v2", "pairs.labels")
    assert found.cohort == found.counted.cohort == experiment().cohort_of(NOW - 10)
    late = kept(experiment(), age_s=WAITS_S + 2)
    assert late is not None
    assert not late.waits


@pytest.mark.parametrize(
    "given",
    [
        {"age_s": 1001},
        {"generation": 6},
        {"generation": 12},
        {"reason": Reason.PINNED},
        {"reason": Reason.FALLBACK},
        {"reason": Reason.ACTIVE},
        {"version": "v3"},
        {"label": None, "reward": 1},
    ],
    ids=[
        "late", "before the experiment", "while another was the shadow", "pinned", "fallback", "no split",
        "of another version", "no label",
    ],
)  # fmt: skip
def test_what_is_late_or_of_no_split_or_another_version_is_not_kept(given: dict[str, Any]) -> None:
    assert kept(experiment(), **given) is None


def test_labels_of_units_that_are_not_sampled_are_not_kept() -> None:
    hashed = CountedStage(experiment()).unit_bytes("user-17")
    drawn = int.from_bytes(hashed[4:], "big") / 2**32
    assert kept(experiment(sample=drawn * 0.99)) is None
    assert kept(experiment(sample=drawn * 1.01)) is not None


def test_a_sample_has_its_part_of_the_units_whatever_the_store_lets_go_of() -> None:
    units = [unit(number) for number in range(20_000)]
    plan = experiment(sample=0.1).plan
    sampled = [one for one in units if is_sampled(plan, one)]
    # Five standard deviations.
    assert len(sampled) == pytest.approx(2000, abs=212)
    assert sum(level_of(one) > 0 for one in sampled) == pytest.approx(len(sampled) / 2, abs=112)


@pytest.mark.parametrize(
    ("row", "label", "right"),
    [(0, 1, (1, 1, 0)), (0, 0, (0, 0, 0)), (1, 0, (1, 0, -1)), (1, 1, (0, 1, 1))],
)
def test_a_difference_of_accuracy_is_that_of_the_label_s_own_row(
    row: int, label: int, right: tuple[int, int, int]
) -> None:
    """The control says 1 and 0, the shadow twice 1."""
    answers = answers_of(BINARY, np.array([0.8, 0.7], np.float32)).tobytes()
    found = observed(worth(experiment(), kept(experiment(), index=row, label=label), answers))
    control, candidate, difference = right
    assert found == {
        ("v1", "accuracy.count"): 1, ("v1", "accuracy.sum"): control, ("v1", "accuracy.squares"): control,
        ("v2", "accuracy.count"): 1, ("v2", "accuracy.sum"): candidate, ("v2", "accuracy.squares"): candidate,
        ("v2", "pairs.accuracy.count"): 1, ("v2", "pairs.accuracy.sum"): difference,
        ("v2", "pairs.accuracy.squares"): difference**2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "card", "given", "shadow", "label", "expected"),
    [
        (ExperimentMetric.SQUARED_ERROR, REGRESSION, (3.0,), (7.0,), 5.5, (6.25, 2.25)),
        (ExperimentMetric.ABSOLUTE_ERROR, REGRESSION, (3.0,), (7.0,), 5.5, (2.5, 1.5)),
        (ExperimentMetric.SQUARED_ERROR, SEVERAL, ([1.0, 2.0],), ([3.0, 4.0],), [3, 1], (2.5, 4.5)),
        (ExperimentMetric.ABSOLUTE_ERROR, SEVERAL, ([1.0, 2.0],), ([3.0, 4.0],), [3, 1], (1.5, 1.5)),
    ],
)
def test_a_difference_of_errors_is_the_shadow_s_less_the_control_s(
    metric: ExperimentMetric, card: Card, given: Any, shadow: Any, label: Any, expected: tuple[float, float]
) -> None:
    under_way = experiment(metric)
    answers = answers_of(card, np.array(shadow, np.float32)).tobytes()
    found = observed(worth(under_way, kept(under_way, card, given, label=label), answers))
    control, candidate = expected
    assert (found["v1", f"{metric}.sum"], found["v2", f"{metric}.sum"]) == (control, candidate)
    assert found["v2", f"pairs.{metric}.sum"] == candidate - control
    assert found["v2", f"pairs.{metric}.squares"] == (candidate - control) ** 2


def test_who_has_no_answer_is_wrong_and_has_no_error() -> None:
    found = observed(worth(experiment(), kept(experiment(), label=1), b""))
    assert (found["v1", "accuracy.sum"], found["v2", "accuracy.sum"]) == (1, 0)
    errors = experiment(ExperimentMetric.SQUARED_ERROR)
    assert worth(errors, kept(errors, REGRESSION, (3.0,), label=5), b"") is None


def test_an_experiment_by_agreement_wants_no_labels() -> None:
    assert kept(experiment(ExperimentMetric.AGREEMENT)) is None


def test_labels_of_a_split_s_experiment_are_not_kept() -> None:
    plan = ExperimentPlan(metric=ExperimentMetric.ACCURACY, smallest_effect=0.1)
    answered = prediction(BINARY, [0.9])
    apart = replace(experiment(), plan=plan)
    answered.origin, answered.unit = Origin("v1", "production", 9, BINARY, CountedStage(apart)), "u"
    ids = PredictionIds(SECRET, HOUR_S, clock=lambda: NOW)
    entry = Feedback(ids.make(answered), label=1)
    ruling = join(entry, ids.read, {"v1": BINARY}, NOW, HOUR_S, {"production": apart})
    assert ruling.settlement is not None
    assert (ruling.settlement.paired, len(ruling.settlement.sightings)) == (None, 1)
