"""The routing state: who gets which share of the traffic, as one immutable value with a generation.

It is replaced whole, never changed, so every reader sees one generation or the other. The first one is made from the
configuration; `shokado.dispatch.change` makes the next ones, and `stores` keeps and shares them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from math import isfinite
from types import MappingProxyType
from typing import Any

import msgspec

from configuration.experiment_plan import ExperimentPlan
from configuration.experiment_policy import STORED
from configuration.settings import Settings, Strategy
from shokado.dispatch.dealing import dealing
from shokado.dispatch.experiment import Experiment
from shokado.dispatch.layer import Layer
from shokado.dispatch.reason import Assignment
from shokado.dispatch.rendezvous import Rendezvous


@dataclass(frozen=True, slots=True)
class Environment:
    """The routing of one environment: production, staging."""

    name: str
    active: str
    """Answers when the split is off or the assigned version is not ready."""
    weights: Mapping[str, float]
    """Shares of the traffic, relative to their sum; versions of weight 0 get none."""
    strategy: Strategy = Strategy.RANDOM
    enabled: bool = True
    salt: str = ""
    """What the hash of a unit is mixed with: environments of the same salt and weights give a unit the same version."""
    shadow: str | None = None
    """The version that gets a copy of the traffic; nobody sees its answers."""
    experiment: Experiment | None = None
    """The one under way, or the last one that was."""
    layer: Layer | None = None
    """The part of a layer that the split is for, under the `hash` strategy; None: it is for all units. It came with an
    experiment, and stays when that has ended until the split is changed.
    """
    thresholds: tuple[tuple[float, str], ...] = field(init=False, compare=False)
    """(upper end of its slice of [0, 1], version), ascending; the last end is 1."""
    shares: Mapping[str, float] = field(init=False, compare=False)
    """Part of the traffic, between 0 and 1, of each version that gets any; in a layer, of the traffic inside."""
    rendezvous: Rendezvous = field(init=False, compare=False)
    """Who gets which unit under the `hash` strategy."""
    deal: Callable[[str], Assignment] | None = field(init=False, compare=False)
    """What a unit gets under the `hash` strategy, as long as the split is on; None under any other."""

    def __post_init__(self) -> None:
        largest = max(self.weights.values())
        # In units of the largest only where the sum would not be a number: 90 of 100 should read 0.9.
        unit = 1.0 if isfinite(sum(self.weights.values())) else largest
        drawn = {version: weight / unit for version, weight in self.weights.items() if weight > 0}
        ends = list(accumulate(drawn.values()))
        thresholds = tuple((end / ends[-1], version) for end, version in zip(ends, drawn, strict=True))
        shares = {version: weight / ends[-1] for version, weight in drawn.items()}
        object.__setattr__(self, "weights", MappingProxyType(dict(self.weights)))
        object.__setattr__(self, "thresholds", thresholds)
        object.__setattr__(self, "shares", MappingProxyType(shares))
        rendezvous = Rendezvous(self.salt, {version: weight / largest for version, weight in self.weights.items()})
        object.__setattr__(self, "rendezvous", rendezvous)
        sticky = self.strategy is Strategy.HASH
        object.__setattr__(self, "deal", dealing(rendezvous, self.layer) if sticky else None)

    @property
    def running(self) -> Experiment | None:
        """The experiment under way."""
        return self.experiment if self.experiment is not None and self.experiment.is_running else None

    @property
    def traffic(self) -> dict[str, float]:
        """Part of the traffic that each version gets while all are ready."""
        if not self.enabled:
            return {self.active: 1.0}
        if self.layer is None or self.layer.outside is None:
            return dict(self.shares)
        inside, outside = self.layer.end - self.layer.start, self.layer.outside
        traffic = {version: inside * share for version, share in self.shares.items()}
        return {**traffic, outside: traffic.get(outside, 0.0) + 1.0 - inside}

    @property
    def answering(self) -> set[str]:
        """The versions that answer: active, with traffic, or for units outside of the layer."""
        outside = self.layer.outside if self.layer is not None else None
        return {self.active, *self.shares} | ({outside} if outside else set())

    @property
    def named(self) -> set[str]:
        """The versions that must be in memory: those that answer, and the shadow."""
        return self.answering | ({self.shadow} if self.shadow else set())


@dataclass(frozen=True, slots=True)
class Load:
    """What a running server was told about a version, over and above the configuration."""

    tag: str
    """The artefact's tag in the BentoML model store."""
    digest: str
    """SHA-256 of the artefact's card, which has the digests of its model files."""
    source: str
    """Where it was loaded from: an address in the MLflow registry, or the tag itself."""
    in_memory: bool = True
    expires_at: float | None = None
    """When a candidate is given up, in seconds of the Unix clock; None for a load."""


@dataclass(frozen=True, slots=True)
class RoutingState:
    generation: int
    environments: Mapping[str, Environment]
    default_environment: str
    loads: Mapping[str, Load] = field(default_factory=dict)
    """Versions loaded or unloaded while serving. Those of the configuration that were left alone are not here."""
    candidates: Mapping[str, Load] = field(default_factory=dict)
    """Versions that every worker gets ready, aside and without traffic, until they become loads or are dropped."""
    concluded: Mapping[str, int] = field(default_factory=dict)
    """In which generation each of the last experiments ended, which the history has; by id, the oldest first."""

    def __post_init__(self) -> None:
        for name in ("environments", "loads", "candidates", "concluded"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    @property
    def running(self) -> dict[str, Experiment]:
        """The experiments under way, by environment."""
        found = ((name, environment.running) for name, environment in self.environments.items())
        return {name: experiment for name, experiment in found if experiment is not None}

    @property
    def needed(self) -> set[str]:
        """The versions that some environment needs in memory."""
        return {version for environment in self.environments.values() for version in environment.named}


@dataclass(frozen=True, slots=True)
class VersionReport:
    """How one worker has one version; `digest` is its artefact's (see `Load`)."""

    digest: str
    state: str
    """A `VersionState`; or, from a worker of a newer release, one that is not known here."""
    failure: str | None
    last_used_at: float
    """When the worker used the version last, in seconds of the Unix clock; 0 if never."""


def default_salt(model: str, environment: str) -> str:
    """The salt of an environment that is configured without one: no other one, nor model, deals users out like it.

    It is written into the state of a new environment. One that a store has keeps what it has there.
    """
    return f"{model}/{environment}"


def initial_state(settings: Settings) -> RoutingState:
    """Generation 1: what the configuration says."""
    return RoutingState(
        generation=1,
        environments={
            name: Environment(
                name,
                spec.active,
                spec.weights,
                spec.strategy,
                spec.enabled,
                spec.salt or default_salt(settings.model, name),
                spec.shadow,
            )
            for name, spec in settings.environments.items()
        },
        default_environment=settings.default_environment,
    )


def fit(state: RoutingState, settings: Settings) -> RoutingState:
    """A stored state under today's configuration: new environments begin as configured, those that are gone go.

    The configuration says which environments there are and which is the default; what is in them, the store says.
    """
    fresh = initial_state(settings)
    return RoutingState(
        state.generation,
        {name: state.environments.get(name, environment) for name, environment in fresh.environments.items()},
        fresh.default_environment,
        state.loads,
        state.candidates,
        state.concluded,
    )


class _EnvironmentRecord(msgspec.Struct):
    active: str
    weights: dict[str, float]
    strategy: Strategy
    enabled: bool
    salt: str
    shadow: str | None
    experiment: Experiment | None = None
    layer: Layer | None = None


class _LoadRecord(msgspec.Struct):
    tag: str
    digest: str
    source: str
    in_memory: bool
    expires_at: float | None


class _StateRecord(msgspec.Struct):
    generation: int
    environments: dict[str, _EnvironmentRecord]
    default_environment: str
    loads: dict[str, _LoadRecord]
    candidates: dict[str, _LoadRecord]
    concluded: dict[str, int] = {}


def _plain(value: Any) -> Any:
    """A policy, as JSON has it."""
    if isinstance(value, ExperimentPlan):
        return value.model_dump(mode="json")
    raise NotImplementedError(type(value))


def _typed(kind: type, content: Any) -> Any:
    """The policy of `_plain`, without what only a newer release knows."""
    if kind is ExperimentPlan:
        return ExperimentPlan.model_validate(
            {name: value for name, value in content.items() if name in ExperimentPlan.model_fields}, context=STORED
        )
    raise NotImplementedError(kind)


_encode = msgspec.json.Encoder(enc_hook=_plain).encode
_decode = msgspec.json.Decoder(_StateRecord, dec_hook=_typed).decode


def encode_state(state: RoutingState) -> bytes:
    """The state as JSON, for a store."""
    return _encode(
        _StateRecord(
            state.generation,
            {
                name: _EnvironmentRecord(
                    value.active,
                    dict(value.weights),
                    value.strategy,
                    value.enabled,
                    value.salt,
                    value.shadow,
                    value.experiment,
                    value.layer,
                )
                for name, value in state.environments.items()
            },
            state.default_environment,
            _load_records(state.loads),
            _load_records(state.candidates),
            dict(state.concluded),
        )
    )


def decode_state(content: bytes | str) -> RoutingState:
    """The state that `encode_state` wrote. Raises `ValueError` when it is not one."""
    record = _decode(content)
    return RoutingState(
        record.generation,
        {
            name: Environment(
                name,
                value.active,
                value.weights,
                value.strategy,
                value.enabled,
                value.salt,
                value.shadow,
                value.experiment,
                value.layer,
            )
            for name, value in record.environments.items()
        },
        record.default_environment,
        _loads(record.loads),
        _loads(record.candidates),
        record.concluded,
    )


def _load_records(loads: Mapping[str, Load]) -> dict[str, _LoadRecord]:
    return {
        version: _LoadRecord(load.tag, load.digest, load.source, load.in_memory, load.expires_at)
        for version, load in loads.items()
    }


def _loads(records: Mapping[str, _LoadRecord]) -> dict[str, Load]:
    return {
        version: Load(record.tag, record.digest, record.source, record.in_memory, record.expires_at)
        for version, record in records.items()
    }
