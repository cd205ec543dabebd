import itertools

import pytest

from runners.version_state import READY_SOON, VersionState

S = VersionState


def test_a_version_takes_the_way_of_its_life_and_no_other() -> None:
    life = [S.LOADING, S.STARTING, S.READY, S.AWAY, S.READY, S.DRAINING, S.CLOSED]
    assert all(one.may_become(next_one) for one, next_one in itertools.pairwise(life))
    assert all(state.may_become(state) for state in S), "to stay is no change"
    assert {state for state in S if S.CLOSED.may_become(state)} == {S.CLOSED}, "a closed one is never opened again"
    assert {state for state in S if S.DRAINING.may_become(state)} == {S.DRAINING, S.CLOSED}
    assert not any(S.STARTING.may_become(state) for state in (S.DRAINING, S.UNLOADED, S.LOADING))


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (S.LOADING, "LOADING"),
        (S.STARTING, "LOADING"),
        (S.READY, "READY"),
        (S.DRAINING, "UNLOADING"),
        *((state, "UNAVAILABLE") for state in (S.UNLOADED, S.AWAY, S.CLOSED, S.FAILED)),
    ],
)
def test_clients_of_the_open_inference_protocol_hear_its_words(state: VersionState, word: str) -> None:
    assert state.word == word


@pytest.mark.parametrize("elsewhere", [False, True])
def test_only_what_may_come_back_is_excused(elsewhere: bool) -> None:
    excused = {state for state in S if state.is_excused(elsewhere=elsewhere)}
    assert excused == ({S.AWAY, S.FAILED} if elsewhere else {S.AWAY})


def test_what_other_workers_say_is_compared_as_text() -> None:
    assert "ready" in READY_SOON
    assert "starting" in READY_SOON
    assert "unknown" not in READY_SOON
