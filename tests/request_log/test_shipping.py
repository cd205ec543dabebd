"""Shipping: of the workers of a machine one sends, another takes over, and what is recorded last is sent at the end."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from configuration.log_settings import LogSettings, SinkSettings
from configuration.settings import SettingsError
from shokado.request_log.sent import unsent_in
from shokado.request_log.shipping import LogShipping, check_sink
from tests.request_log.sinks.receiver import receiving
from tests.request_log.test_shipper import write
from tests.support.server import free_port
from tests.support.waiting import in_time, until


def shipping_to(url: str, folder: Path) -> LogShipping:
    return LogShipping(LogSettings(share=1, sink=SinkSettings(url=url)), folder, "toy", folder)


def test_one_of_two_workers_sends_and_the_other_takes_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        log, there = tmp_path / "log", tmp_path / "there"
        write(log, 2)
        first, second = (shipping_to(f"file://{there}/{{model}}", log) for _ in range(2))
        for worker in (first, second):
            worker.start()
        await until(lambda: not unsent_in(log))
        assert len(list((there / "toy").glob("*.segment"))) == 2
        sent = 0
        while sent < 2:
            sent += first.take().segments + second.take().segments
            await asyncio.sleep(0.05)
        holders = [worker for worker in (first, second) if worker._lock is not None]
        assert len(holders) == 1
        await holders[0].finish(0)
        write(log, 1)
        await until(lambda: not unsent_in(log))
        await (second if holders == [first] else first).finish(0)

    in_time(scenario())


def test_a_sink_that_is_away_is_told_and_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        write(tmp_path, 1)
        worker = shipping_to(f"http://127.0.0.1:{free_port()}/", tmp_path)
        worker.start()
        failures, lag_s = 0, 0.0
        while not failures or not lag_s:
            taken = worker.take()
            failures += taken.failures["unreachable"]
            lag_s = taken.lag_s
            await asyncio.sleep(0.05)
        assert len(unsent_in(tmp_path)) == 1
        assert "the request log is not sent" in caplog.text
        await worker.finish(0.1)
        with receiving() as receiver:
            other = shipping_to(receiver.url, tmp_path)
            other.start()
            await other.finish(60)
            assert receiver.ids("response") == ["p-0"]
        assert unsent_in(tmp_path) == []

    in_time(scenario())


def test_what_cannot_be_used_is_refused_at_the_start(tmp_path: Path) -> None:
    def refused(**sink: Any) -> str:
        with pytest.raises(SettingsError) as raised:
            check_sink(LogSettings(sink=SinkSettings(**sink)), tmp_path)
        return str(raised.value)

    assert "gs:// needs the package gcsfs, which is not installed: make sinks" in refused(url="gs://bucket/log")
    assert "is no file" in refused(url="https://events.example/", key_file="key")
    check_sink(LogSettings(), tmp_path)
    check_sink(LogSettings(sink=SinkSettings(url="file:///log")), tmp_path)


@pytest.mark.parametrize(
    "url",
    ["https://user:secret@events.example/", "s3://key:secret@bucket", "https://events.example/?token=secret", "bucket",
     "https://", "http:/x", "s3://", "s3://a b"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_and_no_password_repeated(url: str) -> None:
    with pytest.raises(ValueError) as raised:
        SinkSettings(url=url)
    assert "user:secret" not in raised.value.errors()[0]["msg"]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="key_file is for http"):
        SinkSettings(url="s3://bucket", key_file="key")
