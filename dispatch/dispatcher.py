"""The dispatcher: request in, assignment, and off to the assigned version's runner."""

import random
from collections.abc import Callable, Iterable, Mapping

from dispatch.assignment import Assignment, Reason, assign
from dispatch.cache import Cache
from dispatch.request import Prediction, PredictionRequest, UnknownVersion
from dispatch.state import RoutingState
from runners.errors import NotReady
from runners.job import Job
from runners.runner import Runner


class Dispatcher:
    """Holds the routing state of this worker and its runners; `adopt` replaces both in one piece."""

    def __init__(
        self,
        runners: Mapping[str, Runner],
        aliases: Mapping[str, str],
        state: RoutingState,
        cache: Cache | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`cache` answers rows that were scored before; none: every request goes to its runner."""
        self.aliases = aliases
        self._cache = cache
        self._draw = draw
        self.adopt(state, runners)

    def adopt(self, state: RoutingState, runners: Mapping[str, Runner], known: Iterable[str] = ()) -> None:
        """Route by `state` from the next request on. `runners` must not be changed afterwards.

        `known` names versions that exist without being in memory.
        """
        self.state = state
        self.runners = runners
        self.shadowed = any(environment.shadow for environment in state.environments.values())
        self._names = {**self.aliases, **{version: version for version in (*known, *runners)}}

    def dispatch(self, request: PredictionRequest, done: Callable[[Job], None]) -> Prediction:
        """Assign and submit; `done` is called with the returned prediction when it has its scores or its error.

        Raises `UnknownVersion`, and what `Runner.submit` raises.
        """
        state = self.state
        name = request.environment or state.default_environment
        environment = state.environments.get(name)
        if environment is None:
            if not state.environments:
                raise NotReady("the routing is not known yet: the store has not been reached since the server started")
            raise UnknownVersion("environment", name, list(state.environments))
        pinned = self.resolve(request.version) if request.version is not None else None
        assignment = assign(environment, self._draw(), request.unit, pinned=pinned, split=request.split)
        runner = self.runners.get(assignment.version)
        if (runner is None or not runner.ready) and assignment.reason is not Reason.PINNED:
            active = self.runners.get(environment.active)
            if active is not None and active.ready:
                assignment, runner = Assignment(environment.active, Reason.FALLBACK), active
        if runner is None:
            raise NotReady(f"version {assignment.version} is not in memory")
        prediction = Prediction(request, done, runner.card, assignment, name, state.generation)
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
