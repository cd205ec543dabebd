"""The shadow sampler: keeps what the shadow of an experiment says of a sampled part of the requests.

    control has answered --> taken --> scored by the shadow --> scores to the store, until the label comes
                               `--> dropped, or failed            or, of `agreement`, what they are worth at once

In: what the shadow copier tells, after the answer. Out: batches for the store, every few seconds. A request is taken by
its unit's hash, before anybody knows what the shadow makes of it, so what is dropped depends on no score.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

from configuration.experiment_plan import ExperimentPlan
from runners.artefacts.card import Card
from runners.artefacts.scores import Scores, answers_of, disagreements
from shokado.dispatch.reason import SPLIT, STICKY
from shokado.dispatch.request import Origin, Prediction
from shokado.experiments.evidence_sender import TOLD_WITHIN_S, EvidenceSender, MakeBatch
from shokado.experiments.experiment_counts import FAILED, NO_ROOM, SAMPLED, SCORED
from shokado.experiments.pair_evidence import is_sampled, sighting_of_failure, sighting_of_pair
from shokado.experiments.prediction_id import carried_rows, read_own
from shokado.stores.evidence import Evidence, EvidenceBatch, ShadowScores, Sighting
from shokado.stores.follower import Follower
from shokado.stores.pairs import FORGET_EVERY_S

MAX_UNSENT = 8_192
"""Requests whose scores wait to be sent; what comes meanwhile, while the store is away, is not taken."""
_BY_SPLIT = (SPLIT, STICKY)


class SampledRequest(NamedTuple):
    """A request that the shadow is compared on."""

    origin: Origin
    shadow: str
    prediction_id: str


class ShadowSampler(EvidenceSender):
    """Samples on behalf of one worker; see `shokado.dispatch.shadow.ShadowSample`."""

    def __init__(
        self,
        follower: Follower,
        worker: str,
        max_kept: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`worker` names this process, and no other. So many requests wait in the store for labels, of all workers."""
        super().__init__(follower, clock)
        self._worker = f"{worker}/shadow"
        self._max_kept = max_kept
        self._counts: defaultdict[tuple[str, Evidence], float] = defaultdict(float)
        self._sightings: list[Sighting] = []
        self._scores: list[ShadowScores] = []

    def take(self, prediction: Prediction, shadow: str) -> SampledRequest | None:
        """Those that the split gave the control of an experiment whose candidate is this shadow."""
        origin, stage = prediction.origin, prediction.origin.stage
        if stage is None or not stage.is_shadowed or prediction.reason not in _BY_SPLIT or not stage.stage.shares:
            return None
        experiment = stage.experiment
        if prediction.version != experiment.control or (shadow,) != experiment.candidates:
            return None
        if not is_sampled(experiment.plan, stage.unit_bytes(prediction.unit)):
            return None
        request = SampledRequest(origin, shadow, prediction.prediction_id)
        self._count(request, SAMPLED, stage.cohort_of(self._clock()))
        return request if len(self._scores) + len(self._sightings) < MAX_UNSENT else None

    def failed(self, request: SampledRequest) -> None:
        """Count it: who has no answer is neither right nor agrees."""
        self._note(request, FAILED, b"" if _wants_labels(request) else None)

    def scored(self, request: SampledRequest, given: Scores, shadow: Card, scores: Scores) -> None:
        """Keep what labels will be compared with, or count whether both agree on the first row."""
        card = request.origin.card
        if _wants_labels(request):
            self._note(request, SCORED, answers_of(shadow, scores[: carried_rows(card)]).tobytes())
        else:
            apart, _ = disagreements(card, given[:1], shadow, scores[:1])
            self._note(request, SCORED, None, agreement=1.0 - apart)

    def _take(self) -> MakeBatch | None:
        counts, sightings, scores = self._counts, self._sightings, self._scores
        if not counts:
            return None
        self._counts, self._sightings, self._scores = defaultdict(float), [], []
        return lambda number: EvidenceBatch(self._worker, number, counts, sightings, scores)

    def _note(self, request: SampledRequest, became: str, answers: bytes | None, agreement: float = 0.0) -> None:
        """Note what became of a request: answers for its labels, or whether both agreed."""
        stage = request.origin.stage
        assert stage is not None
        prediction = read_own(request.prediction_id)
        experiment, generation = stage.experiment, stage.stage.generation
        cohort = experiment.cohort_of(prediction.at)
        self._count(request, became, cohort)
        if experiment.plan.guardrails or not experiment.plan.metric.bounded:
            # Nothing else is judged by how many it fails on.
            unit, failed = prediction.unit, became == FAILED
            self._sightings.append(sighting_of_failure(experiment, generation, cohort, unit, failed=failed))
        if answers is None:
            pair = sighting_of_pair(experiment, generation, cohort, prediction.unit, 1.0, agreement)
            self._sightings.append(pair)
        else:
            no_room = Evidence(generation, request.shadow, cohort, NO_ROOM)
            at_most = kept_of_a_cohort(experiment.plan, self._max_kept)
            self._scores.append(ShadowScores(experiment.id, cohort, prediction.key, answers, at_most, no_room))

    def _count(self, request: SampledRequest, name: str, cohort: int) -> None:
        stage = request.origin.stage
        assert stage is not None
        self._counts[stage.experiment.id, Evidence(stage.stage.generation, request.shadow, cohort, name)] += 1.0


def _wants_labels(request: SampledRequest) -> bool:
    assert request.origin.stage is not None
    return request.origin.stage.experiment.plan.metric.from_feedback


def kept_of_a_cohort(plan: ExperimentPlan, max_kept: int) -> int:
    """How many requests of a cohort are kept, so that all that are kept at once have no more than `max_kept`.

    Kept are cohorts that labels may still come for (see `experiment_judge.kept_since`), and those that nobody has had
    the store forget yet, who may come twice as late as he should, where another worker takes over.
    """
    # A second more, as that is told in whole ones.
    kept_s = plan.label_delay_s + TOLD_WITHIN_S + 2 * plan.cohort_s + 1 + 2 * FORGET_EVERY_S
    return max_kept // (int(kept_s // plan.cohort_s) + 1)
