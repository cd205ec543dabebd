"""Children of real processes: what comes of them is told, and they end with whoever waits for them."""

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from runners.child import run_child
from tests.support.server import ROOT
from tests.support.waiting import in_time, wait_until

PARENT = """
import asyncio, sys
from runners.child import run_child
asyncio.run(run_child(*sys.argv[1:], timeout_s=600))
"""


def test_a_module_is_run_as_by_hand_and_what_it_says_comes_back(tmp_path: Path) -> None:
    given = tmp_path / "given.json"
    given.write_text("")
    ended = asyncio.run(run_child("json.tool", "--compact", timeout_s=60, given=b"[1, 2]"))
    assert (ended.code, ended.output, ended.errors) == (0, "[1,2]\n", "")
    ended = asyncio.run(run_child("json.tool", str(given), timeout_s=60))
    assert ended.code == 1
    assert ended.last_words.startswith("Expecting value")


def test_a_child_ends_with_the_process_that_waits_for_it_however_that_does() -> None:
    command = [sys.executable, "-c", PARENT, "http.server", "0", "--bind", "127.0.0.1"]
    parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: psutil.Process(parent.pid).children())
        (child,) = psutil.Process(parent.pid).children()
        wait_until(child.net_connections)
    finally:
        parent.kill()
        parent.wait()
    try:
        wait_until(lambda: not psutil.pid_exists(child.pid) or child.status() == psutil.STATUS_ZOMBIE)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def test_a_child_that_is_not_wanted_any_more_while_it_starts_is_ended() -> None:
    async def cancelled(turns: int) -> None:
        task = asyncio.create_task(run_child("runners.child", timeout_s=60))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for turns in range(1, 6):
        in_time(cancelled(turns))
