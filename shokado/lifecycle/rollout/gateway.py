"""A gateway from outside: its API over HTTP, as `shokado canary` needs it.

In: an address, a key and an environment. Out: the environment's routing, what was observed of a version, and changes
that are made only if nobody else was faster. Everything raises `GatewayAway` and `GatewayRefused`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import httpx

from configuration.port import check_port
from shokado.lifecycle.errors import GatewayAway, GatewayRefused, Overtaken
from shokado.lifecycle.rollout.verdict import Observed
from shokado.monitoring.metrics import FELL_BACK

TIMEOUT_S = 30
MAX_WHY_LETTERS = 500
MAX_WINDOW_S = 300.0
LATELY_S = 60
SNAPSHOT_EVERY_S = 5.0
"""A window of the gateway's figures begins up to this much earlier than it was asked for."""
_RETRIES = 5
_HISTORY_PAGE = 100


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
    """Of the whole routing: it grows with changes of other environments, too."""

    @property
    def canary(self) -> str | None:
        """The version that shares the traffic with the active one; none without, or with several."""
        others = [version for version in self.shares if version != self.active]
        return others[0] if self.enabled and len(others) == 1 else None

    @property
    def percent(self) -> float:
        """Of the traffic, that the canary gets."""
        return round(100 * self.shares.get(self.canary or "", 0.0), 6)

    def __str__(self) -> str:
        if not self.enabled:
            return f"{self.active} 100 %, without a split"
        return ", ".join(f"{version} {100 * share:g} %" for version, share in self.shares.items())


class Gateway:
    """Context manager; not for several threads."""

    def __init__(self, url: str, environment: str | None, key: str | None, actor: str) -> None:
        """`environment`: none is the gateway's default one. `actor` is who makes changes, for their history."""
        named = {"X-Actor": actor, "X-Environment": environment, "X-API-Key": key}
        headers = {name.encode(): value.encode() for name, value in named.items() if value is not None}
        self.url = checked_address(url)
        self._client = httpx.Client(base_url=self.url, headers=headers, timeout=TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def routing(self) -> Routing:
        """As it is now."""
        return _routing(self._ask("GET", "/v1/traffic-split").json())

    def seconds_unchanged(self, routing: Routing) -> float:
        """How long the environment has been as it is, by the gateway's clock."""
        before: int | None = None
        while True:
            query = {"limit": _HISTORY_PAGE} | ({"before": before} if before is not None else {})
            answer = self._ask("GET", "/v1/traffic-split/history", params=query)
            entries = answer.json()["entries"]
            for entry in entries:
                if entry["changed"] is None or routing.environment in entry["changed"]:
                    now = parsedate_to_datetime(answer.headers["date"])
                    return max((now - datetime.fromisoformat(entry["at"])).total_seconds(), 0.0)
            if not entries:
                return 0.0
            before = entries[-1]["generation"]

    def version(self, name: str) -> tuple[str, bool, str]:
        """The version behind a name or alias, whether it is ready, and its state."""
        found = self._ask("GET", f"/v1/models/{name}").json()
        if "state" not in found:
            raise GatewayRefused(f"{name} is the name of the model, not of one of its versions.")
        return found["version"], found["ready"], found["state"]

    def uses_of(self, version: str) -> list[str]:
        """What gives a version traffic, in any environment; none of a version that is not known here.

        Requests that name it themselves are those that this server has seen lately.
        """
        listed = self._ask("GET", "/v1/models").json()["versions"]
        found = next((each for each in listed if each["version"] == version), None)
        if found is None:
            return []
        uses = [f"it is active in {environment}" for environment in found["active_in"]]
        uses += [f"{100 * share:g} % of {environment}" for environment, share in found["weights"].items() if share > 0]
        uses += [f"it is the shadow of {environment}" for environment in found["shadow_in"]]
        seen = self._ask("GET", f"/v1/metrics/{version}", params={"window_s": LATELY_S}).json()["recent"]
        if seen is not None and seen["requests"] > 0:
            uses.append(f"{seen['requests']} requests within {seen['seconds']:.0f} s")
        return uses

    def observed(self, version: str, seconds: float) -> Observed:
        """What happened to a version's requests within the last `seconds`, and no earlier.

        Of the server that answers, with all its workers; of at most `MAX_WINDOW_S`.
        """
        window_s = min(seconds - SNAPSHOT_EVERY_S, MAX_WINDOW_S)
        if window_s < 1:
            return Observed()
        found = self._ask("GET", f"/v1/metrics/{version}", params={"window_s": window_s}).json()["recent"]
        if found is None or found["seconds"] > seconds:
            return Observed()
        fallbacks = found["errors_by_kind"].get(FELL_BACK, 0)
        return Observed(found["requests"], found["errors"] - fallbacks, fallbacks, found["latency_ms"]["p99"])

    def change(self, routing: Routing, change: Mapping[str, Any], why: str) -> Routing:
        """Change the environment, if it still is as `routing` says; the answer is what it has become.

        Raises `Overtaken` when it is not.
        """
        body = {**change, "why": why[:MAX_WHY_LETTERS]}
        for _ in range(_RETRIES):
            headers = {"If-Match": f'"{routing.generation}"'}
            answer = self._send("POST", "/v1/traffic-split", json=body, headers=headers)
            if answer.status_code != httpx.codes.PRECONDITION_FAILED:
                return _routing(_checked(answer).json())
            newest = self.routing()
            if newest != routing:
                break
            # What was changed is another environment, or the versions in memory.
            routing = newest
        raise overtaken(newest)

    def _ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return _checked(self._send(method, path, **arguments))

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            return self._client.request(method, path, **arguments)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            message = f"No gateway answers at {self.url}: {error or type(error).__name__}."
            raise GatewayAway(message, f"curl {self.url}/readyz") from error


def checked_address(url: str) -> str:
    """Without slashes at its end. Raises `GatewayRefused` where its port is none."""
    try:
        return check_port(url.rstrip("/"))
    except ValueError as error:
        raise GatewayRefused(f"{url}: {error}.") from None


def overtaken(routing: Routing) -> Overtaken:
    """The error that tells what somebody else has made of the routing."""
    message = f"Somebody else has changed the routing of {routing.environment}: it is {routing} now."
    return Overtaken(message, "shokado canary status")


def _routing(split: Mapping[str, Any]) -> Routing:
    fields = ("environment", "active", "shares", "strategy", "enabled", "generation")
    return Routing(*(split[field] for field in fields))


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    try:
        message = answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = f"{answer.request.method} {answer.url}: {answer.status_code} {answer.reason_phrase}"
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise GatewayRefused(f"The gateway wants an admin key: {message}.", "shokado canary --help")
    kind = GatewayAway if answer.is_server_error else GatewayRefused
    raise kind(f"The gateway at {answer.url.netloc.decode()} refuses: {message}.")
