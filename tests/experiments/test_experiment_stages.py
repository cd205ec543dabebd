"""What is judged where a store keeps a sample of the units: how rarely it alarms, what it finds, and what it says."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from configuration.experiment_plan import ExperimentPlan
from configuration.experiment_policy import ExperimentMetric
from shokado.dispatch.experiment import Experiment, ExperimentStage
from shokado.experiments.experiment_counts import (
    ASSIGNED,
    REQUESTS,
    assigned_scope,
    labelled_scope,
    one_observation,
    sums_named,
)
from shokado.experiments.experiment_stages import part_of_rate, policy_of, stages_of
from shokado.experiments.experiment_verdict import ExperimentJudgement, ExperimentVerdict, judge_experiment
from shokado.stores.evidence import Evidence, EvidenceBatch, GatheredEvidence, Sighting
from shokado.stores.store import Store
from tests.experiments.following import store_in

NOW = 1_790_000_000.0
METRIC = ExperimentMetric.SQUARED_ERROR
ANSWERS = sums_named(ExperimentMetric.LATENCY)[0]
STAGES = tuple(ExperimentStage(number, {"v1": 0.5, "v2": 0.5}, is_sticky=True) for number in (3, 7, 9))
Random = np.random.Generator


class Seen:
    """An experiment whose units come a few at a time, and a real store that keeps so many of them at most."""

    def __init__(self, store: Store, name: str, units: int = 64, labelled: int = 2**20) -> None:
        plan = ExperimentPlan(metric=METRIC, smallest_effect=0.1, integrity_error_rate=0.2)
        self.experiment = Experiment(name, "v1", ("v2",), plan, NOW, STAGES)
        self._store = store
        self._at_most = units, labelled
        self._batches = itertools.count(1)

    def come(self, random: Random, stage: int, number: int, coverage: dict[str, float], share: float = 0.5) -> None:
        sightings = []
        for _ in range(number):
            unit, version = random.bytes(8), "v2" if random.random() < share else "v1"
            sightings.append(self._sighting(stage, version, unit, dict.fromkeys((ASSIGNED, REQUESTS, ANSWERS), 1.0)))
            if random.random() < coverage[version]:
                sightings.append(self._sighting(stage, version, unit, one_observation(METRIC, 1.0), labelled=True))
        self._store.add_evidence(EvidenceBatch(self.experiment.id, next(self._batches), {}, sightings), NOW)

    def judgement(self) -> ExperimentJudgement:
        found = self.found()
        stages = stages_of(self.experiment, found, found)
        return judge_experiment(policy_of(self.experiment.plan, found), "v1", ["v2"], stages)

    def found(self) -> GatheredEvidence:
        return self._store.evidence(self.experiment.id, NOW + 1)

    def _sighting(
        self, stage: int, version: str, unit: bytes, counts: dict[str, float], *, labelled: bool = False
    ) -> Sighting:
        scope = labelled_scope(METRIC) if labelled else assigned_scope(stage)
        told = {Evidence(stage, version, int(NOW), name): number for name, number in counts.items()}
        return Sighting(self.experiment.id, scope, unit, self._at_most[labelled], told)


def test_samples_of_all_stages_together_have_no_more_than_the_whole_rate() -> None:
    """Of twenty stages, each is halved three times while it goes on."""
    halvings: dict[str, int] = {}
    parts = [part_of_rate(GatheredEvidence({}, halvings))]
    for stage, number in itertools.product(range(20), range(1, 4)):
        halvings[assigned_scope(stage)] = number
        parts.append(part_of_rate(GatheredEvidence({}, halvings)))
    assert 0.95 < sum(parts) <= 1


@pytest.mark.slow
def test_a_sample_of_the_units_is_rarely_an_alarm(tmp_path: Path) -> None:
    """Of 60 experiments with three stages that are halved thrice, with 20 % of alarms, more than 22 are one in 1,000
    cases.
    """
    random, store = np.random.default_rng(21), store_in(tmp_path)
    alarms = 0
    for number in range(60):
        seen, alarm = Seen(store, f"e{number}"), False
        for stage, _ in itertools.product((3, 7, 9), range(6)):
            seen.come(random, stage, 50, {"v1": 0.6, "v2": 0.6})
            alarm |= seen.judgement().verdict is ExperimentVerdict.INVALID
        assert min(seen.found().halvings[assigned_scope(stage)] for stage in (3, 7, 9)) >= 2
        alarms += alarm
    store.close()
    assert alarms <= 22


@pytest.mark.parametrize(("units", "labelled"), [(64, 2**20), (2**15, 512), (64, 512)], ids=["units", "labels", "both"])
def test_labels_that_one_version_lacks_are_found_in_a_sample_and_told_by_what_is_known(
    tmp_path: Path, units: int, labelled: int
) -> None:
    random, store = np.random.default_rng(22), store_in(tmp_path)
    seen = Seen(store, "e1", units, labelled)
    seen.come(random, 3, 2000, {"v1": 0.9, "v2": 0.3})
    found, judgement = seen.found(), seen.judgement()
    store.close()
    assert judgement.verdict is ExperimentVerdict.INVALID
    first, second = (round(found.sums[3, version, f"{METRIC}.count"]) for version in ("v1", "v2"))
    half = f"{(first + second) / 2:,.0f}"
    assert f"labels did not come alike for all versions (p = {judgement.arrival_p_value:.2g}): " in judgement.reason
    assert f"v1 {first:,} for {half}, v2 {second:,} for {half};" in judgement.reason


def test_units_that_one_version_lacks_are_found_in_a_sample(tmp_path: Path) -> None:
    random, store = np.random.default_rng(23), store_in(tmp_path)
    seen = Seen(store, "e1", units=512)
    seen.come(random, 3, 2000, {"v1": 0.5, "v2": 0.5}, share=0.3)
    judgement = seen.judgement()
    store.close()
    assert judgement.verdict is ExperimentVerdict.INVALID
    assert "did not get their shares" in judgement.reason
