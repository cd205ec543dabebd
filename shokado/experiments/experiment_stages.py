"""Stages of an experiment as it is judged by, made of what stores keep. Pure.

In: sums by name, of all that was counted and of what is due. Out: `StageEvidence`, the oldest stage first.
"""

from collections.abc import Mapping

from configuration.experiment_plan import ExperimentPlan
from configuration.experiment_policy import ExperimentMetric, ExperimentPolicy
from shokado.dispatch.experiment import Experiment, ExperimentStage
from shokado.experiments.experiment_counts import (
    ASSIGNED,
    ERRORS,
    FAILED,
    FALLBACKS,
    JOINED,
    LABELS,
    LET_GO,
    NO_ROOM,
    REQUESTS,
    SAMPLED,
    SCORED,
    SLOW,
    assigned_scope,
    labelled_scope,
    paired_sums_named,
    segment_sums_named,
    sums_named,
)
from shokado.experiments.experiment_evidence import StageEvidence, VersionEvidence
from shokado.experiments.moments import Moments
from shokado.stores.evidence import GatheredEvidence

FULL_SAMPLE_PART = 0.8
"""The part of an error rate that a sample has which was never halved."""
_ANSWERS = sums_named(ExperimentMetric.LATENCY)[0]


def stages_of(experiment: Experiment, everything: GatheredEvidence, due: GatheredEvidence) -> list[StageEvidence]:
    """What is judged, by the stages of an experiment. Those in which nothing is compared are left out.

    Args:
        experiment: whose evidence it is.
        everything: that was counted up to now.
        due: the same, of predictions whose labels have had time to come.
    """
    if experiment.is_shadowed:
        return [_paired(experiment, stage, everything, due) for stage in experiment.stages if stage.shares]
    return [
        StageEvidence(
            stage.shares,
            {
                version: _version(experiment.plan, stage, version, everything, due)
                for version in _seen(stage, everything)
            },
        )
        for stage in experiment.stages
        if stage.shares
    ]


def fallbacks_of(everything: GatheredEvidence) -> dict[str, int]:
    """How many requests of each version were answered by another one, of those that were counted."""
    found: dict[str, int] = {}
    for (_, version, name), number in everything.sums.items():
        if name == FALLBACKS:
            found[version] = found.get(version, 0) + round(number)
    return found


def pair_counts(everything: GatheredEvidence) -> dict[str, int]:
    """What became of the requests that a shadow was compared on, and of their labels; empty where there is none."""
    names = {name: name.removeprefix("pairs.") for name in (SAMPLED, SCORED, FAILED, NO_ROOM, LABELS, JOINED, LET_GO)}
    found: dict[str, int] = {}
    for (_, _, name), number in everything.sums.items():
        if name in names:
            found[names[name]] = found.get(names[name], 0) + round(number)
    return found


def policy_of(plan: ExperimentPlan, everything: GatheredEvidence) -> ExperimentPolicy:
    """The plan with those parts of its error rates that the samples of now have."""
    part = part_of_rate(everything)
    return plan.model_copy(update={name: getattr(plan, name) * part for name in ("error_rate", "integrity_error_rate")})


def part_of_rate(everything: GatheredEvidence) -> float:
    """The part of the error rates that may be spent on the samples of now.

    Each halving, of whatever scope, makes another sample of the whole, which is tested by itself: the first has
    `FULL_SAMPLE_PART`, and the one after k halvings 1 / (k (k + 1)) of the rest, so that all together have no more than
    the whole.
    """
    halvings = sum(everything.halvings.values())
    return FULL_SAMPLE_PART if halvings == 0 else (1 - FULL_SAMPLE_PART) / (halvings * (halvings + 1))


def _seen(stage: ExperimentStage, everything: GatheredEvidence) -> set[str]:
    """The versions of a stage, and those that were given some of its requests all the same."""
    return set(stage.shares) | {
        version
        for (generation, version, name), number in everything.sums.items()
        if generation == stage.generation and name == ASSIGNED and number
    }


def _version(
    plan: ExperimentPlan, stage: ExperimentStage, version: str, everything: GatheredEvidence, due: GatheredEvidence
) -> VersionEvidence:
    now, old = (_sums(gathered, stage, version) for gathered in (everything, due))
    sums = {metric: _moments(metric, old if metric.from_feedback else now) for metric in plan.metrics}
    labelled = float(sums[plan.metric].count) if plan.metric.from_feedback else 0.0
    answers = old.get(_ANSWERS, 0.0)
    # Where one of them is a sample, the other is none, or another one: only what came can be compared then.
    scopes = (assigned_scope(stage.generation), labelled_scope(plan.metric))
    is_sample = any(everything.halvings.get(scope, 0) for scope in scopes)
    due_answers = None if is_sample else max(answers, labelled)
    return VersionEvidence(now.get(ASSIGNED, 0.0), due_answers, sums, _segments(plan, old))


def _segments(
    plan: ExperimentPlan, due: Mapping[str, float]
) -> dict[tuple[ExperimentMetric, tuple[str, str]], Moments]:
    """What guardrails by segment are judged by."""
    found = {}
    for guardrail in plan.guardrails:
        if guardrail.rows is not None:
            names = segment_sums_named(guardrail.metric, *guardrail.rows)
            found[guardrail.metric, guardrail.rows] = Moments(*(due.get(name, 0.0) for name in names))
    return found


def _paired(
    experiment: Experiment, stage: ExperimentStage, everything: GatheredEvidence, due: GatheredEvidence
) -> StageEvidence:
    """A stage whose units were answered by the control, all of them."""
    metric, control, (shadow,) = experiment.plan.metric, experiment.control, experiment.candidates
    seen = due if metric.from_feedback else everything
    ours, theirs = (_sums(seen, stage, version) for version in (shadow, control))
    now = _sums(everything, stage, shadow)
    told, failed = (now.get(name, 0.0) for name in sums_named(ExperimentMetric.ERROR_RATE)[:2])
    means = {version: _moments(metric, sums) for version, sums in ((control, theirs), (shadow, ours))}
    count, total, squares = (ours.get(name, 0.0) for name in paired_sums_named(metric))
    return StageEvidence(
        stage.shares,
        {
            control: VersionEvidence(now.get(SAMPLED, 0.0), float(means[control].count), {metric: means[control]}),
            shadow: VersionEvidence(
                0.0,
                float(means[shadow].count),
                {metric: means[shadow], ExperimentMetric.ERROR_RATE: Moments.of_events(failed, told)},
            ),
        },
        {shadow: Moments(count, total, squares)},
    )


def _sums(gathered: GatheredEvidence, stage: ExperimentStage, version: str) -> dict[str, float]:
    return {
        name: number
        for (generation, of, name), number in gathered.sums.items()
        if (generation, of) == (stage.generation, version)
    }


def _moments(metric: ExperimentMetric, sums: Mapping[str, float]) -> Moments:
    match metric:
        case ExperimentMetric.ERROR_RATE:
            return Moments.of_events(sums.get(ERRORS, 0.0), sums.get(REQUESTS, 0.0))
        case ExperimentMetric.FALLBACK_SHARE:
            return Moments.of_events(sums.get(FALLBACKS, 0.0), sums.get(REQUESTS, 0.0))
        case ExperimentMetric.SLOW_SHARE:
            return Moments.of_events(sums.get(SLOW, 0.0), sums.get(_ANSWERS, 0.0))
    count, total, squares = (sums.get(name, 0.0) for name in sums_named(metric))
    return Moments(count, total, squares)
