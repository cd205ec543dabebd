"""Addresses of stores: which store they open, where, and which are refused without telling a password."""

from pathlib import Path

import pytest

from shokado.stores.opening import open_store
from shokado.stores.redis_store import RedisStore
from shokado.stores.sqlite_store import SqliteStore
from shokado.stores.store import EMPTY


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///var/routing.db", "{root}/var/routing.db"),
        ("sqlite:///{model}.db", "{root}/paper.db"),
        ("sqlite:////{root}/{model}/{model}.db", "{root}/paper/paper.db"),
        ("sqlite:///a b?#%20.db", "{root}/a b?#%20.db"),
    ],
)
def test_a_file_is_relative_to_the_root_unless_it_is_absolute(tmp_path: Path, url: str, path: str) -> None:
    store = open_store(url.replace("/{root}", str(tmp_path)), "paper", tmp_path)
    assert isinstance(store, SqliteStore)
    assert store.name == path.replace("{root}", str(tmp_path))
    assert store.position() == EMPTY
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://store:6380/2", "redis://store:6380/2"),
        ("redis://store", "redis://store:6379/0"),
        ("redis://", "redis://localhost:6379/0"),
        ("rediss://store:6380/0", "rediss://store:6380/0"),
        ("redis://:hush@store:6379/1", "redis://store:6379/1"),
        ("redis://ann:hush@store:6379/1", "redis://store:6379/1"),
        ("redis://store:6379/0?password=hush&db=3", "redis://store:6379/3"),
        ("redis://{model}-store:6379/0", "redis://paper-store:6379/0"),
    ],
)
def test_a_redis_is_named_without_its_password(url: str, name: str) -> None:
    store = open_store(url, "paper", Path("/nowhere"))
    assert isinstance(store, RedisStore)
    assert (store.name, store.durability) == (name, "")
    store.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgres://ann:hush@store/db", "'postgres' is no store: use sqlite:///path, sqlite:////path or redis://"),
        ("sqlite:///", "'sqlite' is no store"),
        ("sqlite://file.db", "'sqlite' is no store"),
        ("var/routing.db", "'var/routing.db' is no store"),
        ("", "'' is no store"),
        ("redis:/ann:hush@store", "'redis' is no store"),
        ("redis://:hu#sh@store:6379/0", "cannot be read; special characters of a password in it are written as %40"),
        ("redis://:hush/hush@store:6379/0", "cannot be read; special characters"),
        ("redis://store:port/0", "cannot be read"),
    ],
)
def test_other_addresses_are_refused_without_their_password(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refusal:
        open_store(url, "paper", Path("/nowhere"))
    assert "hu" not in str(refusal.value)
    assert refusal.value.__cause__ is None
