"""The tuner: moves the split of the environments that have the `weighted` strategy, from one of all workers.

In: what all workers counted, from the store. Out: new generations, which say in the history what they came from, and
which versions are past a limit.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

import numpy as np

from configuration.settings import Settings, Strategy
from runners.log_throttle import LogThrottle
from shokado.dispatch.change import ConflictingChange, KnownVersions, SplitChange, with_split
from shokado.dispatch.request import UnknownVersion
from shokado.dispatch.state import Environment, RoutingState
from shokado.experiments.figures import Tallies
from shokado.experiments.thompson import HALF_LIVES, Criterion, Evidence, criterion_of, decayed, estimate, next_weights
from shokado.experiments.weighted_guardrails import findings, lookback_s, past_limits
from shokado.stores.follower import Follower
from shokado.stores.store import Action, GenerationConflict

logger = logging.getLogger("bentoml.shokado")

BY = "shokado"
"""The name that the history has for whoever makes these changes."""
_TELL_AGAIN_S = 600.0
"""How often it is logged that nothing can be done."""


class Tuner:
    """Moves the split of `weighted` environments. Methods belong to the event loop."""

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
        wanted_s = max(HALF_LIVES * settings.weighted.half_life_s, lookback_s(settings.weighted))
        self._lookback_s = min(wanted_s, settings.feedback.window_hours * 3600)
        self._random = random
        self._clock = clock
        self._throttle = LogThrottle(window_s=_TELL_AGAIN_S)
        self.past: dict[str, Mapping[str, str]] = {}
        """Which versions of each environment were past a limit when it was last looked at, and why."""

    async def update(self) -> None:
        """One round. Leaves out environments whose routing somebody else changed. Raises `StoreUnavailable`."""
        names = [name for name, environment in self._environments().items() if _is_tuned(environment)]
        if not names or not await self._leads():
            self.past.clear()
            return
        self.past = {name: past for name, past in self.past.items() if name in names}
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
        found = await asyncio.to_thread(findings, tallies, list(environment.shares), self._settings, now)
        self.past[name] = past = past_limits(found)
        self._tell(name, environment, past)
        weights = await asyncio.to_thread(next_weights, environment, evidence, self._settings, self._random, past)
        if weights is None:
            return

        versions = await self._versions()

        def change(state: RoutingState) -> RoutingState:
            return with_split(state, name, SplitChange(weights=weights), versions)

        why = explain(environment, evidence, past)
        try:
            await self._follower.change(change, by=BY, action=Action.WEIGHTED, why=why, if_match=state.generation)
        except (ConflictingChange, UnknownVersion) as refusal:
            # A version of the split is not ready now.
            logger.info("environment %s was not updated: %s", name, refusal)

    def _tell(self, name: str, environment: Environment, past: Mapping[str, str]) -> None:
        """Log that all versions are past a limit, which nobody but people can mend."""
        if past.keys() != environment.shares.keys():
            self._throttle.is_over(name)
        elif self._throttle.left_out(name) is not None:
            texts = "; ".join(f"{version}: {text}" for version, text in past.items())
            logger.error("the split of environment %s stays, as all of its versions are past a limit: %s", name, texts)

    def _environments(self) -> dict[str, Environment]:
        state = self._follower.state
        return dict(state.environments) if state is not None else {}


def explain(environment: Environment, evidence: Evidence, past: Mapping[str, str] = MappingProxyType({})) -> str:
    """Why the split moves, for the history: who is past a limit, and how each other version with traffic was observed
    to do, the best first.
    """
    held = [f"{version} has its least share for {text}" for version, text in past.items()]
    others = [version for version in environment.shares if version not in past]
    criterion = criterion_of(evidence, others)
    if criterion is None:
        return "; ".join(held)
    found = {version: estimate(evidence, criterion, version) for version in others}
    observed = {version: value for version, value in found.items() if value is not None}
    ranked = sorted(observed, key=lambda version: observed[version], reverse=criterion is not Criterion.SQUARED_ERROR)
    first, *rest = [f"{version} {observed[version]:.3g}" for version in ranked] + [
        f"{version} unobserved" for version in found if version not in observed
    ]
    compared = [f"{first} against {' and '.join(rest)} by {criterion}"] if rest else []
    return "; ".join(held + compared)


def _is_tuned(environment: Environment) -> bool:
    is_weighted = environment.strategy is Strategy.WEIGHTED and environment.enabled and len(environment.shares) > 1
    # An experiment compares at fixed shares.
    return is_weighted and environment.running is None
