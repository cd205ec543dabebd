"""Guardrails by segment, as an experiment begins: one for each level of the feature that they name. Pure.

Each is a guardrail like any other from then on: it has its part of the error rate, as they are counted, and a candidate
is promoted when it surely keeps all of them. What is counted for a level is counted with the label of a unit that
counts for the metric, so both are of the same units.
"""

from collections.abc import Mapping
from dataclasses import replace

from configuration.experiment_policy import Guardrail
from configuration.segment_settings import SegmentSettings
from runners.artefacts.card import Card
from shokado.dispatch.change import InvalidChange
from shokado.dispatch.experiment import Experiment
from shokado.experiments.row_levels import FeatureLevels, levels_of

MAX_GUARDRAILS = 16
"""All levels together: each further one takes from the error rate of the others."""


def with_segments(experiment: Experiment, *, settings: SegmentSettings, cards: Mapping[str, Card]) -> Experiment:
    """The experiment whose guardrails name levels. Raises `InvalidChange` where versions have different ones."""
    guardrails: list[Guardrail] = []
    for guardrail in experiment.plan.guardrails:
        if guardrail.by is None:
            guardrails.append(guardrail)
            continue
        levels = _levels(experiment, guardrail.by, settings, cards)
        if guardrail.level is not None and guardrail.level not in levels.names:
            known = ", ".join(levels.names)
            raise _invalid(f"{guardrail.by} has no level {guardrail.level!r}; its levels are {known}")
        chosen = levels.levels if guardrail.level is None else (guardrail.level,)
        guardrails += (guardrail.model_copy(update={"level": level, "segment": levels.key}) for level in chosen)
    if len(guardrails) > MAX_GUARDRAILS:
        counted = f"{len(guardrails)} guardrails with all levels"
        raise _invalid(f"there are {counted}, and at most {MAX_GUARDRAILS} are possible: name levels")
    about = [(guardrail.metric, guardrail.by, guardrail.level) for guardrail in guardrails]
    if len(set(about)) < len(about):
        raise _invalid("two guardrails are about the same level: give its margin in one")
    return replace(experiment, plan=experiment.plan.model_copy(update={"guardrails": tuple(guardrails)}))


def _levels(
    experiment: Experiment, feature: str, settings: SegmentSettings, cards: Mapping[str, Card]
) -> FeatureLevels:
    """The levels of a feature, which all versions have alike, in their rows or all of them by feedback."""
    if feature not in settings.features:
        known = ", ".join(settings.features) or "no feature"
        raise _invalid(f"figures are not told apart by {feature!r}; segments.features has {known}")
    found = {
        version: (levels_of(settings, cards[version], feature), feature in cards[version].feature_names)
        for version in experiment.versions
        if version in cards
    }
    levels, _ = next(iter(found.values()), (None, False))
    if levels is None or len(found) < len(experiment.versions) or len(set(found.values())) > 1:
        raise _invalid(
            f"{' and '.join(experiment.versions)} do not have the same levels of {feature!r}: name levels or cuts in "
            "segments.features, of a feature that all of them take, or none of them"
        )
    return levels


def _invalid(message: str) -> InvalidChange:
    return InvalidChange("unknown_segment", message, field="guardrails")
