"""When a request is sent again, and after how long. Pure: clock and chance are arguments, and nothing waits here.

A request that changes nothing, or comes to the same however often it arrives, is repeated after a refusal (429, 502,
503, and 424 with `Retry-After`) and after a connection that broke. A change is repeated only when it was surely not
looked at: no connection came about, or the server refused with `Retry-After`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from shokado.client.errors import error_of

_REFUSALS = frozenset((429, 502, 503))
_FEATURES_LACKING = 424
"""Whether features may be there the next time, `Retry-After` says."""
_PERHAPS_MADE = "store_unavailable"
"""Code of the one refusal, with `Retry-After`, of a change that may have been made all the same."""
_BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout)
_NOT_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout)
_FIRST_WAIT_S = 0.1
"""Where the server names no time; each further wait is twice as long. Half of it is chance."""
_SPREAD = 0.1
"""Part by which a wait may be longer than the server says, so that those it refused do not come back at once."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a request is sent at most, and for how long: no attempt begins later than `max_total_s` seconds."""

    max_attempts: int = 4
    max_total_s: float = 10.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or not self.max_total_s >= 0:
            raise ValueError(f"{self}: at least one attempt, within at least 0 seconds")


DEFAULT_RETRIES = Retries()
NO_RETRIES = Retries(max_attempts=1)


class RetryState:
    """The attempts of one request."""

    def __init__(
        self, retries: Retries, repeatable: bool, deadline_s: float | None,
        clock: Callable[[], float], chance: Callable[[], float],
    ) -> None:  # fmt: skip
        """`deadline_s` is within how many seconds the answer is of use; `chance` draws from 0 to 1."""
        self._retries = retries
        self._repeatable = repeatable
        self._deadline_s = deadline_s
        self._clock = clock
        self._chance = chance
        self._began = clock()
        self._made = 0

    def begin(self) -> float | None:
        """Count an attempt; the answer is how many seconds are left until the deadline, where there is one."""
        self._made += 1
        return None if self._deadline_s is None else max(self._deadline_s - self._seconds(), 1e-6)

    def wait_after(self, outcome: httpx.Response | httpx.TransportError) -> float | None:
        """Seconds until the next attempt; None: the outcome stands."""
        if self._made >= self._retries.max_attempts or not self._may_repeat(outcome):
            return None
        told = retry_after(outcome) if isinstance(outcome, httpx.Response) else None
        if told is None:
            wait = _FIRST_WAIT_S * 2 ** (self._made - 1) * (1 + self._chance()) / 2
        else:
            wait = told * (1 + _SPREAD * self._chance())
        until = self._seconds() + wait
        in_time = until <= self._retries.max_total_s and (self._deadline_s is None or until < self._deadline_s)
        return wait if in_time else None

    def _may_repeat(self, outcome: httpx.Response | httpx.TransportError) -> bool:
        if isinstance(outcome, httpx.TransportError):
            return isinstance(outcome, _BROKEN if self._repeatable else _NOT_CONNECTED)
        wants_again = outcome.status_code == _FEATURES_LACKING and retry_after(outcome) is not None
        if outcome.status_code not in _REFUSALS and not wants_again:
            return False
        unread = outcome.status_code != 502 and retry_after(outcome) is not None
        return self._repeatable or (unread and error_of(outcome).code != _PERHAPS_MADE)

    def _seconds(self) -> float:
        return self._clock() - self._began


def retry_after(response: httpx.Response) -> float | None:
    """Seconds that the answer asks to wait; None where it does not, or not in words of RFC 9110, section 10.2.3."""
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
        # By the clock that the date was told by, where that is known.
        told = response.headers.get("date")
        now = parsedate_to_datetime(told) if told else datetime.now(UTC)
        return max((at - now).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None
