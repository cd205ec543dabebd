"""The process of a version's own service, in this one: its engine is opened safely, or it answers with the reason."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from configuration.settings import Settings
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import Examples
from runners.engines.engine import example_rows
from runners.placements.hop import UNSERVABLE
from shokado.dialects.head import RequestHead
from shokado.dispatch.state import Load
from shokado.stores.machine import Machine
from shokado.worker.versions import version_process
from shokado.worker.versions.trials import Trials
from shokado.worker.versions.version_process import open_rows
from tests.support.shelf import Shelf, own_shelf
from tests.transports.memory_exchange import MemoryExchange

SETTINGS = Settings.model_validate(
    {
        "model": "customers",
        "versions": {"v1": {"placement": "service"}},
        "environments": {"production": {"active": "v1", "weights": {"v1": 1}}},
        "batching": {"max_batch_rows": 64},
    }
)
TRIALS = Trials(SETTINGS, Machine.of("the tests of version processes", str(os.getpid())))


@pytest.fixture
def shelf(models: Path) -> Iterator[Shelf]:
    with own_shelf("process") as own:
        yield own


def answered(artefact: Artefact, settings: Settings = SETTINGS) -> MemoryExchange:
    """What the gateway is told that asks for the scores of the card's examples."""
    rows, exchange = asyncio.run(open_rows("v1", artefact, settings, TRIALS)), MemoryExchange()
    rows.begin(RequestHead(), example_rows(artefact.card).tobytes(), exchange)
    return exchange


def load_of(artefact: Artefact) -> Load:
    return Load(artefact.tag, artefact.digest, artefact.tag)


def leave_death(artefact: Artefact) -> None:
    """As a process would that died while it opened it."""
    with contextlib.suppress(TimeoutError), TRIALS.opening("v1", load_of(artefact), 0):
        raise TimeoutError


def test_its_engine_scores_batches_also_after_a_death_that_was_not_its_fault(shelf: Shelf) -> None:
    artefact = shelf.put("good")
    leave_death(artefact)
    exchange = answered(artefact)
    assert exchange.status == 200
    np.testing.assert_allclose(np.frombuffer(exchange.body, np.float32), artefact.card.examples.scores, atol=1e-5)
    assert TRIALS.deaths("v1", load_of(artefact)) == 0


def test_what_a_process_has_died_of_is_tried_in_another_one_and_then_answered_with_the_reason(shelf: Shelf) -> None:
    artefact = shelf.crashing("deadly")
    leave_death(artefact)
    exchange = answered(artefact)
    assert exchange.status == UNSERVABLE
    assert b"it kills the process that opens it: SIGSEGV" in exchange.body
    assert TRIALS.deaths("v1", load_of(artefact)) == 1, "a trial is none"


def test_what_cannot_be_opened_or_scores_wrongly_is_answered_with_the_reason(shelf: Shelf) -> None:
    artefact = shelf.put("wrong", examples=Examples(rows=((0.0,) * 10,), scores=(0.9876,)))
    exchange = answered(artefact)
    assert (exchange.status, b"does not score the card's examples" in exchange.body) == (UNSERVABLE, True)
    shelf.truncate(artefact)
    assert answered(artefact).status == UNSERVABLE


def test_a_process_ends_whose_engine_does_not_come_back_and_the_next_one_knows(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended(BaseException):
        pass

    def end(why: str) -> None:
        raise Ended(why)

    artefact, released = shelf.put("endless"), threading.Event()
    short = SETTINGS.model_copy(update={"loading": SETTINGS.loading.model_copy(update={"timeout_s": 0.05})})
    monkeypatch.setattr(version_process, "end_process", end)
    monkeypatch.setattr(version_process, "open_engine", lambda *_: released.wait())
    with pytest.raises(Ended, match=r"the engine of version v1 was not ready within"):
        answered(artefact, short)
    released.set()
    assert TRIALS.deaths("v1", load_of(artefact)) == 1
