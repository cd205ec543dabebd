"""The dispatcher: request in, assignment, and off to the assigned version's runner."""

import random
from collections.abc import Callable, Mapping

from dispatch.assignment import Assignment, Reason, assign
from dispatch.request import Prediction, PredictionRequest, UnknownVersion
from dispatch.state import RoutingState
from runners.job import Job
from runners.runner import Runner


class Dispatcher:
    """Holds the routing state of this worker; `state` is replaced whole to change it."""

    def __init__(
        self,
        runners: Mapping[str, Runner],
        aliases: Mapping[str, str],
        state: RoutingState,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.runners = runners
        self.state = state
        self._names = {**aliases, **{version: version for version in runners}}
        self._draw = draw

    def dispatch(self, request: PredictionRequest, done: Callable[[Job], None]) -> Prediction:
        """Assign and submit; `done` is called with the returned prediction when it has its scores or its error.

        Raises `UnknownVersion`, and what `Runner.submit` raises.
        """
        state = self.state
        name = request.environment or state.default_environment
        environment = state.environments.get(name)
        if environment is None:
            raise UnknownVersion("environment", name, list(state.environments))
        pinned = self.resolve(request.version) if request.version is not None else None
        assignment = assign(environment, self._draw(), pinned=pinned, split=request.split)
        runner = self.runners[assignment.version]
        if not runner.ready and assignment.reason is not Reason.PINNED and self.runners[environment.active].ready:
            assignment = Assignment(environment.active, Reason.FALLBACK)
            runner = self.runners[environment.active]
        prediction = Prediction(request, done, runner.card, assignment, state.generation)
        runner.submit(prediction)
        return prediction

    def resolve(self, name: str) -> str:
        """The version that a version's name or alias stands for. Raises `UnknownVersion`."""
        version = self._names.get(name)
        if version is None:
            raise UnknownVersion("version", name, list(self._names))
        return version
