"""Followers of a real store, and what can happen to it."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from configuration.settings import Settings
from shokado.stores.follower import Follower
from shokado.stores.opening import open_store
from shokado.stores.store import Store, WorkerReport

_FILE = "store.db"


def store_in(folder: Path) -> Store:
    return open_store(f"sqlite:///{_FILE}", "paper", folder)


@contextlib.asynccontextmanager
async def following(folder: Path, settings: Settings) -> AsyncIterator[Follower]:
    """A follower that has read the SQLite file in this folder, or begun it with what is configured.

    It hears of what others write only when it makes a change itself.
    """

    def report() -> WorkerReport:
        return WorkerReport("w1", "m1", 1, 1, at=0.0)

    follower = Follower(store_in(folder), settings, lambda _: None, report, poll_every_s=3600)
    await follower.start()
    try:
        yield follower
    finally:
        await follower.stop()


def break_store(folder: Path) -> None:
    """Put something in the way of the file that cannot be opened."""
    for file in folder.glob(f"{_FILE}*"):
        file.unlink()
    (folder / _FILE).mkdir()


async def all_known() -> bool:
    """For a feedback collector that nobody else's secrets have anything to do with: there are no more to look for."""
    return True
