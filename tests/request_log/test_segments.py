"""Segments: what was written is read, whatever becomes of the process or the disk."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shokado.request_log.records import LoggedFeedback, Record
from shokado.request_log.segments import MAGIC, SegmentDamaged, SegmentWriter, drop_old, records_of, segments_in
from tests.request_log.records import encoded
from tests.support import disk
from tests.support.waiting import wait_until

SAYING = [LoggedFeedback(float(number), f"p-{number}", 0, "1", None) for number in range(4)]
ENCODED = encoded(*SAYING)


def read(folder: Path) -> list[Record]:
    return [record for segment in segments_in(folder) for records, _ in records_of(segment) for record in records]


def test_what_was_written_is_read_in_its_order(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "log", "worker-a")
    writer.write(ENCODED[:1])
    writer.write(ENCODED[1:3])
    (segment,) = segments_in(tmp_path / "log")
    assert segment.is_open
    assert segment.size_bytes == writer.size
    writer.close()
    writer.write(ENCODED[3:])
    first, second = segments_in(tmp_path / "log")
    assert not first.is_open
    assert second.is_open
    assert read(tmp_path / "log") == SAYING
    assert first.path.stat().st_mode & 0o077 == 0


def test_many_records_are_several_blocks_of_which_none_is_written_unless_all_are(tmp_path: Path) -> None:
    long = encoded(*(LoggedFeedback(float(number), "p" * 2**16, 0, None, None) for number in range(10)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shokado.request_log.segments.BLOCK_BYTES", 2**18)
        writer = SegmentWriter(tmp_path, "a")
        writer.write(long)
        (segment,) = segments_in(tmp_path)
        assert segment.size_bytes == writer.size
        assert [len(records) for records, _ in records_of(segment)] == [4, 4, 2]
        size = writer.size
        patch.setattr("shokado.request_log.segments.MAX_BLOCK_BYTES", 2**19)
        with pytest.raises(OSError, match="File too large"):
            writer.write([*long, *encoded(LoggedFeedback(0.0, "p" * 2**20, 0, None, None))])
        assert segments_in(tmp_path)[0].size_bytes == writer.size == size
    assert [record.at for record in read(tmp_path) if isinstance(record, LoggedFeedback)] == list(range(10))


def test_segments_of_one_moment_have_names_that_ascend(tmp_path: Path) -> None:
    # A thousandth more than this rounds to the same thousandth, as a float.
    writer = SegmentWriter(tmp_path, "a", lambda: 1796013593.1195002)
    for number in range(4):
        writer.write(ENCODED[number : number + 1])
        writer.close()
    names = [segment.path.name for segment in segments_in(tmp_path)]
    assert names == [f"179601359312{number}-a.segment" for number in range(4)]
    assert read(tmp_path) == SAYING


def test_a_folder_that_is_not_there_has_no_segments(tmp_path: Path) -> None:
    assert segments_in(tmp_path / "none") == []


@pytest.mark.parametrize("lost", range(1, 40))
def test_half_a_block_is_where_reading_ends(tmp_path: Path, lost: int) -> None:
    writer = SegmentWriter(tmp_path, "a")
    writer.write(ENCODED[:3])
    whole = writer.size
    writer.write(ENCODED[3:])
    writer.close()
    (segment,) = segments_in(tmp_path)
    os.truncate(segment.path, max(segment.size_bytes - lost, 0))
    assert read(tmp_path) == (SAYING[:3] if segment.size_bytes - lost >= whole else [])


def test_a_block_that_was_changed_is_named(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, "a")
    writer.write(ENCODED)
    writer.close()
    (segment,) = segments_in(tmp_path)
    content = bytearray(segment.path.read_bytes())
    content[-3] ^= 1
    segment.path.write_bytes(content)
    with pytest.raises(SegmentDamaged, match=f"{segment.path.name}: the block at byte 8 is not as it was written"):
        read(tmp_path)
    segment.path.write_bytes(b"something else")
    with pytest.raises(SegmentDamaged, match="not a segment"):
        read(tmp_path)


def test_a_process_that_is_killed_loses_nothing_that_it_had_written(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path;"
        "from shokado.request_log.records import LoggedFeedback, encode;"
        "from shokado.request_log.segments import SegmentWriter;"
        "writer = SegmentWriter(Path(sys.argv[1]), 'b');"
        "writer.write([encode(LoggedFeedback(0.0, 'p-0', 0, '1', None))]);"
        "print('written', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        assert [segment.is_open for segment in segments_in(tmp_path)] == [True]
        process.kill()
    wait_until(lambda: not segments_in(tmp_path)[0].is_open)
    assert read(tmp_path) == SAYING[:1]


def test_a_full_disk_refuses_a_block_whole(small_disk: Path) -> None:
    writer = SegmentWriter(small_disk / "log", "a")
    writer.write(ENCODED[:1])
    make_room = disk.fill(small_disk)
    long = encoded(LoggedFeedback(0.0, "p" * 100_000, 0, None, None))
    with pytest.raises(OSError, match="No space left"):
        writer.write(long)
    make_room()
    writer.write(ENCODED[1:])
    assert read(small_disk / "log") == SAYING


def test_the_oldest_are_dropped_first_and_what_is_open_stays(tmp_path: Path) -> None:
    at = [1000.0]
    writer = SegmentWriter(tmp_path, "a", lambda: at[0])
    for moment in (1000.0, 2000.0, 3000.0):
        at[0] = moment
        writer.write(ENCODED)
        if moment < 3000:
            writer.close()
    sizes = [segment.size_bytes for segment in segments_in(tmp_path)]
    assert drop_old(tmp_path, sum(sizes), before=0) == []
    assert [segment.begun_at for segment in drop_old(tmp_path, sum(sizes) - 1, before=0)] == [1000.0]
    assert [segment.begun_at for segment in drop_old(tmp_path, 10**9, before=2500)] == [2000.0]
    assert drop_old(tmp_path, 0, before=9999) == []
    assert [segment.is_open for segment in segments_in(tmp_path)] == [True]


def test_one_that_was_just_begun_is_not_taken_for_an_ended_one(tmp_path: Path) -> None:
    """Between its making and its lock, nobody may think that it will get no records."""
    begun = tmp_path / "0000000002000-a.segment"
    begun.write_bytes(MAGIC)
    (segment,) = segments_in(tmp_path)
    assert (segment.is_open, segment.is_ended) == (False, False)
    assert drop_old(tmp_path, 0, before=1) == []
    assert [dropped.path for dropped in drop_old(tmp_path, 0, before=3)] == [begun], "whose process was killed then"
