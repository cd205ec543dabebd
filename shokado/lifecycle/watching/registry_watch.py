"""A watch over the registry: what an alias comes to name is tried in staging, and becomes a candidate in production.

    models:/churn@challenger -> version 3, not seen before -> staging: loaded, right numbers, active, smoke test
        -> production: the same artefact, candidate by policy -> active: taken | taken back: refused

What becomes of a version is noted before the next thing is done, and each thing that is done asks first whether it was
done already, so that a watch which is killed at any moment goes on rightly. A version that was taken or refused is
never touched again. A registry or server that is away is waited for; what a server refuses to load `MAX_ATTEMPTS` times
is refused.
"""

from collections.abc import Callable

from shokado.client import AccessDenied, ShokadoError, operations
from shokado.client.answers import Version
from shokado.lifecycle.delivery.promotion import CandidateStage, OpenSite, Policy, Promotion, Say, follow
from shokado.lifecycle.delivery.registry_aliases import RegistryAliases
from shokado.lifecycle.delivery.rollback import version_before
from shokado.lifecycle.delivery.smoke_test import SmokeTestOrder
from shokado.lifecycle.delivery.staging import activate, staged
from shokado.lifecycle.delivery.wanted_version import WantedVersion, pass_smoke_test
from shokado.lifecycle.errors import (
    CanaryRefused,
    DeliveryRefused,
    GatewayAway,
    GatewayRefused,
    LifecycleError,
    Overtaken,
)
from shokado.lifecycle.watching.watch_journal import WatchEntry, WatchJournal, WatchStage

MAX_ATTEMPTS = 3
"""How often a server may refuse to load a version: the registry may be away from there for a while, or memory short."""
_WAITS = ("load_in_progress", "load_timed_out", "source_not_allowed", "cannot_import_here", "stopping")
"""What the server, and not the version, is to blame for."""


class RegistryWatch:
    """One address of the registry, two environments, and what makes a candidate the active version."""

    def __init__(  # what it connects
        self,
        resolve: Callable[[], str],
        staging: OpenSite,
        production: OpenSite,
        policy: Policy,
        journal: WatchJournal,
        aliases: RegistryAliases | None,
        say: Say,
        *,
        waits: bool = True,
    ) -> None:
        """`resolve` gives the exact address of what is watched. `waits`: a look ends with a candidate's end."""
        self._resolve = resolve
        self._staging = staging
        self._production = production
        self._policy = policy
        self._journal = journal
        self._aliases = aliases
        self._say = say
        self._waits = waits
        self.in_the_way = ""
        """What kept the last look from going on."""

    def look(self) -> WatchEntry | None:
        """Take up what is new, or what is under way, and bring it as far as it goes now.

        Returns:
            What is known of that version; None where nothing is new.
        """
        try:
            uri = self._next()
            if uri is None:
                self.in_the_way = ""
                return None
            entry = self._advanced(uri)
        except LifecycleError as error:
            self._once(f"{str(error).rstrip('.')}; it is tried again")
            return None
        self.in_the_way = ""
        return entry

    def _next(self) -> str | None:
        """The version that is under way, or else the one that is named now, if it is new."""
        under_way = {uri: self._entry(uri) for uri in self._journal.under_way()}
        # What is a candidate is seen through, also while the registry is away.
        begun = next((uri for uri, entry in under_way.items() if entry.stage is WatchStage.BEGUN), None)
        if begun is not None:
            return begun
        named = self._resolve()
        for uri, entry in under_way.items():
            if uri == named:
                return uri
            self._settle(uri, entry, WatchStage.REFUSED, f"{named} came before it was a candidate")
        if self._journal.of(named) is not None:
            return None
        self._say(f"{named} is new")
        self._journal.set(named, WatchEntry())
        return named

    def _advanced(self, uri: str) -> WatchEntry:
        entry = self._entry(uri)
        while not entry.stage.is_settled:
            before = entry
            entry = self._step(uri, entry)
            if entry == before:
                break
        return entry

    def _step(self, uri: str, entry: WatchEntry) -> WatchEntry:
        """The next step of a version; the same entry where there is nothing to do but to wait."""
        try:
            match entry.stage:
                case WatchStage.SEEN:
                    return self._try(uri, entry)
                case WatchStage.TRIED:
                    return self._begin(uri, entry)
                case _:
                    return self._follow(uri, entry)
        except (GatewayAway, CanaryRefused, Overtaken):
            raise
        except DeliveryRefused as error:
            return self._settle(uri, entry, WatchStage.REFUSED, str(error))
        except GatewayRefused as error:
            return self._refused_by_server(uri, entry, error)

    def _try(self, uri: str, entry: WatchEntry) -> WatchEntry:
        version = staged(self._staging, uri, None, self._say, f"{uri} is new")
        self._say(activate(self._staging, version, f"{uri} is tried"))
        self._smoke_test(version)
        if self._aliases is not None:
            follow(self._staging, self._aliases, self._say)
        return self._note(uri, entry.model_copy(update={"stage": WatchStage.TRIED}))

    def _smoke_test(self, version: Version) -> None:
        """Raise `DeliveryRefused` where it fails; then staging has the version of before again."""
        gateway, name = self._staging.gateway, self._staging.name
        try:
            checks = pass_smoke_test(gateway, SmokeTestOrder((version.version,)), name)
        except DeliveryRefused:
            routing = gateway.routing()
            before = version_before(gateway.active_versions(routing.environment))
            if before is not None and routing.active == version.version:
                change = {"weights": {version.version: 0, before: 100}, "active": before}
                gateway.change(routing, change, f"{version.version} fails the smoke test")
            raise
        self._say(f"{version.version} passes the smoke test in {name}: {checks} checks")

    def _begin(self, uri: str, entry: WatchEntry) -> WatchEntry:
        tried = self._in_staging(uri)
        if tried is None:
            return self._note(uri, entry.model_copy(update={"stage": WatchStage.SEEN}))
        version = self._promotion.arrived(tried)
        gateway = self._production.gateway
        # Noted before: what is found to have been a candidate since then, and is none any more, was taken back.
        noted = {"stage": WatchStage.BEGUN, "version": version.version, "generation": gateway.routing().generation}
        return self._note(uri, entry.model_copy(update=noted))

    def _follow(self, uri: str, entry: WatchEntry) -> WatchEntry:
        gateway, name = self._production.gateway, entry.version
        routing = gateway.routing()
        if routing.active == name:
            return self._taken(uri, entry)
        if not self._policy.has_begun(name):
            ended = gateway.end_of_candidate(routing.environment, name, entry.generation)
            if ended is not None:
                return self._settle(uri, entry, WatchStage.REFUSED, ended)
            self._say(f"{name} is a candidate in {self._production.name}: {self._policy.start(name)}")
        stage, told = self._looked_at(name)
        if stage is CandidateStage.ACTIVE:
            return self._taken(uri, entry)
        # A gateway that was away to the end has it as a candidate still.
        given_up = self._waits and stage is CandidateStage.UNDECIDED and not self._policy.has_begun(name)
        if stage is CandidateStage.FAILED or given_up:
            return self._settle(uri, entry, WatchStage.REFUSED, told or "it was taken back")
        return entry

    def _looked_at(self, name: str) -> tuple[CandidateStage, str]:
        if self._waits:
            stage = self._policy.lead(name, self._say)
            gateway = self._production.gateway
            return stage, gateway.last_reason(gateway.routing().environment)
        stage, told = self._policy.advance(name)
        self._say(told)
        return stage, told

    def _taken(self, uri: str, entry: WatchEntry) -> WatchEntry:
        if self._aliases is not None:
            follow(self._production, self._aliases, self._say)
        return self._settle(uri, entry, WatchStage.TAKEN, f"{entry.version} is active in {self._production.name}")

    @property
    def _promotion(self) -> Promotion:
        return Promotion(self._staging, self._production, self._policy, self._say)

    def _in_staging(self, uri: str) -> Version | None:
        """The version in staging, where it was tried; None where it was unloaded meanwhile."""
        listed = self._staging.gateway.ask(operations.versions()).versions
        wanted = WantedVersion(uri, "")
        return next((one for one in listed if wanted.is_it(one) and one.state != "unloaded"), None)

    def _refused_by_server(self, uri: str, entry: WatchEntry, error: GatewayRefused) -> WatchEntry:
        cause = error.__cause__
        if not isinstance(cause, ShokadoError) or isinstance(cause, AccessDenied) or cause.code in _WAITS:
            raise error
        entry = entry.model_copy(update={"attempts": entry.attempts + 1})
        if entry.attempts >= MAX_ATTEMPTS:
            return self._settle(uri, entry, WatchStage.REFUSED, f"{MAX_ATTEMPTS} times: {error}")
        self._note(uri, entry)
        raise error

    def _settle(self, uri: str, entry: WatchEntry, stage: WatchStage, why: str) -> WatchEntry:
        self._say(f"{uri} is {stage}: {why}")
        return self._note(uri, entry.model_copy(update={"stage": stage, "why": why}))

    def _note(self, uri: str, entry: WatchEntry) -> WatchEntry:
        self._journal.set(uri, entry)
        return entry

    def _entry(self, uri: str) -> WatchEntry:
        entry = self._journal.of(uri)
        assert entry is not None, "what is under way is noted"
        return entry

    def _once(self, line: str) -> None:
        """Say what is in the way, and not at each look anew."""
        if line != self.in_the_way:
            self.in_the_way = line
            self._say(line)
