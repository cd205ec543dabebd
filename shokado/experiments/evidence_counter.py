"""The evidence counter: what this worker answers and fails is counted for the experiments under way.

In: how predictions ended, as it is told. Out: batches for the store, every few seconds. A request counts for the
version that answered it, so one that was passed over lacks it, which the check of the shares finds; what became of it
counts for the version that it was assigned to.

What an experiment counts whose candidate is a shadow, `shadow_sampler` does.

Under `hash` a unit's first request in a stage counts, of a sample of units where there are many; otherwise each does.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from math import inf

from configuration.experiment_policy import ExperimentMetric
from shokado.dispatch.experiment import CountedStage
from shokado.dispatch.fault import FELL_BACK, Fault
from shokado.dispatch.observers import Failure, PredictionObserver
from shokado.dispatch.reason import Reason
from shokado.dispatch.request import Origin, Prediction
from shokado.dispatch.state import RoutingState
from shokado.experiments.evidence_sender import EvidenceSender, MakeBatch
from shokado.experiments.experiment_counts import (
    ASSIGNED,
    ERRORS,
    FALLBACKS,
    MAX_ASSIGNED_UNITS,
    REQUESTS,
    SLOW,
    assigned_scope,
    sums_named,
)
from shokado.stores.evidence import Evidence, EvidenceBatch, Sighting, level_of
from shokado.stores.follower import Follower

_KNOWN_UNITS = 16_384
"""Units that have asked of late: who comes back is not hashed again."""
_BY_SPLIT = (Reason.SPLIT, Reason.STICKY, Reason.FALLBACK)
_ANSWERS, _MS, _SQUARED_MS = sums_named(ExperimentMetric.LATENCY)


class _Sum:
    """What became of requests that one version was given."""

    __slots__ = ("answered", "cancelled", "failed", "ms", "slow", "squares")

    def __init__(self) -> None:
        self.answered = self.slow = self.failed = self.cancelled = 0
        self.ms = self.squares = 0.0


_Sums = defaultdict[tuple[Origin, str, int], _Sum]
"""What was counted of each version, in place of which other one, in which cohort."""
_Units = dict[tuple[str, bytes], tuple[Origin, str, int, _Sum]]
"""The same of the first request of each unit, by scope and unit."""


class EvidenceCounter(PredictionObserver, EvidenceSender):
    """Counts on behalf of one worker. Methods belong to the event loop."""

    def __init__(
        self, follower: Follower, worker: str, slow_ms: float = inf, clock: Callable[[], float] = time.time
    ) -> None:
        """`worker` names this process, and no other. What takes longer than `slow_ms` is slow."""
        super().__init__(follower, clock)
        self._worker = worker
        self._slow_ms = slow_ms
        self._counts = False
        self._sums: _Sums = defaultdict(_Sum)
        self._units: _Units = {}
        """First requests of units, by scope and unit."""
        self._known: set[tuple[int, str]] = set()
        self._lowest: dict[str, int] = {}
        """Levels below which units are not told, by scope: so many came that the store lets go of them."""

    def adopt(self, state: RoutingState) -> None:
        """Count for the experiments that are under way by this routing."""
        running = state.running.values()
        self._counts = bool(running)
        scopes = {assigned_scope(experiment.stages[-1].generation) for experiment in running}
        if scopes != self._lowest.keys():
            self._known.clear()
            self._lowest = {scope: self._lowest.get(scope, 0) for scope in scopes}

    def answered(self, version: str, predictions: Sequence[Prediction]) -> None:  # noqa: ARG002  # their origins say it
        if not self._counts:
            return
        now = self._clock()
        for prediction in predictions:
            if (found := self._sum_of(prediction, now)) is not None:
                ms = prediction.latency_s * 1000
                found.answered += 1
                found.ms += ms
                found.squares += ms * ms
                found.slow += ms > self._slow_ms

    def failed(self, failures: Sequence[Failure]) -> None:
        if not self._counts:
            return
        now = self._clock()
        for failure in failures:
            # What fell back goes on.
            if failure.prediction is None or failure.kind == FELL_BACK:
                continue
            if (found := self._sum_of(failure.prediction, now)) is not None:
                # What the client got wrong is no failure of the version's, nor an answer.
                if failure.fault is Fault.CLIENT:
                    found.cancelled += 1
                else:
                    found.failed += 1

    def cancelled(self, version: str, predictions: Sequence[Prediction]) -> None:  # noqa: ARG002  # their origins say it
        if not self._counts:
            return
        now = self._clock()
        for prediction in predictions:
            if (found := self._sum_of(prediction, now)) is not None:
                found.cancelled += 1

    def _take(self) -> MakeBatch | None:
        sums, units = self._sums, self._units
        if not sums and not units:
            return None
        self._sums, self._units = defaultdict(_Sum), {}
        return partial(self._batch_of, sums, units)

    def _sum_of(self, prediction: Prediction, now: float) -> _Sum | None:
        """Where the end of a prediction is to be counted; None where it is not."""
        stage = prediction.origin.stage
        if stage is None or stage.is_shadowed or prediction.reason not in _BY_SPLIT:
            return None
        if stage.is_sticky:
            return self._first_of(prediction, stage, now)
        return self._sums[prediction.origin, prediction.passed_over, stage.cohort_of(now)]

    def _first_of(self, prediction: Prediction, stage: CountedStage, now: float) -> _Sum | None:
        """The same for the first request of a unit in a stage; None for all others."""
        generation = stage.stage.generation
        known = generation, prediction.unit
        if known in self._known:
            return None
        if len(self._known) >= _KNOWN_UNITS:
            self._known.clear()
        self._known.add(known)
        unit, scope = stage.unit_bytes(prediction.unit), assigned_scope(generation)
        if level_of(unit) < self._lowest.get(scope, 0) or (scope, unit) in self._units:
            return None
        found = _Sum()
        self._units[scope, unit] = prediction.origin, prediction.passed_over, stage.cohort_of(now), found
        if len(self._units) > MAX_ASSIGNED_UNITS:
            self._let_go(scope)
        return found

    def _let_go(self, scope: str) -> None:
        """Keep only units of a higher level, as the store will have to."""
        self._lowest[scope] = lowest = self._lowest.get(scope, 0) + 1
        self._units = {
            (of, unit): seen for (of, unit), seen in self._units.items() if of != scope or level_of(unit) >= lowest
        }

    def _batch_of(self, sums: _Sums, units: _Units, number: int) -> EvidenceBatch:
        counts: defaultdict[tuple[str, Evidence], float] = defaultdict(float)
        for (origin, passed_over, cohort), found in sums.items():
            for of, value in _evidence(origin, passed_over, cohort, found).items():
                counts[_experiment_of(origin), of] += value
        sightings = [
            Sighting(
                _experiment_of(origin), scope, unit, MAX_ASSIGNED_UNITS, _evidence(origin, passed_over, cohort, found)
            )
            for (scope, unit), (origin, passed_over, cohort, found) in units.items()
        ]
        return EvidenceBatch(self._worker, number, dict(counts), sightings)


def _experiment_of(origin: Origin) -> str:
    assert origin.stage is not None
    return origin.stage.experiment.id


def _evidence(origin: Origin, passed_over: str, cohort: int, found: _Sum) -> dict[Evidence, float]:
    """What requests add that were given to one version, perhaps in place of another."""
    assert origin.stage is not None
    stage = origin.stage.stage.generation
    requests = found.answered + found.failed
    ours: dict[str, float] = {ASSIGNED: requests + found.cancelled}
    theirs: dict[str, float] = {REQUESTS: requests, ERRORS: found.failed}
    if passed_over:
        theirs[FALLBACKS] = requests
    else:
        ours |= {_ANSWERS: found.answered, _MS: found.ms, _SQUARED_MS: found.squares, SLOW: found.slow}
    return {
        Evidence(stage, version, cohort, name): number
        for version, sums in ((origin.version, ours), (passed_over or origin.version, theirs))
        for name, number in sums.items()
        if number
    }
