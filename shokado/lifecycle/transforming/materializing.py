"""Materialization: values of the offline store become those that the online store has, view by view.

Each view that is done is noted in Feast's registry, so that the next run begins where this one ended; one that is
killed in between is done again, which comes to the same.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.progress import step
from shokado.lifecycle.transforming.feature_repository import RepositoryError, open_store


class MaterializationFailed(LifecycleError):
    """A view could not be materialized; those before it were."""


@dataclass(frozen=True)
class MaterializeOrder:
    """What is to be materialized."""

    folder: Path
    views: Sequence[str] = ()
    """Names of feature views; empty: all that are online."""
    start: datetime | None = None
    """Values from then on, whatever was done before; None: from where the last run ended."""
    end: datetime | None = None
    """Values up to then; None: up to now."""


def materialize(order: MaterializeOrder) -> list[str]:
    """Materialize, and return the names of the views. Raises `RepositoryError` and `MaterializationFailed`."""
    store = open_store(order.folder)
    online = [view.name for view in store.list_batch_feature_views() if view.online]
    unknown = [name for name in order.views if name not in online]
    if unknown or not online:
        known = ", ".join(online) or "none"
        which = f"no feature view {', '.join(unknown)}" if unknown else "no feature view"
        message = f"The repository {order.folder} has {which} in its online store; there are: {known}."
        raise RepositoryError(message, f"feast --chdir {order.folder} apply")
    end = order.end or datetime.now(UTC)
    names = [name for name in online if not order.views or name in order.views]
    for name in names:
        with step(f"materialize {name}") as current:
            # Feast prints bars and colours of its own.
            with contextlib.redirect_stdout(io.StringIO()):
                try:
                    if order.start is None:
                        store.materialize_incremental(end, feature_views=[name])
                    else:
                        store.materialize(order.start, end, feature_views=[name])
                # Of the offline store, the online store or the registry: Feast has no type of its own for it.
                except Exception as error:
                    message = f"The view {name} could not be materialized: {type(error).__name__}: {error}"
                    raise MaterializationFailed(message) from error
            current.outcome = f"up to {end:%Y-%m-%d %H:%M:%S} UTC"
    return names
