"""The follower: keeps this worker at the store's newest generation, and makes changes through it.

Everything of the store happens in one thread beside the event loop. Methods belong to the event loop.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from dispatch.state import RoutingState
from stores.store import Action, Entry, Store

Result = TypeVar("Result")


class Follower:
    """`adopt` is called on the event loop with every newer state, before anybody else hears of it."""

    entry: Entry | None
    """The newest one that this worker has; none until the store was read for the first time."""
    failure: str | None
    """Why the store cannot be used now; none while it can."""
    store: Store

    @property
    def state(self) -> RoutingState | None: ...

    async def start(self) -> None:
        """Read the store, or make its first entry, and follow it from now on. Returns when that was tried once."""

    async def change(
        self,
        make: Callable[[RoutingState], RoutingState],
        *,
        by: str,
        action: Action,
        why: str = "",
        if_match: int | None = None,
    ) -> Entry:
        """Replace the state by `make(newest state)`, durably, adopt it here, and return the new entry.

        `make` may be called again when somebody else was faster, unless `if_match` names the only generation that may
        be replaced. Raises what `make` raises, `GenerationConflict` and `StoreUnavailable`.
        """
        raise NotImplementedError

    async def ask(self, method: Callable[..., Result], *arguments: Any) -> Result:
        """Call a method of the store off the event loop. Raises `StoreUnavailable`."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Stop following, withdraw this worker's report, and close the store."""
