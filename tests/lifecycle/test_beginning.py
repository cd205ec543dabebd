"""With which split a server begins: a restart goes on, another command begins anew, but not under a running server."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from configuration.settings import Settings
from shokado.dispatch.state import Environment, RoutingState, initial_state
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.serving.beginning import begin
from shokado.stores.opening import open_store
from shokado.stores.store import Action, Store
from tests.stores.entries import entry, report
from tests.support.settings import paper_settings


def settings(**weights: float) -> Settings:
    environment = {"active": next(iter(weights)), "weights": weights}
    return paper_settings(versions={version: {} for version in weights}, environments={"production": environment})


FIRST = settings(v1=90, v2=10)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """The one that a server of these settings has below `tmp_path`."""
    opened = open_store(FIRST.store, FIRST.model, tmp_path)
    yield opened
    opened.close()


def served(store: Store, state: RoutingState) -> None:
    """A server has begun with this state, and has ended."""
    store.append(replace(entry(1), state=state, action=Action.CONFIGURED), 0)


def changed(store: Store, **weights: float) -> None:
    """Somebody has changed the split while it served."""
    newest = store.read()
    assert newest is not None
    split = Environment("production", "v1", weights, salt="paper/production")
    state = replace(newest.state, generation=newest.generation + 1, environments={"production": split})
    store.append(replace(newest, state=state, action=Action.SPLIT, id=f"id-{state.generation}"), newest.generation)


def weights_in(state: RoutingState) -> dict[str, float]:
    return dict(state.environments["production"].weights)


def test_an_empty_store_is_left_to_the_server(tmp_path: Path) -> None:
    assert weights_in(begin(FIRST, tmp_path)) == {"v1": 90, "v2": 10}
    assert list(tmp_path.iterdir()) == []


def test_a_restart_goes_on_with_what_the_split_has_become(store: Store, tmp_path: Path) -> None:
    served(store, initial_state(FIRST))
    for weight in range(11, 130):  # more than is read at once
        changed(store, v1=100 - weight / 10, v2=weight / 10)
    assert weights_in(begin(FIRST, tmp_path)) == {"v1": pytest.approx(87.1), "v2": 12.9}
    assert store.position().generation == 120


@pytest.mark.parametrize("other", [settings(v1=50, v2=50), settings(v3=100), settings(v2=10, v1=90)], ids=str)
def test_another_command_begins_anew_and_the_history_stays(other: Settings, store: Store, tmp_path: Path) -> None:
    loaded = replace(initial_state(FIRST), loads=entry(1).state.loads)
    served(store, loaded)
    changed(store, v1=40, v2=60)
    state = begin(other, tmp_path)
    newest = store.read()
    assert newest is not None
    assert newest.state == state == replace(initial_state(other), generation=3)
    assert (newest.action, newest.by, newest.why) == (Action.CONFIGURED, "configuration", "shokado serve")
    assert [found.generation for found in store.history(10)] == [3, 2, 1]
    changed(store, **dict.fromkeys(other.versions, 1.0))
    assert begin(other, tmp_path).generation == 4, "and that is where its restart goes on"


def test_anew_is_said_to_undo_what_was_changed(store: Store, tmp_path: Path) -> None:
    served(store, initial_state(FIRST))
    changed(store, v1=40, v2=60)
    assert weights_in(begin(FIRST, tmp_path, anew=True)) == {"v1": 90, "v2": 10}
    assert begin(FIRST, tmp_path, anew=True).generation == 3, "which is so already"


def test_a_running_server_is_not_given_another_beginning(store: Store, tmp_path: Path) -> None:
    served(store, initial_state(FIRST))
    store.report(report("here-7", time.time()), 10)
    begin(FIRST, tmp_path)
    with pytest.raises(LifecycleError, match=r"A server of paper runs on here with .*paper\.db, and would follow"):
        begin(settings(v3=100), tmp_path)
    assert store.position().generation == 1
    store.withdraw("here-7")
    assert begin(settings(v3=100), tmp_path).generation == 2


def test_a_store_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "paper.db").write_text("no database, and more than a hundred bytes of it" * 9)
    with pytest.raises(LifecycleError, match=r"cannot be looked up in .*paper\.db"):
        begin(FIRST, tmp_path)
