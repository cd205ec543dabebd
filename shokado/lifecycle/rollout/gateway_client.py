"""A gateway from outside: its API over HTTP, as `shokado canary` needs it.

In: an address, a key and an environment. Out: the environment's routing, what was observed of a version, and changes
that are made only if nobody else was faster. Everything raises `GatewayAway` and `GatewayRefused`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeVar

from configuration.port import check_port
from shokado.client import AccessDenied, Client, NoAnswer, Operation, ShokadoError, operations
from shokado.client.answers import ExperimentAnswer, HistoryEntry, Preview, RecentPreview, Split
from shokado.dispatch.fault import FELL_BACK
from shokado.lifecycle.errors import GatewayAway, GatewayRefused, LifecycleError, Overtaken
from shokado.lifecycle.rollout.verdict import Observed

Answer = TypeVar("Answer")

MAX_WHY_CHARACTERS = 500
"""The longest reason that the server takes."""
MAX_WINDOW_S = 300.0
"""The longest window that the server looks back on."""
LATELY_S = 60
"""The window of what the versions did lately, which the server takes by default."""
SNAPSHOT_EVERY_S = 5.0
"""A window of the gateway's figures begins up to this much earlier than it was asked for."""
_RETRIES = 5
"""How often a change is made anew when another one came first."""
_CONCLUDE = "conclude"
"""What the history calls the end of an experiment."""


@dataclass(frozen=True, slots=True)
class Routing:
    """The routing of an environment, and when it became what it is."""

    environment: str
    active: str
    shares: Mapping[str, float]
    """Part of the traffic, between 0 and 1, of each version that gets any."""
    strategy: str
    enabled: bool
    generation: int = field(compare=False)
    """The generation of the whole routing: it grows with changes of other environments, too."""
    shadow: str | None = field(default=None, compare=False)
    """The version that gets a copy of the traffic."""

    @property
    def canary(self) -> str | None:
        """The version that shares the traffic with the active one; None without, or with several."""
        others = [version for version in self.shares if version != self.active]
        return others[0] if self.enabled and len(others) == 1 else None

    @property
    def percent(self) -> float:
        """Percent of the traffic that the canary gets."""
        return round(100 * self.shares.get(self.canary or "", 0.0), 6)

    def __str__(self) -> str:
        if not self.enabled:
            return f"{self.active} 100 %, without a split"
        return ", ".join(f"{version} {100 * share:g} %" for version, share in self.shares.items())


class GatewayClient:
    """A client of the gateway as canaries need it. Context manager; not for several threads."""

    def __init__(self, url: str, environment: str | None, key: str | None, actor: str) -> None:
        """`environment`: None is the gateway's default one. `actor` is who makes changes, for their history.

        Raises `GatewayRefused` for what is no address, or cannot be sent.
        """
        self.url = checked_address(url)
        try:
            self._client = Client(self.url, key=key, environment=environment, actor=actor)
        except ValueError as error:
            raise GatewayRefused(f"No gateway can be asked so: {error}.") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def split(self) -> Split:
        """The split of the environment, whole."""
        return self.ask(operations.split())

    def routing(self) -> Routing:
        """The routing as it is now."""
        return _routing(self.split())

    def seconds_unchanged(self, routing: Routing) -> float:
        """How long the environment has been as it is, by the gateway's clock."""
        for entry, told_at in self._changes(routing.environment):
            return max((told_at - entry.at).total_seconds(), 0.0)
        return 0.0

    def last_without_canary(self, routing: Routing) -> datetime:
        """When the history last has the environment otherwise than with this canary beside the active version."""
        for entry, _ in self._changes(routing.environment):
            then = entry.environments.get(routing.environment)
            if then is None or not then.enabled or then.active != routing.active or routing.canary not in then.shares:
                return entry.at
        return datetime.min.replace(tzinfo=UTC)

    def moved_by_experiment(self, routing: Routing) -> str | None:
        """Why the end of an experiment made the environment what it is; None where something else did."""
        for entry, _ in self._changes(routing.environment):
            return entry.why if entry.action == _CONCLUDE else None
        return None

    def active_versions(self, environment: str) -> list[str]:
        """All that were active there, the oldest first; each as often as it became so."""
        found: list[str] = []
        for entry, _ in self._changes(environment):
            then = entry.environments.get(environment)
            if then is not None and (not found or found[-1] != then.active):
                found.append(then.active)
        return found[::-1]

    def end_of_candidate(self, environment: str, version: str, generation: int) -> str | None:
        """Why a version is no candidate any more that was one after that generation; None where it was none since."""
        why = None
        for entry, _ in self._changes(environment):
            if entry.generation <= generation:
                return None
            then = entry.environments.get(environment)
            if then is not None and ((then.enabled and then.shares.get(version, 0.0) > 0) or then.shadow == version):
                return why or "its traffic was taken away"
            why = entry.why or entry.action
        return None

    def last_reason(self, environment: str) -> str:
        """Why the environment is as it is, by its history."""
        return next((entry.why for entry, _ in self._changes(environment)), "")

    def _changes(self, environment: str) -> Iterator[tuple[HistoryEntry, datetime]]:
        """What changed an environment, newest first, and when that was told."""
        before: int | None = None
        while (page := self.ask(operations.history(before=before))).entries:
            for entry in page.entries:
                if entry.changed is None or environment in entry.changed:
                    yield entry, page.told_at
            before = page.entries[-1].generation

    def version(self, name: str) -> tuple[str, bool, str]:
        """The version behind a name or alias, whether it is ready, and its state."""
        found = self.ask(operations.version(name))
        return found.version, found.ready, found.state

    def uses_of(self, version: str) -> list[str]:
        """What gives a version traffic, in any environment; none of a version that is not known here.

        Requests that name it themselves are those that this server has seen lately.
        """
        listed = self.ask(operations.versions()).versions
        found = next((each for each in listed if each.version == version), None)
        if found is None:
            return []
        uses = [f"it is active in {environment}" for environment in found.active_in]
        uses += [f"{100 * share:g} % of {environment}" for environment, share in found.weights.items() if share > 0]
        uses += [f"it is the shadow of {environment}" for environment in found.shadow_in]
        seen = self.ask(operations.metrics(version, window_s=LATELY_S)).recent
        if seen.requests > 0:
            uses.append(f"{seen.requests} requests within {seen.seconds:.0f} s")
        return uses

    def observed(self, version: str, seconds: float) -> Observed:
        """What happened to a version's requests within the last `seconds`, and no earlier.

        Of the server that answers, with all its workers; of at most `MAX_WINDOW_S`.
        """
        window_s = min(seconds - SNAPSHOT_EVERY_S, MAX_WINDOW_S)
        if window_s < 1:
            return Observed()
        found = self.ask(operations.metrics(version, window_s=window_s)).recent
        if found.seconds > seconds:
            return Observed()
        fallbacks = found.errors_by_kind.get(FELL_BACK, 0)
        return Observed(found.requests, found.errors - fallbacks, fallbacks, found.latency_ms.p99)

    def change(self, routing: Routing, change: Mapping[str, Any], why: str) -> Routing:
        """Change the environment, if it still is as `routing` says; the answer is what it has become.

        `change` as the client's `change_split` has it. Raises `Overtaken` when it is not.
        """
        for _ in range(_RETRIES):
            asked = operations.change_split(**change, why=why[:MAX_WHY_CHARACTERS], if_generation=routing.generation)
            try:
                return _routing(self._client.send(asked))
            except ShokadoError as error:
                if error.status != HTTPStatus.PRECONDITION_FAILED:
                    raise self._said(error) from error
            newest = self.routing()
            if newest != routing:
                break
            # What was changed is another environment, or the versions in memory.
            routing = newest
        raise overtaken(newest)

    def preview(self, change: Mapping[str, Any], units: Sequence[str] | None, max_examples: int) -> Preview:
        """Which units the change would move; None: made-up ones. `change` as the client's `preview_split` has it."""
        return self.ask(operations.preview_split(**change, units=units, max_examples=max_examples))

    def preview_recent(self, change: Mapping[str, Any]) -> RecentPreview:
        """Which of the requests of the last minutes the change would have moved."""
        return self.ask(operations.preview_recent(**change))

    def experiments(self) -> tuple[ExperimentAnswer, ...]:
        """Those under way in any environment, then the last that ended."""
        return self.ask(operations.experiments()).experiments

    def last_experiment(self, environment: str) -> ExperimentAnswer | None:
        """The one under way there, or else the last that ended."""
        return next((one for one in self.experiments() if one.environment == environment), None)

    def start_experiment(
        self, plan: Mapping[str, Any], control: str | None, candidates: Sequence[str] | None, why: str
    ) -> ExperimentAnswer:
        """Begin one between the versions that share the traffic, or with the shadow, as the plan says."""
        asked = operations.start_experiment(plan, control=control, candidates=candidates, why=why[:MAX_WHY_CHARACTERS])
        return self.ask(asked)

    def stop_experiment(self, experiment: str, why: str) -> ExperimentAnswer:
        """End one as it stands."""
        return self.ask(operations.stop_experiment(experiment, why=why[:MAX_WHY_CHARACTERS]))

    def ask(self, operation: Operation[Answer]) -> Answer:
        """The answer to any operation of the client."""
        try:
            return self._client.send(operation)
        except ShokadoError as error:
            raise self._said(error) from error

    def _said(self, error: ShokadoError) -> LifecycleError:
        """The client's error in words for the person at the keyboard."""
        if isinstance(error, NoAnswer):
            reason = str(error.__cause__) or type(error.__cause__).__name__
            return GatewayAway(f"No gateway answers at {self.url}: {reason}.", f"curl {self.url}/readyz")
        if isinstance(error, AccessDenied):
            return GatewayRefused(f"The gateway wants an admin key: {error.message}.", "shokado canary --help")
        kind = GatewayAway if error.status is not None and error.status >= 500 else GatewayRefused
        return kind(f"The gateway at {self.url} refuses: {error.message}.")


def checked_address(url: str) -> str:
    """The address without slashes at its end. Raises `GatewayRefused` where its port is none."""
    try:
        return check_port(url.rstrip("/"))
    except ValueError as error:
        raise GatewayRefused(f"{url}: {error}.") from None


def overtaken(routing: Routing) -> Overtaken:
    """The error that tells what somebody else has made of the routing."""
    message = f"Somebody else has changed the routing of {routing.environment}: it is {routing} now."
    return Overtaken(message, "shokado canary status")


def _routing(split: Split) -> Routing:
    return Routing(
        split.environment, split.active, split.shares, split.strategy, split.enabled, split.generation, split.shadow
    )
