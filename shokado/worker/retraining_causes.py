"""Causes for retraining, as this worker sees them: versions that have drifted, and those that failed a guardrail."""

from collections.abc import Callable, Mapping

from configuration.retraining_settings import RetrainingSettings
from shokado.dispatch.state import RoutingState
from shokado.drift.divergence import DriftVerdict
from shokado.drift.version_drift import DriftWindow
from shokado.monitoring.drift_watch import DriftWatch
from shokado.retraining.event import RetrainingCause, day_of

_FRESH_S = 86_400.0
"""How long after its end an experiment that failed a guardrail is a cause: nobody should be told of last month's."""


class RetrainingCauses:
    """Finds what there is to retrain for. Methods belong to the event loop."""

    def __init__(
        self,
        settings: RetrainingSettings,
        state: Callable[[], RoutingState | None],
        drift: DriftWatch | None,
        past_limits: Callable[[], Mapping[str, Mapping[str, str]]],
    ) -> None:
        """`past_limits` tells by environment which versions of a `weighted` split are past a limit, and why."""
        self._settings = settings
        self._state = state
        self._drift = drift
        self._past_limits = past_limits
        self._drifted_since: dict[str, float] = {}

    async def now(self, at: float) -> list[RetrainingCause]:
        """All causes, in Unix seconds `at`. Raises `StoreUnavailable`."""
        state = self._state()
        if state is None:
            return []
        found: list[RetrainingCause] = []
        if "guardrail" in self._settings.causes:
            found += self._broken(state, at)
            found += self._past(at)
        if "drift" in self._settings.causes and self._drift is not None:
            found += await self._drifted(self._drift, state, at)
        return found

    def _broken(self, state: RoutingState, at: float) -> list[RetrainingCause]:
        found = []
        for name, environment in state.environments.items():
            experiment = environment.experiment
            ended = experiment.conclusion if experiment is not None else None
            if experiment is None or ended is None or ended.at < at - _FRESH_S:
                continue
            for version, text in ended.broken.items():
                reason = f"experiment {experiment.id} in {name}: {text}"
                found.append(
                    RetrainingCause("guardrail", f"guardrail:{experiment.id}:{version}", version, reason, name)
                )
        return found

    def _past(self, at: float) -> list[RetrainingCause]:
        return [
            RetrainingCause(
                "guardrail",
                f"limit:{name}:{version}:{day_of(at)}",
                version,
                f"in {name} it is past a limit: {text}",
                name,
            )
            for name, past in self._past_limits().items()
            for version, text in past.items()
        ]

    async def _drifted(self, drift: DriftWatch, state: RoutingState, at: float) -> list[RetrainingCause]:
        """Versions with traffic that have drifted for long enough."""
        served = {version for one in state.environments.values() for version, share in one.traffic.items() if share}
        found, since = [], self._drifted_since
        for version in sorted(served.intersection(drift.versions)):
            told = await drift.told(version, DriftWindow(self._settings.drift_window))
            if told.verdict is not DriftVerdict.DRIFT:
                since.pop(version, None)
                continue
            # A clock that was set back begins anew.
            since[version] = min(since.get(version, at), at)
            if at - since[version] >= self._settings.drift_hold_s:
                reason = f"{', '.join(told.drifted)} drifted within the last {told.window}, by {told.rows:,} rows"
                found.append(RetrainingCause("drift", f"drift:{version}:{day_of(at)}", version, reason))
        for version in since.keys() - served:
            del since[version]
        return found
