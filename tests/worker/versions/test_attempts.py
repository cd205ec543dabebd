"""Attempts: a process that is killed in one leaves a death behind, and nothing else does."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shokado.stores.machine import Machine
from shokado.worker.versions.attempts import FORGET_S, Attempts
from tests.support.server import ROOT

OPENING = """
import sys, time
from pathlib import Path
from shokado.worker.versions.attempts import Attempts
from shokado.stores.machine import Machine
with Attempts(Machine(Path(sys.argv[1]))).begin("v1", int(sys.argv[2])):
    print("begun", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def attempts(tmp_path: Path) -> Attempts:
    return Attempts(Machine(tmp_path))


@contextmanager
def opening(folder: Path, deaths: int = 0) -> Iterator[None]:
    """Another process that opens it, and is killed in the end."""
    command = [sys.executable, "-c", OPENING, str(folder), str(deaths)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        try:
            yield
        finally:
            process.kill()


def test_a_process_that_is_killed_leaves_a_death(attempts: Attempts, tmp_path: Path) -> None:
    assert attempts.deaths("v1") == 0
    with opening(tmp_path):
        assert attempts.deaths("v1") == 0, "it lives"
    assert (attempts.deaths("v1"), attempts.deaths("v2")) == (1, 0)
    # Those that were killed at the same time are one death.
    with opening(tmp_path), opening(tmp_path):
        pass
    assert attempts.deaths("v1") == 1
    with opening(tmp_path, deaths=1):
        pass
    assert attempts.deaths("v1") == 2


def test_success_forgets_deaths_and_an_error_does_not(attempts: Attempts, tmp_path: Path) -> None:
    with opening(tmp_path):
        pass
    with pytest.raises(ValueError, match="unfit"), attempts.begin("v1", 1):
        raise ValueError("unfit")
    assert attempts.deaths("v1") == 1
    with attempts.begin("v1", 1):
        pass
    assert attempts.deaths("v1") == 0
    assert list(tmp_path.iterdir()) == []


def test_what_hangs_counts_as_a_death(attempts: Attempts) -> None:
    with pytest.raises(TimeoutError), attempts.begin("v1", 0):
        raise TimeoutError
    assert attempts.deaths("v1") == 1


def test_after_a_while_many_deaths_are_one(attempts: Attempts, tmp_path: Path) -> None:
    with opening(tmp_path, deaths=4):
        pass
    assert attempts.deaths("v1") == 5
    (file,) = tmp_path.iterdir()
    long_ago = time.time() - FORGET_S - 1
    os.utime(file, (long_ago, long_ago))
    assert attempts.deaths("v1") == 1


def test_where_nothing_can_be_noted_the_attempt_is_made_nevertheless(tmp_path: Path) -> None:
    nowhere = Attempts(Machine(tmp_path / "missing" / "folder"))
    with nowhere.begin("v1", 0):
        assert nowhere.deaths("v1") == 0
