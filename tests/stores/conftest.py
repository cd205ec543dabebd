"""The backends that stores are tested over."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shokado.stores.store import Store
from tests.stores.backends import Backend, RedisBackend, SqliteBackend
from tests.support.redis_server import RedisServer, needs_redis


@pytest.fixture(scope="session")
def redis_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_backend(request: pytest.FixtureRequest) -> Iterator[RedisBackend]:
    backend = RedisBackend(request.getfixturevalue("redis_of_all"))
    yield backend
    backend.close()


@pytest.fixture
def sqlite_backend(tmp_path: Path) -> Iterator[SqliteBackend]:
    backend = SqliteBackend(tmp_path)
    yield backend
    backend.close()


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=needs_redis)])
def backend(request: pytest.FixtureRequest) -> Backend:
    backend: Backend = request.getfixturevalue(f"{request.param}_backend")
    return backend


@pytest.fixture
def store(backend: Backend) -> Store:
    return backend.open()


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that users other than root can get at, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="shokado-test-"))
    yield folder
    for inner, _, _ in os.walk(folder):
        Path(inner).chmod(0o700)
    shutil.rmtree(folder)
