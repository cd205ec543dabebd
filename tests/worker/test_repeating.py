"""Work that is repeated goes on whatever happens to it."""

import asyncio
import logging

import pytest

from shokado.stores.store import StoreUnavailable
from shokado.worker.repeating import repeat


def test_work_that_fails_is_logged_and_done_again_until_it_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    faults = [StoreUnavailable("away"), RuntimeError("something nobody thought of")]

    async def scenario() -> None:
        done = asyncio.Event()

        async def work() -> None:
            if faults:
                raise faults.pop()
            done.set()

        running = asyncio.create_task(repeat(0.001, work))
        await asyncio.wait_for(done.wait(), 60)
        assert not running.done()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(scenario())
    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(logged) == 1
    assert "something nobody thought of" in caplog.text
