"""The supervisor's pauses, and what it refuses; real supervisors are in `faults.test_supervision`."""

import socket
import tempfile

import pytest

from shokado.worker.supervision import (
    FIRST_PAUSE_S,
    MAX_FOLDER_BYTES,
    MAX_PAUSE_S,
    SHORT_LIFE_S,
    Pauses,
    refuse_long_folder,
    refuse_unfit,
)
from tests.support.server import free_port


def test_the_first_end_is_followed_at_once_and_the_next_ones_after_pauses_that_double() -> None:
    pauses = Pauses()
    taken = [pauses.ended(lived_s=1, now=100.0) for _ in range(8)]
    assert taken == [0, FIRST_PAUSE_S, 2, 4, 8, 16, MAX_PAUSE_S, MAX_PAUSE_S]
    assert pauses.until == 100 + MAX_PAUSE_S


def test_a_worker_that_served_for_a_while_begins_anew() -> None:
    pauses = Pauses()
    for _ in range(4):
        pauses.ended(lived_s=1, now=0)
    assert pauses.ended(lived_s=SHORT_LIFE_S, now=50) == 0
    assert pauses.until == 50
    assert pauses.ended(lived_s=1, now=60) == FIRST_PAUSE_S


@pytest.mark.parametrize(("characters", "refused"), [(MAX_FOLDER_BYTES, False), (MAX_FOLDER_BYTES + 1, True)])
def test_a_folder_too_long_for_sockets_is_named(
    monkeypatch: pytest.MonkeyPatch, characters: int, *, refused: bool
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * (characters - 1))
    if refused:
        with pytest.raises(SystemExit, match=r"TMPDIR: /x+ has 61 characters, .* 60 at most, .*TMPDIR=/tmp"):
            refuse_long_folder()
    else:
        refuse_long_folder()


def test_an_address_that_cannot_be_listened_at_is_told_with_what_helps() -> None:
    with pytest.raises(SystemExit, match=r"--host 192\.0\.2\.1: .* an address of this machine: make serve HOST="):
        refuse_unfit(socket.AF_INET, "192.0.2.1", 3000)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port := free_port()))
        other.listen()
        with pytest.raises(SystemExit, match=rf"--port {port}: .* choose another: make serve PORT={port + 1}"):
            refuse_unfit(socket.AF_INET, "127.0.0.1", port)
