"""The judge: looks at the experiments under way, ends those that are decided, and moves the split as they say.

In: what all workers counted, from the store. Out: one generation for each end, with its reason. One of all workers does
it, and should two, the store takes one: an experiment that has ended cannot end again.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf, isfinite

import numpy as np

from configuration.experiment_plan import AtEnd, ExperimentPlan
from shokado.dispatch.change import UNCHANGED, ChangeRefused, KnownVersions, SplitChange
from shokado.dispatch.experiment import Experiment, ExperimentConclusion, Result, VersionResult
from shokado.dispatch.experiment_change import renewed, with_artefacts, with_conclusion
from shokado.dispatch.request import UnknownVersion
from shokado.dispatch.state import RoutingState
from shokado.experiments.evidence_sender import TOLD_WITHIN_S
from shokado.experiments.experiment_evidence import StageEvidence, sums_of
from shokado.experiments.experiment_stages import fallbacks_of, pair_counts, policy_of, stages_of
from shokado.experiments.experiment_verdict import ExperimentJudgement, ExperimentVerdict, judge_experiment
from shokado.experiments.guardrail_state import GuardrailState
from shokado.experiments.pair_evidence import joined
from shokado.experiments.tuner import BY
from shokado.stores.follower import Follower
from shokado.stores.store import Action, GenerationConflict, StoreUnavailable

JUDGE_EVERY_S = 2.0
"""How often experiments are looked at."""
_PAIRS_AT_ONCE = 200
"""Some milliseconds of the event loop."""
_MAX_ROUNDS = 50
"""More are left to the next look, so that each experiment has its turn."""
_MAX_REASON_CHARACTERS = 500

logger = logging.getLogger("bentoml.shokado")


@dataclass(frozen=True, slots=True)
class ExperimentLook:
    """What is known of an experiment at one look."""

    judgement: ExperimentJudgement
    stages: tuple[StageEvidence, ...]
    fallbacks: Mapping[str, int]
    """By version, how many of its requests another one answered."""
    pairs: Mapping[str, int]
    """What became of the requests that a shadow was compared on; empty where the candidate is none."""

    @property
    def reason(self) -> str:
        """The judgement's, with how many fell back where it is invalid, and what a shadow was judged by."""
        if self.pairs:
            sampled, scored, failed = (self.pairs.get(name, 0) for name in ("sampled", "scored", "failed"))
            return f"{self.judgement.reason}; of {sampled:,} requests it scored {scored:,}, and {failed:,} failed"
        fell = ", ".join(f"{number:,} of {version}" for version, number in self.fallbacks.items() if number)
        if self.judgement.verdict is ExperimentVerdict.INVALID and fell:
            return f"{self.judgement.reason}; fallbacks: {fell}"
        return self.judgement.reason


class ExperimentJudge:
    """Ends experiments; to be asked every `JUDGE_EVERY_S`. Methods belong to the event loop."""

    def __init__(
        self,
        follower: Follower,
        leads: Callable[[], Awaitable[bool]],
        versions: Callable[[], Awaitable[KnownVersions]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`leads` says whether this worker is the one that judges; `versions` are those of now."""
        self._follower = follower
        self._leads = leads
        self._versions = versions
        self._clock = clock

    async def look_at_all(self) -> None:
        """One round. Leaves out what cannot be done now: the store is away, or a version is not ready."""
        state = self._follower.state
        running = state.running if state is not None else {}
        with contextlib.suppress(StoreUnavailable):
            if running and await self._leads():
                for environment, experiment in running.items():
                    await self._judge_alone(environment, experiment)

    async def _judge_alone(self, name: str, experiment: Experiment) -> None:
        """What fails for one of them does not keep the others from their end. Raises `StoreUnavailable`."""
        try:
            await self._judge(name, experiment)
        except StoreUnavailable:
            raise
        except Exception:
            logger.exception("experiment %s was not judged", experiment.id)

    async def _judge(self, name: str, experiment: Experiment) -> None:
        versions = await self._versions()
        state = self._follower.state
        artefacts = renewed(state, experiment, versions) if state is not None else {}
        if artefacts:
            # The next look sees the stage that this makes.
            await self._stage_anew(name, experiment, artefacts)
            return
        await join_pairs(experiment, self._follower)
        look = await look_at(experiment, self._follower, self._clock())
        if look.judgement.verdict is ExperimentVerdict.RUNNING:
            return
        conclusion = conclude(experiment, look, self._clock())
        split = split_at_end(experiment, conclusion)

        def change(state: RoutingState) -> RoutingState:
            return with_conclusion(state, name, experiment, conclusion, split, versions)

        why = f"{conclusion.result} by experiment {experiment.id}: {conclusion.reason}"[:_MAX_REASON_CHARACTERS]
        try:
            await self._follower.change(change, by=BY, action=Action.CONCLUDE, why=why)
        except (ChangeRefused, UnknownVersion, GenerationConflict) as refusal:
            # It is over, its split was changed, or who should get the traffic is not ready now: the next look sees.
            logger.info("experiment %s was not concluded: %s", experiment.id, refusal)

    async def _stage_anew(self, name: str, experiment: Experiment, artefacts: Mapping[str, str]) -> None:
        """Compare by itself what versions are now, since they are served with other artefacts."""
        differing = [version for version, digest in artefacts.items() if not digest]
        why = f"{' and '.join(artefacts)} is another artefact: experiment {experiment.id} goes on in a new stage"
        if differing:
            why = (
                f"workers have different artefacts as {' and '.join(differing)}: experiment {experiment.id} compares "
                "nothing until they have the same"
            )

        def change(state: RoutingState) -> RoutingState:
            return with_artefacts(state, name, experiment, artefacts)

        try:
            await self._follower.change(change, by=BY, action=Action.EXPERIMENT, why=why)
        except (ChangeRefused, GenerationConflict) as refusal:
            logger.info("experiment %s has no new stage: %s", experiment.id, refusal)


async def look_at(experiment: Experiment, follower: Follower, now: float) -> ExperimentLook:
    """What is known of an experiment now, in Unix seconds. Raises `StoreUnavailable`."""
    read = follower.store.evidence
    everything = await follower.ask(read, experiment.id, inf)
    due = await follower.ask(read, experiment.id, due_before(experiment.plan, now))
    stages = stages_of(experiment, everything, due) or [StageEvidence({}, {})]
    policy, ended = policy_of(experiment.plan, everything), now >= experiment.ends_at
    judge = partial(judge_experiment, policy, experiment.control, experiment.candidates, stages, ended=ended)
    # Some milliseconds, which predictions should not wait for.
    judgement = await asyncio.to_thread(judge)
    return ExperimentLook(judgement, tuple(stages), fallbacks_of(everything), pair_counts(everything))


async def join_pairs(experiment: Experiment, follower: Follower) -> None:
    """Make evidence of the pairs that have met since. Raises `StoreUnavailable`."""
    if not experiment.is_shadowed or not experiment.plan.metric.from_feedback:
        return
    for _ in range(_MAX_ROUNDS):
        met = await follower.ask(follower.store.met_pairs, experiment.id, _PAIRS_AT_ONCE)
        if not met:
            return
        pairs = [joined(experiment, pair) for pair in met]
        await follower.ask(follower.store.join_pairs, experiment.id, pairs)


def due_before(plan: ExperimentPlan, now: float) -> float:
    """Before when, in Unix seconds, a cohort must have begun for the labels of all of it to have come by `now`."""
    return now - plan.label_delay_s - plan.cohort_s - TOLD_WITHIN_S


def pairs_to_keep(state: RoutingState, now: float) -> dict[str, int]:
    """The experiments that pairs may still be joined for, by id: from which cohort on, in Unix seconds."""
    return {one.id: kept_since(one.plan, now) for one in state.running.values() if one.is_shadowed}


def kept_since(plan: ExperimentPlan, now: float) -> int:
    """The cohort from which on pairs may still be joined at `now`, both in Unix seconds."""
    return int(due_before(plan, now)) - plan.cohort_s


def conclude(experiment: Experiment, look: ExperimentLook, at: float) -> ExperimentConclusion:
    """The end that a verdict makes."""
    judgement = look.judgement
    broken = {
        candidate: "; ".join(one.text for one in found.guardrails if one.state is GuardrailState.BROKEN)
        for candidate, found in judgement.candidates.items()
    }
    return ExperimentConclusion(
        at,
        Result(judgement.verdict),
        look.reason,
        judgement.winner,
        results_of(experiment, look),
        {candidate: texts for candidate, texts in broken.items() if texts},
    )


def results_of(experiment: Experiment, look: ExperimentLook) -> dict[str, VersionResult]:
    """What was seen of each version."""
    metric, results = experiment.plan.metric, dict[str, VersionResult]()
    for version in experiment.versions:
        sums = sums_of(metric, version, look.stages)
        count, total = float(np.sum(sums.count)), float(np.sum(sums.total))
        assigned = sum(stage.of(version).units for stage in look.stages)
        candidate = look.judgement.candidates.get(version)
        effect = candidate.effect if candidate is not None else None
        results[version] = VersionResult(
            assigned=round(assigned),
            observations=round(count),
            mean=total / count if count else None,
            effect=_finite(effect.estimate) if effect is not None else None,
            low=_finite(effect.low) if effect is not None else None,
            high=_finite(effect.high) if effect is not None else None,
        )
    return results


def split_at_end(experiment: Experiment, conclusion: ExperimentConclusion) -> SplitChange | None:
    """What becomes of the split; None where it stays as it is."""
    if experiment.is_shadowed and not experiment.stages[-1].shares:
        # Somebody took the shadow off, or made another one, or took the control's traffic away: that stays.
        return None
    at_end = experiment.plan.at_end
    match conclusion.result:
        case Result.PROMOTE if at_end is AtEnd.PROMOTE:
            chosen = conclusion.winner
        case Result.ROLLBACK | Result.INVALID if at_end is not AtEnd.TELL:
            chosen = experiment.control
        case _:
            chosen = None
    if chosen is None:
        return None
    if experiment.is_shadowed and chosen == experiment.control:
        # It has its traffic, and others may have theirs.
        return SplitChange(shadow=None)
    shadow = None if experiment.is_shadowed else UNCHANGED
    return SplitChange(
        weights={version: float(version == chosen) for version in experiment.versions}, active=chosen, shadow=shadow
    )


def _finite(number: float) -> float | None:
    return number if isfinite(number) else None
