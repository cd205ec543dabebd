"""The split with which a server begins: settings go in, and the store of the routing state agrees with them afterwards.

A store has the word on the split, so that a restart undoes no canary. But who names other versions or weights than the
last time means them: then the store gets one generation more, which is as configured.
"""

import secrets
import time
from dataclasses import replace
from pathlib import Path

from configuration.settings import Settings
from shokado.dispatch.state import RoutingState, fit, initial_state
from shokado.lifecycle.errors import LifecycleError, Overtaken
from shokado.stores.opening import open_store
from shokado.stores.store import Action, Entry, GenerationConflict, Store, StoreUnavailable

_PAGE = 100
"""Entries of the history that are read at once."""


def begin(settings: Settings, root: Path, *, anew: bool = False) -> RoutingState:
    """The routing state with which a server of these settings will begin.

    Args:
        root: folder to which the address of the store is relative, as for a server.
        anew: whether the split is as configured in any case, whatever it has become.

    Raises:
        LifecycleError: the store cannot be read or written; or a server runs with it, which would follow the change.
    """
    wanted, store = initial_state(settings), open_store(settings.store, settings.model, root)
    try:
        newest = store.read()
        if newest is None:
            return wanted
        held = fit(newest.state, settings)
        if held.environments == wanted.environments or (not anew and _began_as(wanted, store)):
            return held
        _refuse_under_a_server(store, settings)
        following = replace(wanted, generation=newest.generation + 1)
        entry = Entry(following, time.time(), "configuration", Action.CONFIGURED, "shokado serve", secrets.token_hex(8))
        store.append(entry, newest.generation)
        return following
    except StoreUnavailable as error:
        raise LifecycleError(f"The split cannot be looked up in {store.name}: {error}") from error
    except GenerationConflict as error:
        raise Overtaken(f"Somebody has just changed the split in {store.name}: run the command again.") from error
    finally:
        store.close()


def _began_as(wanted: RoutingState, store: Store) -> bool:
    """Whether what is in the store has become of the same configuration."""
    before: int | None = None
    while entries := store.history(_PAGE, before):
        for entry in entries:
            if entry.action is Action.CONFIGURED:
                return entry.state.environments == wanted.environments
        before = entries[-1].generation
    return False


def _refuse_under_a_server(store: Store, settings: Settings) -> None:
    reports = store.reports(time.time())
    if not reports:
        return
    raise LifecycleError(
        f"A server of {settings.model} runs on {reports[0].machine} with {store.name}, and would follow this split: "
        "stop it first; or change its split while it serves, with POST /v1/traffic-split; or serve beside it, with "
        "another store (such as SHOKADO_STORE=sqlite:///var/beside.db)."
    )
