"""Guardrails by segment: one for each level, judged as all others are, on what was counted for that level."""

from dataclasses import replace
from typing import Any

import pytest

from configuration.experiment_plan import ExperimentPlan
from configuration.experiment_policy import ExperimentMetric, Guardrail
from configuration.segment_settings import SegmentSettings
from runners.artefacts.card import Card
from shokado.dispatch.change import InvalidChange
from shokado.dispatch.experiment import CountedStage, Experiment, ExperimentStage
from shokado.dispatch.request import Origin
from shokado.experiments.experiment_counts import segment_sums_named, sums_named
from shokado.experiments.experiment_stages import stages_of
from shokado.experiments.experiment_verdict import (
    GUARDRAIL_PART,
    CandidateJudgement,
    ExperimentVerdict,
    judge_experiment,
)
from shokado.experiments.feedback_collector import Feedback, join
from shokado.experiments.guardrail_state import GuardrailState
from shokado.experiments.prediction_id import PredictionIds
from shokado.experiments.row_levels import levels_of
from shokado.experiments.segment_counts import Segmenting
from shokado.experiments.segment_guardrails import with_segments
from shokado.stores.evidence import GatheredEvidence
from tests.support.cards import make_card
from tests.transports.predictions import prediction

NOW = 1_790_000_000.0
FEATURES = [{"name": "width"}, {"name": "region", "type": "category", "levels": ["north", "south"], "nullable": True}]
SETTINGS = SegmentSettings.model_validate({"features": {"region": {}, "sex": {"levels": ["f", "m"]}, "width": {}}})
REWARD = ExperimentMetric.REWARD


def card_of(version: str = "v1", features: Any = FEATURES) -> Card:
    rows = [[1.0, 0.0][: len(features)]]
    return make_card(version=version, format=3, features=features, examples={"rows": rows, "scores": [0.25]})


CARDS = {"v1": card_of("v1"), "v2": card_of("v2")}


def begun(*guardrails: dict[str, Any], cards: Any = None, **plan: Any) -> Experiment:
    content = {"metric": "latency", "smallest_effect": 1, "label_delay_s": 10, "guardrails": list(guardrails)} | plan
    stages = (ExperimentStage(7, {"v1": 0.5, "v2": 0.5}, is_sticky=True, artefacts={"v1": "a", "v2": "b"}),)
    experiment = Experiment("e1", "v1", ("v2",), ExperimentPlan.model_validate(content), NOW - 1000, stages)
    return with_segments(experiment, settings=SETTINGS, cards=cards or CARDS)


BY_REGION = {"metric": "reward", "margin": 0.05, "by": "region"}


def test_it_is_one_for_each_level() -> None:
    experiment = begun({"metric": "error_rate", "limit": 0.1}, BY_REGION)
    found = [(one.metric, one.level, one.margin) for one in experiment.plan.guardrails]
    assert found == [("error_rate", None, None), ("reward", "north", 0.05), ("reward", "south", 0.05)]
    assert begun({**BY_REGION, "level": "(missing)"}).plan.guardrails[0].what == "reward of region (missing)"
    assert len(begun(BY_REGION, {**BY_REGION, "by": "sex"}).plan.guardrails) == 4
    again = ExperimentPlan.model_validate_json(experiment.plan.model_dump_json())
    assert again == experiment.plan, "as a store keeps it"


def test_a_plan_without_segments_is_stored_as_it_was() -> None:
    dumped = begun({"metric": "error_rate", "limit": 0.1}).plan.model_dump(mode="json")["guardrails"]
    assert dumped == [{"metric": "error_rate", "limit": 0.1, "margin": None}]


@pytest.mark.parametrize(
    ("guardrail", "words"),
    [
        ({**BY_REGION, "by": "income"}, "figures are not told apart by 'income'"),
        ({**BY_REGION, "by": "width"}, "do not have the same levels of 'width'"),
        (
            {**BY_REGION, "level": "east"},
            "no level 'east'; its levels are (missing), north, south, (others)",
        ),
    ],
)
def test_levels_that_there_are_not_are_refused(guardrail: Any, words: str) -> None:
    with pytest.raises(InvalidChange) as refused:
        begun(guardrail)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "features",
    [
        [{"name": "width"}],
        [{"name": "width"}, {"name": "region", "type": "category", "levels": ["south", "north"], "nullable": True}],
    ],
)
def test_versions_with_other_levels_are_not_compared_by_them(features: Any) -> None:
    with pytest.raises(InvalidChange, match="do not have the same levels"):
        begun(BY_REGION, cards=CARDS | {"v2": card_of("v2", features)})


def test_more_than_sixteen_are_refused() -> None:
    levels = [f"level {number}" for number in range(17)]
    features = [FEATURES[0], {"name": "region", "type": "category", "levels": levels}]
    with pytest.raises(InvalidChange, match="17 guardrails"):
        begun(BY_REGION, cards={version: card_of(version, features) for version in CARDS})


@pytest.mark.parametrize(
    "guardrail",
    [
        {"metric": "latency", "margin": 1, "by": "region"},
        {"metric": "error_rate", "limit": 0.1, "by": "region"},
        {"metric": "reward", "margin": 1, "level": "north"},
    ],
)
def test_only_what_has_labels_has_levels(guardrail: Any) -> None:
    with pytest.raises(ValueError, match=r"by is for|name it in by"):
        Guardrail.model_validate(guardrail)


def test_a_label_counts_for_the_level_of_its_row_together_with_its_unit() -> None:
    experiment = begun(BY_REGION, {"metric": "reward", "margin": 0.05, "by": "sex", "level": "f"})
    ids = PredictionIds(bytes(32), 3600.0, lambda: NOW, Segmenting(SETTINGS).of)
    answered = prediction(CARDS["v2"], [0.9], "v2")
    answered.rows = CARDS["v2"].row_format.pack([[1.0, "south"]])
    stage = CountedStage(experiment)
    answered.origin = Origin("v2", "production", 7, CARDS["v2"], stage)
    answered.unit = "user-1"
    entry = Feedback(ids.make(answered), reward=0.5, segments={"sex": "f"})
    ruling = join(entry, ids.read, CARDS, NOW, 3600.0, {"production": experiment}, Segmenting(SETTINGS))
    assert ruling.settlement is not None
    (sighting,) = ruling.settlement.sightings
    region, sex = (levels_of(SETTINGS, CARDS["v2"], feature) for feature in ("region", "sex"))
    assert region is not None
    assert sex is not None
    names = [
        *sums_named(REWARD),
        *segment_sums_named(REWARD, region.key, "south"),
        *segment_sums_named(REWARD, sex.key, "f"),
    ]
    assert {of.name: number for of, number in sighting.counts.items()} == dict(
        zip(names, [1.0, 0.5, 0.25] * 3, strict=True)
    )


def gathered(experiment: Experiment, **levels: dict[str, tuple[float, float]]) -> GatheredEvidence:
    """Rewards by level and version: how many, and how many of them are 1."""
    segment = experiment.plan.guardrails[0].segment
    assert segment is not None
    sums: dict[tuple[int, str, str], float] = {}
    for level, versions in levels.items():
        for version, (count, total) in versions.items():
            for names in (sums_named(REWARD), segment_sums_named(REWARD, segment, level)):
                for name, number in zip(names, (count, total, total), strict=True):
                    sums[7, version, name] = sums.get((7, version, name), 0.0) + number
    return GatheredEvidence(sums, {})


def judged(experiment: Experiment, **levels: dict[str, tuple[float, float]]) -> CandidateJudgement:
    evidence = gathered(experiment, **levels)
    stages = stages_of(experiment, evidence, evidence)
    return judge_experiment(experiment.plan, "v1", ["v2"], stages).candidates["v2"]


def test_a_level_that_is_worse_ends_it_though_all_together_are_alike() -> None:
    experiment = begun(BY_REGION)
    found = judged(
        experiment,
        north={"v1": (2000, 1000), "v2": (2000, 1500)},
        south={"v1": (2000, 1000), "v2": (2000, 500)},
    )
    assert found.verdict is ExperimentVerdict.ROLLBACK
    assert [one.state for one in found.guardrails] == [GuardrailState.KEPT, GuardrailState.BROKEN]
    assert "reward of region south worse by 0.25" in found.reason
    assert [(one.by, one.level) for one in found.guardrails] == [("region", "north"), ("region", "south")]


def test_a_small_level_is_unknown_and_holds_up_a_promotion() -> None:
    found = judged(
        begun(BY_REGION),
        north={"v1": (40_000, 20_000), "v2": (40_000, 20_000)},
        south={"v1": (20, 10), "v2": (20, 10)},
    )
    assert [one.state for one in found.guardrails] == [GuardrailState.KEPT, GuardrailState.UNKNOWN]
    assert judged(begun(BY_REGION)).guardrails[0].state is GuardrailState.UNKNOWN


def test_levels_share_the_error_rate_of_guardrails() -> None:
    """What is just enough for one guardrail alone is not for one of as many as there are levels."""
    one = begun({**BY_REGION, "level": "south"})
    whole = one.plan.error_rate * GUARDRAIL_PART

    def south(experiment: Experiment, lost: int) -> Any:
        found = judged(experiment, south={"v1": (1000, 500), "v2": (1000, 500.0 - lost)})
        return next(each for each in found.guardrails if each.level == "south")

    lost = next(number for number in range(50, 400) if south(one, number).state is GuardrailState.BROKEN)
    assert whole / 2 < south(one, lost).p_value <= whole, "one answer more is no more than this"
    both = begun(BY_REGION)
    assert south(both, lost).state is GuardrailState.BEYOND
    assert south(both, lost + 30).state is GuardrailState.BROKEN


def test_what_was_counted_for_other_levels_is_not_looked_at() -> None:
    experiment = begun(BY_REGION)
    rail = experiment.plan.guardrails[0]
    others = replace(
        experiment,
        plan=experiment.plan.model_copy(
            update={"guardrails": (rail.model_copy(update={"segment": "region@00000000"}),)}
        ),
    )
    evidence = gathered(experiment, north={"v1": (2000, 1000), "v2": (2000, 0)})
    stages = stages_of(others, evidence, evidence)
    found = judge_experiment(others.plan, "v1", ["v2"], stages).candidates["v2"]
    assert found.guardrails[0].state is GuardrailState.UNKNOWN
