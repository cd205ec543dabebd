"""Looks at a store by who stands still between requests: what is known is at most so old when a request is answered.

A process may be frozen for an hour at any moment, also in the middle of a look. Which of its clocks go on meanwhile
differs, so both are asked; and what was read before it was frozen does not count as a look of now.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from math import inf

MAX_AGE_S = 1.0
"""How old what is known may be when a request comes: as long as a server takes at most to follow a change."""
PATIENCE_S = 0.25
"""How long a request waits for a look. It goes on by what is known then, and the next one waits for the same look."""


class BoundedLook:
    """Make one per process; methods belong to its event loop."""

    def __init__(
        self,
        look: Callable[[], Awaitable[None]],
        max_age_s: float = MAX_AGE_S,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`look` raises nothing: a store that is away is noted, and looked for again after `max_age_s`."""
        self._look = look
        self._max_age_s = max_age_s
        self._patience_s = patience_s
        self._clock = clock
        self._monotonic = monotonic
        self._looked_at = (-inf, -inf)
        """When the last look that has ended began, by both clocks."""
        self._under_way: tuple[asyncio.Future[None], tuple[float, float]] | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether the last look is young enough by both clocks; one that is set back is not believed."""
        ages = (now - then for now, then in zip(self._now(), self._looked_at, strict=True))
        return all(0 <= age <= self._max_age_s for age in ages)

    async def refresh(self) -> None:
        """Return when what is known is young enough, or nobody should wait any longer."""
        until = self._monotonic() + self._patience_s
        while not self.is_fresh:
            if self._under_way is None:
                self._under_way = asyncio.ensure_future(self._look()), self._now()
            looking, began = self._under_way
            done, _ = await asyncio.wait((looking,), timeout=max(0.0, until - self._monotonic()))
            if not done:
                return
            self._under_way, self._looked_at = None, began
            looking.result()

    def _now(self) -> tuple[float, float]:
        return self._clock(), self._monotonic()
