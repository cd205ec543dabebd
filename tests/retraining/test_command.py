"""The command: it reads the event, its end is what came of it, and it ends in time and with its worker."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from shokado.retraining.command import run_command
from shokado.retraining.event import Outcome
from tests.support.server import ROOT
from tests.support.waiting import until, wait_until

pytestmark = pytest.mark.slow
BODY = b'{"type":"retraining.wanted"}'
WORKER = """
import asyncio, sys
from shokado.retraining.command import run_command
asyncio.run(run_command(tuple(sys.argv[1:]), b"", 600))
"""


def run(*command: str, timeout_s: float = 60) -> Outcome:
    return asyncio.run(run_command(command, BODY, timeout_s))


def is_written(path: Path) -> bool:
    return path.exists() and bool(path.read_text().strip())


def test_a_command_reads_the_event_and_has_the_environment_without_the_servers_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOKADO_FEEDBACK__SECRET_FILE", "x")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///x")
    found = run("sh", "-c", f"cat > {tmp_path}/event; env > {tmp_path}/environment")
    assert found == Outcome(True, "sh ended with 0")
    assert (tmp_path / "event").read_bytes() == BODY
    environment = (tmp_path / "environment").read_text()
    assert "MLFLOW_TRACKING_URI=sqlite:///x" in environment
    assert "SHOKADO_" not in environment


@pytest.mark.parametrize(
    ("command", "note"),
    [
        (("sh", "-c", "echo no data >&2; exit 3"), "sh ended with 3: no data"),
        (("sh", "-c", "kill -9 $$"), "sh was ended by SIGKILL"),
        (("no-such-program",), "no-such-program ended with 127: no-such-program: No such file or directory; "),
    ],
)
def test_a_command_that_fails_says_how(command: tuple[str, ...], note: str) -> None:
    found = run(*command)
    assert not found.accepted
    assert found.note.startswith(note)


def test_no_shell_reads_the_arguments(tmp_path: Path) -> None:
    assert run("touch", f"{tmp_path}/$(id)").accepted
    assert [path.name for path in tmp_path.iterdir()] == ["$(id)"]


def test_a_command_that_takes_too_long_is_ended() -> None:
    assert run("sleep", "600", timeout_s=1) == Outcome(False, "sleep was ended after 1 s: retraining.timeout_s")


def test_a_command_ends_with_what_it_started_when_its_worker_stops(tmp_path: Path) -> None:
    async def stopped() -> None:
        script = f"sleep 600 & echo $! > {tmp_path}/pid; sleep 600"
        task = asyncio.create_task(run_command(("sh", "-c", script), BODY, 600))
        await until(lambda: is_written(tmp_path / "pid"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(stopped())
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_a_command_ends_when_its_worker_is_killed(tmp_path: Path) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, "sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 600"], cwd=ROOT
    )
    try:
        wait_until(lambda: is_written(tmp_path / "pid"), 60)
        pid = int((tmp_path / "pid").read_text())
        assert psutil.pid_exists(pid)
    finally:
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
