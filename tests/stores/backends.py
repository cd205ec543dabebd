"""What stores keep their content in, and what can happen to it."""

import contextlib
import shutil
import sqlite3
from abc import ABC, abstractmethod
from pathlib import Path

from shokado.stores.opening import open_store
from shokado.stores.store import Store
from tests.support.redis_server import RedisServer

MODEL = "paper"


class Backend(ABC):
    """One store, which can be opened as often as is wanted."""

    url: str

    def __init__(self) -> None:
        self._opened: list[Store] = []

    def open(self) -> Store:
        """Another handle."""
        store = open_store(self.url, MODEL, Path("/nowhere"))
        self._opened.append(store)
        return store

    def close(self) -> None:
        while self._opened:
            self._opened.pop().close()

    @abstractmethod
    def take_away(self) -> None:
        """Whoever uses the store now is refused."""

    @abstractmethod
    def give_back(self) -> None:
        """It is there again, with what it had."""

    @abstractmethod
    def refuse_writes(self) -> None:
        """It can be read, and is empty, but not written; to be called while it is."""

    @abstractmethod
    def take_writes(self) -> None:
        """It can be written again."""

    @abstractmethod
    def wipe(self) -> None:
        """Everything in it is gone."""

    @abstractmethod
    def keep_copy(self) -> None:
        """For `set_back`."""

    @abstractmethod
    def set_back(self) -> None:
        """It has again what it had at `keep_copy`."""

    @abstractmethod
    def put(self, generation: int, identifier: str, content: bytes) -> None:
        """Have this as the newest entry, whatever it is."""

    @abstractmethod
    def put_older_secret(self, value: bytes) -> None:
        """As versions did that kept one only."""

    @abstractmethod
    def older_secret(self) -> bytes:
        """What those versions would find."""


class SqliteBackend(Backend):
    """An SQLite file in a folder, which is a link, so that what lies behind it can be changed in one piece."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "routing" / "routing.db"
        self.url = f"sqlite:///{self.path}"
        self._folder = folder
        self._copy = folder / "copy.db"
        (folder / "usual").mkdir()
        (folder / "blocked" / self.path.name).mkdir(parents=True)
        (folder / "no-folder").touch()
        self._link_to("usual")

    def _link_to(self, name: str) -> None:
        link = self._folder / "link"
        link.symlink_to(name)
        link.replace(self.path.parent)

    def take_away(self) -> None:
        self._link_to("blocked")

    def give_back(self) -> None:
        self._link_to("usual")

    def refuse_writes(self) -> None:
        # Not even root can write into what is no folder.
        self._link_to("no-folder")

    def take_writes(self) -> None:
        self._link_to("usual")

    def wipe(self) -> None:
        """As people do it: without a thought of the files beside it."""
        self.path.unlink(missing_ok=True)

    def keep_copy(self) -> None:
        with contextlib.closing(self.connect()) as source, contextlib.closing(sqlite3.connect(self._copy)) as copy:
            source.backup(copy)

    def set_back(self) -> None:
        """Likewise."""
        shutil.copy(self._copy, self.path.with_name("new"))
        self.path.with_name("new").replace(self.path)

    def put(self, generation: int, identifier: str, content: bytes) -> None:
        with contextlib.closing(self.connect()) as connection, connection:
            connection.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", (generation, identifier, content))

    def put_older_secret(self, value: bytes) -> None:
        with contextlib.closing(self.connect()) as connection, connection:
            table = "CREATE TABLE secret (number INTEGER PRIMARY KEY CHECK (number = 1), value BLOB NOT NULL)"
            connection.execute(table)
            connection.execute("INSERT INTO secret VALUES (1, ?)", (value,))

    def older_secret(self) -> bytes:
        with contextlib.closing(self.connect()) as connection:
            return bytes(connection.execute("SELECT value FROM secret").fetchone()[0])

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path)


class RedisBackend(Backend):
    """A database of a Redis server of its own, which is emptied."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__()
        self.server = server
        self.url = server.url
        self._copy: dict[bytes, bytes] = {}
        self.wipe()

    def take_away(self) -> None:
        self.server.kill()

    def give_back(self) -> None:
        self.server.start()

    def refuse_writes(self) -> None:
        with self.server.client() as client:
            client.config_set("maxmemory", 1)

    def take_writes(self) -> None:
        with self.server.client() as client:
            client.config_set("maxmemory", 0)

    def wipe(self) -> None:
        with self.server.client() as client:
            client.flushall()

    def keep_copy(self) -> None:
        with self.server.client() as client:
            self._copy = {key: client.dump(key) for key in client.scan_iter()}

    def set_back(self) -> None:
        with self.server.client() as client, client.pipeline(transaction=True) as together:
            together.flushall()
            for key, value in self._copy.items():
                together.restore(key, 0, value)
            together.execute()

    def put(self, generation: int, identifier: str, content: bytes) -> None:
        prefix = f"shokado:{{{MODEL}}}:"
        with self.server.client() as client:
            client.hset(f"{prefix}entries", str(generation), content)
            client.zadd(f"{prefix}generations", {str(generation): generation})
            client.hset(f"{prefix}newest", mapping={"generation": generation, "id": identifier})

    def put_older_secret(self, value: bytes) -> None:
        with self.server.client() as client:
            client.set(f"shokado:{{{MODEL}}}:secret", value)

    def older_secret(self) -> bytes:
        with self.server.client() as client:
            return bytes(client.get(f"shokado:{{{MODEL}}}:secret") or b"")
