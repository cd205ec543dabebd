"""The places that stores are tested in."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shokado.stores.store import Store
from tests.stores.places import Place, RedisPlace, SqlitePlace
from tests.support.redis_server import RedisServer, needs_redis


@pytest.fixture(scope="session")
def redis_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_place(request: pytest.FixtureRequest) -> Iterator[RedisPlace]:
    place = RedisPlace(request.getfixturevalue("redis_of_all"))
    yield place
    place.close()


@pytest.fixture
def sqlite_place(tmp_path: Path) -> Iterator[SqlitePlace]:
    place = SqlitePlace(tmp_path)
    yield place
    place.close()


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=needs_redis)])
def place(request: pytest.FixtureRequest) -> Place:
    place: Place = request.getfixturevalue(f"{request.param}_place")
    return place


@pytest.fixture
def store(place: Place) -> Store:
    return place.open()


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that users other than root can get at, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="shokado-test-"))
    yield folder
    for inner, _, _ in os.walk(folder):
        Path(inner).chmod(0o700)
    shutil.rmtree(folder)
