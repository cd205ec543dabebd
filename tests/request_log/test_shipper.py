"""The shipper: in order, at least once, for as long as the segment is there, and never by more than one process."""

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from configuration.log_settings import LogSettings, SinkSettings
from shokado.request_log.log_writer import LogWriter
from shokado.request_log.segments import MAGIC, Segment, SegmentDamaged, segments_in
from shokado.request_log.sent import mark_sent, sent_in, unsent_in
from shokado.request_log.shipper import HUNG, MAX_REST_S, Progress, ShipOrder, Shipper, ShipReport
from shokado.request_log.sinks.sink import FailureReason, SinkFailure, Step
from tests.request_log.records import encoded, request_of
from tests.request_log.sinks.receiver import receiving
from tests.support.cards import make_card
from tests.support.waiting import wait_until

CARD = make_card()


def write(folder: Path, segments: int, rows: int = 1) -> None:
    """Segments with one request each, `p-0` to `p-<segments - 1>`."""
    writer = LogWriter(LogSettings(share=1), folder, "a", bytes(32))
    for number in range(segments):
        request = request_of(CARD, [[number, 2]] * rows, [0.5] * rows, prediction_id=f"p-{number}")
        writer.write(encoded(request), {1: CARD})
        writer.end_segment()


class Scripted:
    """A sink of two steps a segment, which fail as the script says."""

    name = "nowhere"

    def __init__(self, *failures: SinkFailure | None) -> None:
        self.failures = iter(failures)
        self.taken: list[tuple[str, int]] = []

    def steps(self, segment: Segment) -> Iterator[Step]:
        for number in (1, 2):
            yield partial(self._take, segment, number)

    def _take(self, segment: Segment, number: int) -> None:
        if (failure := next(self.failures, None)) is not None:
            raise failure
        self.taken.append((segment.path.name, number))


def busy() -> SinkFailure:
    return SinkFailure(FailureReason.REFUSED, "busy")


def test_segments_are_sent_in_their_order_and_once(tmp_path: Path) -> None:
    write(tmp_path, 3)
    sink, progress = Scripted(), Progress()
    shipper = Shipper(tmp_path, sink, progress)
    assert shipper.ship() == 3
    names = [segment.path.name for segment in segments_in(tmp_path)]
    assert sink.taken == [(name, number) for name in names for number in (1, 2)]
    assert shipper.ship() == 0
    assert sent_in(tmp_path) == set(names)
    report = progress.take()
    assert report == ShipReport(3, sum(segment.size_bytes for segment in segments_in(tmp_path)), {}, "")
    assert progress.take() is None


def test_what_fails_is_tried_again_with_longer_and_longer_rests(tmp_path: Path) -> None:
    write(tmp_path, 1)
    rests: list[float] = []
    sink, progress = Scripted(*(busy() for _ in range(9))), Progress()
    Shipper(tmp_path, sink, progress, rest=rests.append, draw=lambda: 1.0).ship()
    assert rests == [1, 2, 4, 8, 16, 32, MAX_REST_S, MAX_REST_S, MAX_REST_S]
    assert [number for _, number in sink.taken] == [1, 2]
    assert progress.take() == ShipReport(1, segments_in(tmp_path)[0].size_bytes, {"refused": 9}, "")


def test_a_step_that_was_taken_is_not_taken_again_for_a_later_one(tmp_path: Path) -> None:
    write(tmp_path, 1)
    sink = Scripted(None, busy(), SinkFailure(FailureReason.REFUSED, "busy", retry_after_s=90))
    rests: list[float] = []
    Shipper(tmp_path, sink, Progress(), rest=rests.append, draw=lambda: 0.0).ship()
    assert [number for _, number in sink.taken] == [1, 2]
    assert rests == [0.5, 90], "as long as the sink asks for"


def test_what_the_limits_remove_is_given_up(tmp_path: Path) -> None:
    write(tmp_path, 2)
    first, second = segments_in(tmp_path)
    sink, progress = Scripted(*(busy() for _ in range(3))), Progress()
    Shipper(tmp_path, sink, progress, rest=lambda _: first.path.unlink(missing_ok=True)).ship()
    assert {name for name, _ in sink.taken} == {second.path.name}
    assert sent_in(tmp_path) == {second.path.name}
    assert progress.take() == ShipReport(1, second.size_bytes, {"refused": 3}, "")


def test_what_is_damaged_does_not_hold_up_the_rest(tmp_path: Path) -> None:
    write(tmp_path, 2)
    first, second = segments_in(tmp_path)

    class Damaged(Scripted):
        def steps(self, segment: Segment) -> Iterator[Step]:
            yield from itertools.islice(super().steps(segment), 1)
            if segment.path == first.path:
                raise SegmentDamaged("damaged")

    sink, progress = Damaged(), Progress()
    Shipper(tmp_path, sink, progress).ship()
    assert [name for name, _ in sink.taken] == [first.path.name, second.path.name]
    assert progress.take() == ShipReport(1, second.size_bytes, {"damaged": 1}, "")
    assert unsent_in(tmp_path) == []


def test_what_is_being_written_is_not_sent(tmp_path: Path) -> None:
    writer = LogWriter(LogSettings(share=1), tmp_path, "a", bytes(32))
    writer.write(encoded(request_of(CARD, [[1, 2]], [0.5])), {1: CARD})
    (tmp_path / "0000000000001-b.segment").write_bytes(MAGIC)
    assert unsent_in(tmp_path) == []
    writer.end_segment()
    assert len(unsent_in(tmp_path)) == 1


def test_what_was_removed_unsent_is_counted_and_its_mark_is_not_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, 3)
    mark_sent(tmp_path, segments_in(tmp_path)[0].path.name)
    settings = LogSettings(share=1, max_age_hours=1e-9, sink=SinkSettings(url="file:///nowhere"))
    writer = LogWriter(settings, tmp_path, "b", bytes(32))
    # Of those that were begun in the same millisecond, the later ones are named as if they were of the next ones.
    wait_until(lambda: time.time() > segments_in(tmp_path)[-1].begun_at + 0.001)
    writer.tend()
    assert writer.lost_segments == 2
    assert "2 files of the request log were removed before they were sent" in caplog.text
    assert sent_in(tmp_path) == set()
    writer.drop_old()
    assert writer.lost_segments == 2


def started(folder: Path, url: str, timeout_s: float = 5.0, linger_s: float = 0.5) -> "subprocess.Popen[bytes]":
    """The process itself."""
    order = ShipOrder(str(folder), url, "toy", "default", timeout_s, 1024, linger_s)
    command = [sys.executable, "-m", "shokado.request_log.shipper"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(order))
    process.stdin.close()
    return process


def reports(process: "subprocess.Popen[bytes]") -> list[ShipReport]:
    assert process.stdout is not None
    return [msgspec.json.decode(line, type=ShipReport) for line in process.stdout]


def test_a_process_that_is_killed_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    write(tmp_path, 4, rows=3)
    with receiving() as receiver:
        # It takes three batches, and the next one hangs.
        receiver.script = [*((202, {}) for _ in range(3)), (0, {})]
        process = started(tmp_path, receiver.url, timeout_s=60)
        wait_until(lambda: len(receiver.heads) == 4)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        before = receiver.ids("response")
        assert 0 < len(set(before)) < 4
        process = started(tmp_path, receiver.url)
        told = reports(process)
        assert process.wait(30) == 0
        assert 0 < sum(report.segments for report in told) <= 4
        for kind in ("request", "response"):
            assert set(receiver.ids(kind)) == {f"p-{number}" for number in range(4)}
        again = receiver.ids("response")[len(before) :]
        assert again == sorted(again), "in their order"
        assert unsent_in(tmp_path) == []


def test_a_step_that_hangs_ends_the_process(tmp_path: Path) -> None:
    """A read that always gets something is no read that is late: the process looks after itself."""
    write(tmp_path, 1)
    program = (
        "import shokado.request_log.shipper as shipper, threading\n"
        "class Hanging:\n"
        "    name = 'nowhere'\n"
        "    def steps(self, segment):\n"
        "        yield threading.Event().wait\n"
        "shipper.open_sink = lambda order: Hanging()\n"
        "shipper.main()\n"
    )
    order = msgspec.json.encode(ShipOrder(str(tmp_path), "file:///nowhere", "toy", "default", 0.1, 1024, 60))
    ended = subprocess.run([sys.executable, "-c", program], input=order, capture_output=True, check=False, timeout=120)
    assert ended.returncode == HUNG
    told = [msgspec.json.decode(line, type=ShipReport) for line in ended.stdout.splitlines()]
    assert told[-1].failures == {"timeout": 1}
    assert len(unsent_in(tmp_path)) == 1
