"""The tuner: moves the split of the environments that have the `weighted` strategy, from one of all workers.

In: what all workers counted, from the store. Out: new generations, which say in the history what they came from.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

import numpy as np

from configuration.settings import Settings, Strategy
from shokado.dispatch.change import ConflictingChange, KnownVersions, SplitChange, with_split
from shokado.dispatch.request import UnknownVersion
from shokado.dispatch.state import Environment, RoutingState
from shokado.experiments.figures import Tallies
from shokado.experiments.thompson import Criterion, Evidence, criterion_of, decayed, estimate, next_weights
from shokado.stores.follower import Follower
from shokado.stores.store import Action, GenerationConflict, StoreUnavailable

logger = logging.getLogger("bentoml.shokado")

BY = "shokado"
"""The name that the history has for whoever makes these changes."""
_HALF_LIVES = 10
"""What is older weighs less than a thousandth."""


class Tuner:
    """The task that moves the split of `weighted` environments. Methods belong to the event loop."""

    def __init__(
        self,
        follower: Follower,
        leads: Callable[[], Awaitable[bool]],
        versions: Callable[[], Awaitable[KnownVersions]],
        settings: Settings,
        random: np.random.Generator,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`leads` says whether this worker is the one that tunes; `versions` are those of now."""
        self._follower = follower
        self._leads = leads
        self._versions = versions
        self._settings = settings.weighted
        self._lookback_s = min(_HALF_LIVES * settings.weighted.half_life_s, settings.feedback.window_hours * 3600)
        self._random = random
        self._clock = clock

    async def run(self) -> None:
        """Update again and again until cancelled."""
        while True:
            await asyncio.sleep(self._settings.update_every_s)
            try:
                await self.update()
            except Exception:
                logger.exception("the weighted split was not updated")

    async def update(self) -> None:
        """One round. Leaves out what cannot be done now: the store is away, or somebody else changed the routing."""
        names = [name for name, environment in self._environments().items() if _is_tuned(environment)]
        with contextlib.suppress(StoreUnavailable):
            if not names or not await self._leads():
                return
            now = self._clock()
            tallies = await self._follower.ask(self._follower.store.tallies, now - self._lookback_s)
            for name in names:
                with contextlib.suppress(GenerationConflict):
                    await self._tune(name, tallies, now)

    async def _tune(self, name: str, tallies: Tallies, now: float) -> None:
        state = self._follower.state
        environment = self._environments().get(name)
        if state is None or environment is None or not _is_tuned(environment):
            return
        # Some milliseconds, which predictions should not wait for.
        evidence = await asyncio.to_thread(decayed, tallies, name, now, self._settings.half_life_s)
        weights = await asyncio.to_thread(next_weights, environment, evidence, self._settings, self._random)
        if weights is None:
            return

        versions = await self._versions()

        def change(state: RoutingState) -> RoutingState:
            return with_split(state, name, SplitChange(weights=weights), versions)

        why = explain(environment, evidence)
        try:
            await self._follower.change(change, by=BY, action=Action.WEIGHTED, why=why, if_match=state.generation)
        except (ConflictingChange, UnknownVersion) as refusal:
            # A version of the split is not ready now.
            logger.info("environment %s was not updated: %s", name, refusal)

    def _environments(self) -> dict[str, Environment]:
        state = self._follower.state
        return dict(state.environments) if state is not None else {}


def explain(environment: Environment, evidence: Evidence) -> str:
    """Why the split moves, for the history: how each version with traffic was observed to do, the best first."""
    criterion = criterion_of(evidence, list(environment.shares))
    if criterion is None:
        return ""
    found = {version: estimate(evidence, criterion, version) for version in environment.shares}
    observed = {version: value for version, value in found.items() if value is not None}
    ranked = sorted(observed, key=lambda version: observed[version], reverse=criterion is not Criterion.SQUARED_ERROR)
    first, *others = [f"{version} {observed[version]:.3g}" for version in ranked] + [
        f"{version} unobserved" for version in found if version not in observed
    ]
    return f"{first} against {' and '.join(others)} by {criterion}"


def _is_tuned(environment: Environment) -> bool:
    is_weighted = environment.strategy is Strategy.WEIGHTED and environment.enabled and len(environment.shares) > 1
    # An experiment compares at fixed shares.
    return is_weighted and environment.running is None
