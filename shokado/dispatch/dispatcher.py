"""The dispatcher: request in, assignment, and off to the assigned version's runner.

Where that is not ready, or fails as a whole, the environment's active version answers: its assignment says `FALLBACK`.
"""

import contextlib
import random
import time
from collections.abc import Callable, Iterable, Mapping
from math import inf

from runners.batching.job import Job
from runners.errors import NotReady, Overloaded, Unreachable
from runners.inputs.faults import InputFault
from runners.inputs.rows import RequestRows, RowFormat, RowReader
from runners.inputs.union import OpenRows, RowForm
from runners.runner import Runner
from shokado.dispatch.assignment import assign
from shokado.dispatch.cache import Cache
from shokado.dispatch.experiment import CountedStage
from shokado.dispatch.fault import FELL_BACK
from shokado.dispatch.observers import Observers
from shokado.dispatch.reason import Reason
from shokado.dispatch.request import Origin, Prediction, PredictionRequest, UnknownVersion
from shokado.dispatch.seen_rows import SeenRows
from shokado.dispatch.state import Environment, RoutingState

FULL_FOR_S = 0.001
"""How long requests are refused unread once every version has refused."""

Target = tuple[Origin, Runner]
"""Who answers, and as what."""


class Dispatcher:
    """Holds the routing state of this worker and its runners; `adopt` replaces both in one piece."""

    def __init__(
        self,
        runners: Mapping[str, Runner],
        aliases: Mapping[str, str],
        state: RoutingState,
        cache: Cache | None = None,
        observers: Observers | None = None,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`cache` answers rows that were scored before; None: every request goes to its runner.

        `observers` hear of requests that were assigned to a version that was not ready: the active one gets them.
        """
        self.full_until = -inf
        """Time of the clock before which nothing can be accepted, whichever version it is for: refuse it unread."""
        self.overload = Overloaded(0.0)
        """The refusal until then, which says when to come back."""
        self.seen = SeenRows()
        """What requests lack, while versions differ in their features."""
        self.row_format: RowReader | None = None
        """How requests are read, as versions may answer them; None where nobody has said it."""
        self._clock = clock
        self.aliases = aliases
        self._cache = cache
        self._draw = draw
        self._observers = observers
        self.adopt(state, runners)

    def adopt(self, state: RoutingState, runners: Mapping[str, Runner], known: Iterable[str] = ()) -> None:
        """Route by `state` from the next request on. `runners` must not be changed afterwards.

        `known` names versions that exist without being in memory.
        """
        self.state = state
        self.runners = runners
        self.shadowed = any(environment.shadow for environment in state.environments.values())
        self._names = {**self.aliases, **{version: version for version in (*known, *runners)}}
        self._routes = {
            name: (environment, self._targets(environment)) for name, environment in state.environments.items()
        }
        self._uncounted = {
            name: uncounted
            for name, environment in state.environments.items()
            if (uncounted := self._uncounted_target(environment)) is not None
        }

    def dispatch(self, request: PredictionRequest, done: Callable[[Job], None]) -> Prediction:
        """Assign and submit; `done` is called with the returned prediction when it has its scores or its error.

        Raises `UnknownVersion`, `InputFault` for rows that are not the assigned version's, which no other one is given
        then, and what `Runner.submit` raises.
        """
        route = self._routes.get(request.environment or self.state.default_environment)
        if route is None:
            raise self._unknown_environment(request.environment)
        environment, targets = route
        pinned = self.resolve(request.version) if request.version is not None else None
        version, reason = assign(environment, self._draw(), request.unit, pinned=pinned, split=request.split)
        target, passed_over = targets.get(version), ""
        if (target is None or not target[1].ready) and reason is not Reason.PINNED:
            active = self._instead(environment, targets, reason)
            if active is not None and active[1].ready:
                target, reason, passed_over = active, Reason.FALLBACK, version
                if self._observers is not None:
                    self._observers.failed(None, version, FELL_BACK)
        if target is None:
            raise NotReady(f"version {version} is not in memory")
        origin, runner = target
        rows = request.rows
        if type(rows) is OpenRows:
            prediction = self._packed(rows, request, done, environment, origin, runner, reason)
        else:
            prediction = Prediction(
                rows,
                request.row_count,
                done,
                request.deadline,
                trace=request.trace,
                origin=origin,
                reason=reason,
                unit=request.unit,
            )
        if passed_over:
            prediction.passed_over = passed_over
        if self._cache is None:
            try:
                runner.submit(prediction)
            except Overloaded as overload:
                self._note(overload)
                raise
        else:
            self._cache.submit(prediction, runner)
        return prediction

    def fall_back(self, failed: Prediction, done: Callable[[Job], None]) -> Prediction | None:
        """Submit what its version failed to answer to the active one, as if that version had not been ready.

        Gives the new prediction; None where the error stands: the version was pinned or is the active one itself, the
        rows are at fault or not the active one's, or it is too late. Raises what `Runner.submit` raises.
        """
        if not isinstance(failed.error, Unreachable) or failed.reason is Reason.PINNED:
            return None
        environment, targets = self._routes.get(failed.origin.environment, (None, {}))
        active = self._instead(environment, targets, failed.reason) if environment is not None else None
        if active is None or active[0].version == failed.version or not active[1].ready:
            return None
        origin, runner = active
        rows = failed.rows_as(origin.row_format)
        if rows is None:
            return None
        prediction = Prediction(
            rows,
            failed.row_count,
            done,
            failed.deadline,
            trace=failed.trace,
            origin=origin,
            reason=Reason.FALLBACK,
            otherwise=failed.otherwise,
            unit=failed.unit,
            passed_over=failed.passed_over or failed.version,
        )
        if self._cache is None:
            runner.submit(prediction)
        else:
            self._cache.submit(prediction, runner)
        return prediction

    def resolve(self, name: str) -> str:
        """The version that a version's name or alias stands for. Raises `UnknownVersion`."""
        version = self._names.get(name)
        if version is None:
            raise UnknownVersion("version", name, list(self._names))
        return version

    def _targets(self, environment: Environment) -> dict[str, Target]:
        """By version, who answers, and as what."""
        experiment, generation = environment.running, self.state.generation
        stage = CountedStage(experiment) if experiment is not None else None
        shares = dict(environment.shares)
        return {
            version: (Origin(version, environment.name, generation, runner.card, stage, shares), runner)
            for version, runner in self.runners.items()
        }

    def _uncounted_target(self, environment: Environment) -> Target | None:
        """The active version, as it answers what no experiment counts."""
        runner = self.runners.get(environment.active)
        if runner is None:
            return None
        return Origin(environment.active, environment.name, self.state.generation, runner.card), runner

    def _instead(self, environment: Environment, targets: Mapping[str, Target], reason: Reason) -> Target | None:
        """The active version, as it answers what another one was assigned, for this reason, and cannot."""
        if reason is Reason.OUTSIDE_LAYER:
            return self._uncounted.get(environment.name)
        return targets.get(environment.active)

    def _packed(
        self,
        rows: OpenRows,
        request: PredictionRequest,
        done: Callable[[Job], None],
        environment: Environment,
        origin: Origin,
        runner: Runner,
        reason: Reason,
    ) -> Prediction:
        """The prediction, with the rows as its version takes them. Raises `InputFault`."""
        pinned = reason is Reason.PINNED
        if not pinned:
            self.seen.note(environment.name, rows)
        own, row_count = rows.packed_for(origin.version, pinned=pinned)
        otherwise: dict[RowFormat, RequestRows] = {}
        # Without names, a request that names a version has that one's order.
        if not pinned or rows.form is RowForm.NAMED:
            for version in filter(None, (environment.active, environment.shadow)):
                other = self.runners.get(version)
                if other is not None and not other.row_format.packs_like(runner.row_format):
                    with contextlib.suppress(InputFault):
                        otherwise[other.row_format], _ = rows.packed_for(version, pinned=False)
        return Prediction(
            own,
            row_count,
            done,
            request.deadline,
            trace=request.trace,
            origin=origin,
            reason=reason,
            otherwise=otherwise,
            unit=request.unit,
        )

    def _note(self, overload: Overloaded) -> None:
        """Remember a refusal that everybody would get; only for a moment, as a batch may come back at any time."""
        if all(runner.full for runner in self.runners.values() if runner.ready):
            self.full_until = self._clock() + FULL_FOR_S
            self.overload = Overloaded(overload.expected_wait_s, overload.retry_after_s)

    def _unknown_environment(self, name: str | None) -> Exception:
        if not self._routes:
            return NotReady("the routing is not known yet: the store has not been reached since the server started")
        return UnknownVersion("environment", name or self.state.default_environment, list(self._routes))
