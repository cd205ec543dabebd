"""Evidence of pairs: what a row is worth that the control answered and its shadow scored as well. Pure.

In: what both said of it, and a label where the metric needs one. Out: sightings, of which the first of each unit
counts, as everywhere in experiments.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from configuration.experiment_plan import ExperimentPlan
from configuration.experiment_policy import ExperimentMetric
from shokado.dispatch.experiment import Experiment, ExperimentStage
from shokado.experiments.experiment_counts import (
    JOINED,
    LABELS,
    LET_GO,
    MAX_LABELLED_UNITS,
    labelled_scope,
    one_observation,
    paired_sums_named,
    sums_named,
)
from shokado.experiments.prediction_id import Provenance
from shokado.stores.evidence import Evidence, Sighting
from shokado.stores.pairs import JoinedPair, MetPair, PairedLabel

WAITS_S = 300.0
"""How long after a prediction its label waits for the shadow's scores, which come within seconds, or not at all."""
MAX_WAITING_LABELS = 10_000
"""Labels of a cohort that wait at most, the newest ones: those of what the shadow never scored wait as well."""
_SAMPLED_BYTES = 4
"""Bytes of a unit's hash by which it is in the sample; the store goes by those before them when it lets go of some."""


class _LabelledRow(msgspec.Struct):
    """What is known of a row when its label has come."""

    stage: int
    unit: str
    """Hex of the hash."""
    control: float
    """The control's observation."""
    said: list[float]
    """By the label; see `runners.artefacts.scores.said_by`."""


_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(_LabelledRow).decode


def is_sampled(plan: ExperimentPlan, unit: bytes) -> bool:
    """Whether a unit is one of those whose requests the shadow is compared on."""
    return int.from_bytes(unit[-_SAMPLED_BYTES:], "big") < plan.sample * 256.0**_SAMPLED_BYTES


def sighting_of_pair(
    experiment: Experiment, stage: int, cohort: int, unit: bytes, control: float, candidate: float
) -> Sighting:
    """An observation of both versions, and their difference."""
    metric, (shadow,) = experiment.plan.metric, experiment.candidates
    difference = candidate - control
    paired = zip(paired_sums_named(metric), (1.0, difference, difference**2), strict=True)
    counts = {
        Evidence(stage, version, cohort, name): number
        for version, sums in (
            (experiment.control, one_observation(metric, control)),
            (shadow, {**one_observation(metric, candidate), **dict(paired)}),
        )
        for name, number in sums.items()
    }
    return Sighting(experiment.id, labelled_scope(metric), unit, MAX_LABELLED_UNITS, counts)


def sighting_of_failure(experiment: Experiment, stage: int, cohort: int, unit: bytes, *, failed: bool) -> Sighting:
    """Whether the shadow failed on a request. Of a unit the first one counts: those of one are alike."""
    (shadow,), names = experiment.candidates, sums_named(ExperimentMetric.ERROR_RATE)
    numbers = (1.0, float(failed), float(failed))
    counts = {Evidence(stage, shadow, cohort, name): number for name, number in zip(names, numbers, strict=True)}
    return Sighting(experiment.id, labelled_scope(ExperimentMetric.ERROR_RATE), unit, MAX_LABELLED_UNITS, counts)


def paired_label(
    experiment: Experiment,
    stage: ExperimentStage,
    origin: Provenance,
    row: int,
    control: float,
    said: Sequence[float],
    now: float,
) -> PairedLabel | None:
    """A label as it is kept until it is joined; None where its row has no part in the experiment.

    Args:
        experiment: one whose candidate is a shadow.
        stage: that of the prediction, whose label is in time.
        origin: of the prediction.
        row: its position in the request.
        control: the observation that the label makes of the control's answer.
        said: by the label.
        now: when it came, in Unix seconds.
    """
    if not stage.shares or origin.version != experiment.control or not is_sampled(experiment.plan, origin.unit):
        return None
    cohort, (shadow,) = experiment.cohort_of(origin.at), experiment.candidates
    content = _encode(_LabelledRow(stage.generation, origin.unit.hex(), control, list(said))).decode()
    return PairedLabel(
        experiment.id,
        cohort,
        origin.key,
        row,
        content,
        waits=now - origin.at <= WAITS_S,
        at_most=MAX_WAITING_LABELS,
        counted=Evidence(stage.generation, shadow, cohort, LABELS),
        let_go=Evidence(stage.generation, shadow, cohort, LET_GO),
    )


def joined(experiment: Experiment, pair: MetPair) -> JoinedPair:
    """What a label and the shadow's scores of its request are worth."""
    row, (shadow,) = _decode(pair.content), experiment.candidates
    candidate = _observed(experiment.plan.metric, row.said, pair)
    unit, sighting = bytes.fromhex(row.unit), None
    if candidate is not None:
        sighting = sighting_of_pair(experiment, row.stage, pair.cohort, unit, row.control, candidate)
    return JoinedPair(pair, {Evidence(row.stage, shadow, pair.cohort, JOINED): 1.0}, sighting)


def _observed(metric: ExperimentMetric, said: Sequence[float], pair: MetPair) -> float | None:
    """The observation that a label makes of the shadow's answer; None where nothing can be said."""
    if not pair.answers:
        # Who has no answer is not right. How wrong it would be, nobody knows.
        return 0.0 if metric is ExperimentMetric.ACCURACY else None
    answers = np.frombuffer(pair.answers, dtype="<f4").reshape(-1, len(said))[pair.row].astype(np.float64)
    errors = np.array(said) - answers
    match metric:
        case ExperimentMetric.ACCURACY:
            return float(not errors.any())
        case ExperimentMetric.SQUARED_ERROR:
            return float((errors**2).mean())
        case _:
            return float(np.abs(errors).mean())
