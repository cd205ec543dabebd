"""Promotion: what is active in one environment becomes a candidate in the next, and by its policy the active version.

    staging: active, right numbers? -> production: the very same artefact there, or loaded; right numbers?
        -> candidate: a canary's first step, or an experiment -> step by step -> active -> aliases

There is no state beside the servers' own: each call looks where the version is and brings it one stage further, so that
whoever is killed, or comes a day later, just calls again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from configuration.sites import EnvironmentSite
from shokado.client import operations
from shokado.client.answers import Version
from shokado.lifecycle.delivery.registry_aliases import RegistryAliases, registered_of
from shokado.lifecycle.delivery.wanted_version import WantedVersion, bring, require_right_numbers
from shokado.lifecycle.errors import DeliveryRefused
from shokado.lifecycle.rollout.gateway_client import GatewayClient

Say = Callable[[str], None]


class CandidateStage(StrEnum):
    """Where a version is in an environment after a call."""

    CANDIDATE = "candidate"
    ACTIVE = "active"
    FAILED = "failed"
    UNDECIDED = "undecided"
    """Too little was seen, or the experiment has no answer yet: the next call looks again."""


class Policy(Protocol):
    """What makes a candidate the active version: a canary, or an experiment. All raise `LifecycleError`."""

    def has_begun(self, version: str) -> bool:
        """Whether a version that is not active is a candidate."""

    def start(self, version: str) -> str:
        """Make a version that is ready a candidate; what it is then, in words."""

    def advance(self, version: str) -> tuple[CandidateStage, str]:
        """Look at a candidate, and act on what was seen."""

    def lead(self, version: str, say: Say) -> CandidateStage:
        """Look at a candidate until it is active, has failed, or is given up as undecided."""


@dataclass(frozen=True)
class OpenSite:
    """An environment that is open: its name, where it is, and a client of it."""

    name: str
    site: EnvironmentSite
    gateway: GatewayClient

    def active(self) -> Version:
        """Its active version. Raises `LifecycleError`."""
        active = self.gateway.routing().active
        listed = self.gateway.ask(operations.versions()).versions
        return next(version for version in listed if version.version == active)


class Promotion:
    """A promotion from one environment into another."""

    def __init__(self, source: OpenSite, target: OpenSite, policy: Policy, say: Say) -> None:
        self._source = source
        self._target = target
        self._policy = policy
        self._say = say

    def advance(self, *, wait: bool = False) -> CandidateStage:
        """Bring the version that is active in the source one stage further, or, with `wait`, to the end.

        Raises `LifecycleError`.
        """
        version = self.arrived(self._source.active())
        stage = self._next_stage(version)
        if wait and stage in (CandidateStage.CANDIDATE, CandidateStage.UNDECIDED):
            return self._policy.lead(version.version, self._say)
        return stage

    def arrived(self, tried: Version) -> Version:
        """The same artefact, ready in the target, with right numbers in both."""
        if tried.source is None or tried.digest is None or tried.model is None:
            raise DeliveryRefused(
                f"It is not known where {tried.version} came from, which is active in {self._source.name}."
            )
        require_right_numbers(self._source.gateway, tried, self._source.name)
        source = tried.source.uri if registered_of(tried.source.uri) else f"{tried.model}:{tried.version}"
        wanted = WantedVersion(source, tried.version, tried.digest)
        why = f"promoted from {self._source.name}"
        version = bring(self._target.gateway, wanted, self._say, why)
        require_right_numbers(self._target.gateway, version, self._target.name)
        return version

    def _next_stage(self, version: Version) -> CandidateStage:
        routing, name = self._target.gateway.routing(), version.version
        if routing.active == name:
            self._say(f"{name} is active in {self._target.name}: {routing}")
            return CandidateStage.ACTIVE
        if not self._policy.has_begun(name):
            self._say(f"{name} is a candidate in {self._target.name}: {self._policy.start(name)}")
            return CandidateStage.CANDIDATE
        stage, text = self._policy.advance(name)
        self._say(text)
        return stage


def follow(environment: OpenSite, aliases: RegistryAliases, say: Say) -> None:
    """Have the environment's alias name its active version, where it came from a registry. Raises `LifecycleError`."""
    alias = environment.site.alias
    if alias is None:
        return
    active = environment.active()
    source = active.source.uri if active.source is not None else "an unknown source"
    registered = registered_of(source)
    if registered is None:
        say(f"{active.version} came from {source}, which no alias can name")
        return
    say(aliases.move(registered, alias))
