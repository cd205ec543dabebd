"""Changes of the routing state, pure: a state and what is wanted go in, the next state comes out, or a refusal.

The next state has the next generation. Whoever keeps it (`stores`) makes sure that nobody else was faster.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from configuration.settings import MAX_SALT_CHARACTERS, Strategy, lone_weight
from runners.version_state import VersionState
from shokado.dispatch.experiment import Experiment
from shokado.dispatch.request import UnknownVersion
from shokado.dispatch.seen_rows import Shortfall
from shokado.dispatch.state import Environment, Load, RoutingState

UNCHANGED: Any = object()
"""Stands for a field that a change leaves alone, where None means something."""


class ChangeRefused(Exception):
    """The change cannot be made; the message says what is wrong with which part of it."""

    def __init__(self, code: str, message: str, **detail: Any) -> None:
        super().__init__(message)
        self.code = code
        self.detail = detail


class InvalidChange(ChangeRefused):
    """A change that makes no sense by itself."""


class ConflictingChange(ChangeRefused):
    """A change that makes sense, but not as things stand: a version is not ready, or has traffic."""


@dataclass(frozen=True, slots=True)
class KnownVersions:
    """The versions as a change sees them, and what their aliases stand for."""

    states: Mapping[str, str]
    """How each version is: a `VersionState`, or in words how it is elsewhere."""
    aliases: Mapping[str, str]
    artefacts: Mapping[str, str] = field(default_factory=dict)
    """The digest of what each version is; empty where workers differ."""
    shortfalls: Mapping[tuple[str, str], Shortfall] = field(default_factory=dict)
    """What versions need and the traffic lacks, by environment and version, where that is to be heeded."""

    def resolve(self, name: str) -> str:
        """Raises `UnknownVersion`."""
        version = self.aliases.get(name, name)
        if version not in self.states:
            raise UnknownVersion("version", name, [*self.states, *self.aliases])
        return version

    def ready(self, name: str) -> str:
        """The version behind a name. Raises `UnknownVersion`, and `ConflictingChange` unless it is ready."""
        version = self.resolve(name)
        if self.states[version] != VersionState.READY:
            message = f"version {version} is {self.states[version]}, so it cannot be given traffic"
            raise ConflictingChange("version_not_ready", message, version=version, state=self.states[version])
        return version


@dataclass(frozen=True, slots=True)
class SplitChange:
    """What to change in an environment; a field that is None (for `shadow`: `UNCHANGED`) stays as it is."""

    weights: Mapping[str, float] | None = None
    strategy: Strategy | None = None
    enabled: bool | None = None
    salt: str | None = None
    shadow: str | None = UNCHANGED
    active: str | None = None

    @property
    def deals_anew(self) -> bool:
        """Whether it says who gets what."""
        return any(value is not None for value in (self.weights, self.strategy, self.enabled, self.salt))


def find_environment(state: RoutingState, name: str | None) -> Environment:
    """The environment of that name, or the default one. Raises `UnknownVersion`."""
    wanted = name or state.default_environment
    environment = state.environments.get(wanted)
    if environment is None:
        raise UnknownVersion("environment", wanted, list(state.environments))
    return environment


def with_split(state: RoutingState, name: str | None, change: SplitChange, versions: KnownVersions) -> RoutingState:
    """The state with an environment changed. Raises `UnknownVersion`, `InvalidChange` and `ConflictingChange`."""
    environment = find_environment(state, name)
    if change.salt is not None and len(change.salt) > MAX_SALT_CHARACTERS:
        raise InvalidChange(
            "salt_too_long", f"the salt has {len(change.salt)} characters; at most {MAX_SALT_CHARACTERS} do"
        )
    shadow = environment.shadow if change.shadow is UNCHANGED else change.shadow
    changed = replace(
        environment,
        active=versions.ready(change.active) if change.active is not None else environment.active,
        weights=environment.weights
        if change.weights is None
        else _checked_weights(change.weights, versions, environment),
        strategy=change.strategy or environment.strategy,
        enabled=environment.enabled if change.enabled is None else change.enabled,
        salt=environment.salt if change.salt is None else change.salt,
        shadow=versions.ready(shadow) if change.shadow is not UNCHANGED and shadow else shadow,
        layer=environment.layer if environment.running is not None or not change.deals_anew else None,
    )
    if changed.running is not None:
        refuse_without_units(changed, changed.running)
    _refuse_unloaded(state, changed)
    _refuse_shortfalls(environment, changed, versions)
    return replace(
        state, generation=state.generation + 1, environments={**state.environments, environment.name: changed}
    )


def rolled_back(state: RoutingState, old: RoutingState, versions: KnownVersions) -> RoutingState:
    """The state with the environments of an earlier one, as far as they still exist; their experiments stay.

    Raises `ConflictingChange` when a version that they need is not ready, or not known any more, and where an
    experiment needs another strategy.
    """
    environments = {
        name: _rolled_back(value, old.environments.get(name, value)) for name, value in state.environments.items()
    }
    restored = replace(state, generation=state.generation + 1, environments=environments)
    changed = [value for name, value in environments.items() if value != state.environments[name]]
    for version in sorted({version for environment in changed for version in environment.named}):
        current = versions.states.get(version, "unknown")
        if current != VersionState.READY:
            source = old.loads[version].source if version in old.loads else None
            hint = f"; it was loaded from {source}" if source else ""
            raise ConflictingChange(
                "version_not_ready",
                f"generation {old.generation} needs version {version}, which is {current}{hint}; load it first",
                version=version,
                state=current,
            )
    for environment in changed:
        _refuse_unloaded(state, environment)
        if environment.running is not None:
            refuse_without_units(environment, environment.running)
    return restored


def with_candidate(state: RoutingState, version: str, load: Load) -> RoutingState:
    """The state in which every worker gets the version ready, aside. Raises `ConflictingChange` if it is already."""
    if version in state.candidates:
        raise ConflictingChange("load_in_progress", f"version {version} is being loaded already", version=version)
    return replace(state, generation=state.generation + 1, candidates={**state.candidates, version: load})


def without_candidate(state: RoutingState, version: str) -> RoutingState:
    """The state in which a load was given up."""
    candidates = {name: load for name, load in state.candidates.items() if name != version}
    return replace(state, generation=state.generation + 1, candidates=candidates)


def with_load(state: RoutingState, version: str) -> RoutingState:
    """The state in which a candidate serves. Raises `ConflictingChange` when it was given up in the meantime."""
    load = state.candidates.get(version)
    if load is None:
        raise ConflictingChange("load_given_up", f"the load of version {version} was given up", version=version)
    loads = {**state.loads, version: replace(load, expires_at=None, in_memory=True)}
    return replace(without_candidate(state, version), loads=loads)


def with_unloaded(state: RoutingState, version: str, load: Load) -> RoutingState:
    """The state in which a version is known but not in memory. Raises `ConflictingChange` while something needs it."""
    for name, environment in state.environments.items():
        if version in environment.named:
            role = "is its active version" if version == environment.active else "has traffic or is its shadow"
            message = f"version {version} is needed by environment {name}: it {role}"
            raise ConflictingChange("version_in_use", message, version=version, environment=name)
    loads = {**state.loads, version: replace(load, in_memory=False)}
    return replace(state, generation=state.generation + 1, loads=loads)


def refuse_without_units(environment: Environment, experiment: Experiment) -> None:
    """Raise `ConflictingChange` where the experiment is in a layer, and the environment's strategy knows no units."""
    if experiment.plan.layer is None or environment.strategy is Strategy.HASH:
        return
    message = (
        f"the experiment's layer {experiment.plan.layer.name} is of units, and under the strategy "
        f"{environment.strategy} of {environment.name} requests are drawn"
    )
    detail = {"environment": environment.name, "field": "layer"}
    way = "give it the strategy hash"
    if environment.running is not None:
        # A rollback takes the strategy of then, so that nothing else helps.
        way = f"stay with the strategy hash, or stop the experiment {experiment.id} first"
    raise ConflictingChange("layer_without_units", f"{message}; {way}", **detail)


def _rolled_back(now: Environment, old: Environment) -> Environment:
    """An environment as it was, with the experiment of now; the layer of one under way goes with it."""
    return replace(old, experiment=now.experiment, layer=now.layer if now.running is not None else old.layer)


def _refuse_unloaded(state: RoutingState, environment: Environment) -> None:
    """What workers said of a version may be older than the state, in which somebody has unloaded it."""
    for version in sorted(environment.named):
        load = state.loads.get(version)
        if load is not None and not load.in_memory:
            message = f"version {version} is {VersionState.UNLOADED}, so it cannot be given traffic"
            raise ConflictingChange("version_not_ready", message, version=version, state=VersionState.UNLOADED)


def _refuse_shortfalls(environment: Environment, changed: Environment, versions: KnownVersions) -> None:
    """Raise `ConflictingChange` where rows would be refused by a version that would get traffic, or more of it.

    The active version always may: to give it traffic is the way back.
    """
    before = environment.shares if environment.enabled else {}
    after = changed.shares if changed.enabled else {}
    gaining = {version for version, share in after.items() if share > before.get(version, 0.0)} | {changed.active}
    for version in sorted(gaining - {environment.active}):
        if (found := versions.shortfalls.get((changed.name, version))) is not None:
            message = f"version {version} would refuse traffic: {found}; send what it needs first, or force the change"
            detail = {"version": version, "environment": changed.name, "rows": found.rows, "lacking": found.lacking}
            named = {} if found.feature is None else {"feature": found.feature}
            raise ConflictingChange("features_lacking", message, **detail, **named)


def _checked_weights(
    weights: Mapping[str, float], versions: KnownVersions, environment: Environment
) -> dict[str, float]:
    checked: dict[str, float] = {}
    for name, weight in weights.items():
        version = versions.resolve(name)
        if not (math.isfinite(weight) and weight >= 0):
            message = f"the weight of {name} is {weight}; weights are finite and not negative"
            raise InvalidChange("invalid_weight", message, version=name)
        if version in checked:
            raise InvalidChange("repeated_version", f"{name} and another name both stand for {version}", version=name)
        checked[version] = float(weight)
    if not any(checked.values()):
        raise InvalidChange("no_weight", "at least one weight must be above 0")
    others = [version for version in (environment.active, *environment.weights) if version not in checked]
    if fault := lone_weight(checked, *others[:1]):
        raise InvalidChange("lone_weight", fault)
    for version, weight in checked.items():
        if weight > 0:
            versions.ready(version)
    return checked
