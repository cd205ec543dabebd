"""The last rows are those that reading everything gives, and a few blocks are read for them."""

import asyncio
import os
import random
from pathlib import Path

import msgspec
import pytest

from configuration.log_settings import LogSettings
from runners.artefacts.card import Card
from shokado.request_log import segments
from shokado.request_log.last_rows import LastRows, last_rows
from shokado.request_log.log_writer import LogWriter
from shokado.request_log.logged_rows import rows_in
from shokado.request_log.records import LoggedRequest
from tests.request_log.records import encoded, request_of
from tests.support.cards import make_card
from tests.support.waiting import in_time

FIRST, SECOND = make_card(version="v1"), make_card(version="v2")


def writer_of(folder: Path, worker: str) -> LogWriter:
    return LogWriter(LogSettings(share=1), folder, worker, bytes(32))


def write(writer: LogWriter, at: float, card: Card = FIRST, rows: int = 1, number: int = 1) -> None:
    request = request_of(card, [[index, 2] for index in range(rows)], [0.75] * rows, at=at, card=number)
    writer.write(encoded(request), {number: card})


def newest(folder: Path, number: int) -> list[float]:
    """An independent answer: everything is read."""
    return sorted((row.at for row in rows_in(folder)), reverse=True)[:number]


def test_they_are_the_newest_of_all_workers_whatever_is_open(tmp_path: Path) -> None:
    draw = random.Random(0)
    writers = [writer_of(tmp_path, name) for name in "abc"]
    for at in range(200):
        writer = draw.choice(writers)
        write(writer, float(at), *draw.choice([(FIRST, 1, 1), (SECOND, 2, 2)]))
        if draw.random() < 0.1:
            writer.end_segment()
    for number in (1, 7, 50, 500):
        found = last_rows(tmp_path, number)
        assert [row.at for row in found.rows] == newest(tmp_path, number)
        assert found.damaged == []
    versions = {row.at: row.version for row in rows_in(tmp_path)}
    assert all(row.version == versions[row.at] for row in last_rows(tmp_path, 50).rows)


def test_a_long_segment_is_not_read_for_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = writer_of(tmp_path, "a")
    for at in range(300):
        write(writer, float(at), FIRST if at < 150 else SECOND, number=1 if at < 150 else 2)
    read: list[int] = []
    found = segments.read_block

    def counted(*given: object) -> object:
        read.append(1)
        return found(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("shokado.request_log.last_rows.read_block", counted)
    assert [row.at for row in last_rows(tmp_path, 3).rows] == [299, 298, 297]
    # The last three, the one before them, which nobody needs, and the last one with a card.
    assert len(read) <= 5
    read.clear()
    assert [row.version for row in last_rows(tmp_path, 151).rows][-1] == "v1"
    assert len(read) <= 151 + 1 + 2


def test_a_file_that_was_written_before_the_others_is_not_opened(tmp_path: Path) -> None:
    old, new = writer_of(tmp_path, "a"), writer_of(tmp_path, "b")
    write(old, 1000.0)
    old.end_segment()
    (segment,) = segments.segments_in(tmp_path)
    os.utime(segment.path, (1000.0, 1000.0))
    segment.path.write_bytes(segment.path.read_bytes()[:8] + b"damaged" * 100)
    os.utime(segment.path, (1000.0, 1000.0))
    for at in (5000.0, 5001.0):
        write(new, at)
    assert last_rows(tmp_path, 2).damaged == []
    found = last_rows(tmp_path, 3)
    assert [row.at for row in found.rows] == [5001, 5000]
    assert segment.path.name in found.damaged[0]


def test_a_request_of_many_rows_gives_as_many_as_are_asked_for(tmp_path: Path) -> None:
    writer = writer_of(tmp_path, "a")
    write(writer, 1.0)
    write(writer, 2.0, rows=1000)
    found = last_rows(tmp_path, 10).rows
    assert [(row.at, row.index) for row in found] == [(2.0, index) for index in range(10)]


def test_of_requests_in_one_record_the_last_are_the_newest(tmp_path: Path) -> None:
    record = request_of(FIRST, [[index, 2] for index in range(7)], [0.75] * 7)
    requests = [LoggedRequest("r", f"p-{rows}", "u", "SPLIT", 0.1, rows) for rows in (1, 4, 2)]
    writer_of(tmp_path, "a").write(encoded(msgspec.structs.replace(record, requests=requests)), {1: FIRST})
    rows = [(row.prediction_id, row.index, row.features["width"]) for row in last_rows(tmp_path, 5).rows]
    assert rows == [("p-2", 0, 5), ("p-2", 1, 6), ("p-4", 0, 1), ("p-4", 1, 2), ("p-4", 2, 3)]


def test_half_a_block_at_the_end_is_left_out(tmp_path: Path) -> None:
    writer = writer_of(tmp_path, "a")
    for at in (1.0, 2.0):
        write(writer, at)
    (segment,) = segments.segments_in(tmp_path)
    os.truncate(segment.path, segment.size_bytes - 5)
    assert [row.at for row in last_rows(tmp_path, 10).rows] == [1.0]


def test_those_who_ask_take_turns(tmp_path: Path) -> None:
    async def scenario() -> None:
        write(writer_of(tmp_path, "a"), 1.0)
        last = LastRows(tmp_path)
        found = await asyncio.gather(*(last.find(5) for _ in range(20)))
        assert all(len(one.rows) == 1 for one in found)
        assert (await LastRows(tmp_path / "none").find(5)).rows == []

    in_time(scenario())
