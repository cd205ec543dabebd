"""Metrics of several real processes: they add up, and what is true of living processes only ends with them."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from configuration.temporary import share_temporary_folder
from shokado.monitoring.ended import KINDS, keep_ended
from shokado.monitoring.metrics.folder import exposition
from tests.conftest import ROOT
from tests.support.disk import fill
from tests.support.waiting import wait_until


class Worker:
    """A `counting_worker` and the folder that it shares with the other children of this process."""

    def __init__(self, temporary: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.monitoring.counting_worker"],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(temporary)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.folder = Path(self._read())

    def count(self, *commands: str) -> None:
        """Let it count, and flush."""
        assert self.process.stdin is not None
        for command in (*commands, "flush"):
            print(command, file=self.process.stdin, flush=True)
        assert self._read() == "flushed"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=20)

    def close(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe and pipe.close()

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture
def new_worker(tmp_path: Path) -> Iterator[Callable[[], Worker]]:
    """Starts workers of one server, with a temporary folder of their own."""
    workers: list[Worker] = []

    def start() -> Worker:
        workers.append(Worker(tmp_path))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()


@pytest.fixture
def two_workers(new_worker: Callable[[], Worker]) -> tuple[Worker, Worker]:
    return new_worker(), new_worker()


def value(folder: Path, name: str, **labels: str) -> float | None:
    """The one sample of that name and exactly these labels."""
    _, text = exposition(folder)
    found = [
        sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    assert len(found) <= 1
    return found[0] if found else None


def test_two_workers_of_a_server_share_one_folder_of_their_own(two_workers: tuple[Worker, Worker]) -> None:
    first, second = two_workers
    assert first.folder == second.folder
    assert first.folder.stat().st_mode & 0o077 == 0


def test_the_numbers_of_two_workers_add_up(two_workers: tuple[Worker, Worker]) -> None:
    first, second = two_workers
    first.count("started v1", "answered v1 0.004", "batch v1 30 idle", "started v2", "cancelled v2")
    second.count(
        "started v1", "answered v1 0.3", "batch v1 12 idle", "batch v1 5 full", "started v1", "failed v1 model"
    )
    folder = first.folder
    assert value(folder, "shokado_requests_total", version="v1") == 2
    assert value(folder, "shokado_rows_total", version="v1") == 47
    assert value(folder, "shokado_batches_total", version="v1", release="idle") == 2
    assert value(folder, "shokado_batches_total", version="v1", release="full") == 1
    assert value(folder, "shokado_errors_total", version="v1", kind="model", fault="server") == 1
    assert value(folder, "shokado_cancelled_total", version="v2") == 1
    assert value(folder, "shokado_latency_seconds_count", version="v1") == 2
    assert value(folder, "shokado_latency_seconds_sum", version="v1") == pytest.approx(0.304)
    assert value(folder, "shokado_latency_seconds_bucket", version="v1", le="0.005") == 1
    assert value(folder, "shokado_batch_rows_count", version="v1") == 3


def test_what_is_counted_twice_is_added_to_what_was_flushed_before(new_worker: Callable[[], Worker]) -> None:
    worker = new_worker()
    worker.count("batch v1 3 idle")
    worker.count("batch v1 4 idle")
    worker.count()
    assert value(worker.folder, "shokado_rows_total", version="v1") == 7
    assert value(worker.folder, "shokado_batch_rows_count", version="v1") == 2


def test_requests_under_way_are_those_that_are_neither_answered_nor_failed_nor_left(
    two_workers: tuple[Worker, Worker],
) -> None:
    first, second = two_workers
    first.count("started v1", "started v1", "started v1", "started v1", "answered v1 0.1", "failed v1 model")
    second.count("started v1", "started v1", "cancelled v1", "failed - malformed")
    assert value(first.folder, "shokado_in_flight", version="v1") == 3
    first.count("answered v1 0.1", "answered v1 0.1")
    assert value(first.folder, "shokado_in_flight", version="v1") == 1


def test_the_gauge_of_a_killed_worker_vanishes_and_its_counters_stay(two_workers: tuple[Worker, Worker]) -> None:
    first, second = two_workers
    first.count("started v1", "started v1", "started v1", "batch v1 30 idle")
    second.count("started v1", "batch v1 1 idle")
    assert value(second.folder, "shokado_in_flight", version="v1") == 4
    first.kill()
    assert value(second.folder, "shokado_in_flight", version="v1") == 1
    assert value(second.folder, "shokado_rows_total", version="v1") == 31
    second.kill()
    assert value(second.folder, "shokado_in_flight", version="v1") is None
    assert value(second.folder, "shokado_rows_total", version="v1") == 31


def test_a_worker_that_replaces_another_adds_to_its_numbers(new_worker: Callable[[], Worker]) -> None:
    first = new_worker()
    first.count("batch v1 30 idle")
    first.kill()
    second = new_worker()
    second.count("batch v1 5 idle")
    assert second.folder == first.folder
    assert value(second.folder, "shokado_rows_total", version="v1") == 35


@pytest.mark.slow
def test_many_restarts_leave_few_files_and_every_number(new_worker: Callable[[], Worker]) -> None:
    for number in range(1, 7):
        worker = new_worker()
        worker.count(f"batch v1 {number} idle", f"batch v{number} 1 idle" if number < 3 else "started v1")
        worker.count(f"differs v1 {0.9 if number == 3 else 0.1}")
        worker.kill()
    worker = new_worker()
    worker.count("batch v1 1 idle")
    per_worker = {path.name.rpartition("_")[0] for path in worker.folder.glob("*_[0-9]*.db")}
    left = list(worker.folder.iterdir())
    assert len(left) <= len(per_worker) + len(KINDS) + 1, left
    assert value(worker.folder, "shokado_rows_total", version="v1") == 23
    assert value(worker.folder, "shokado_rows_total", version="v2") == 1
    assert value(worker.folder, "shokado_batch_rows_count", version="v1") == 8
    assert value(worker.folder, "shokado_batch_rows_sum", version="v1") == 23
    assert value(worker.folder, "shokado_batch_rows_bucket", version="v1", le="2.0") == 4
    compared = {"environment": "production", "version": "v1", "shadow": "v2"}
    assert value(worker.folder, "shokado_shadow_largest_difference", **compared) == 0.9
    assert "shokado_ended_processes" not in exposition(worker.folder)[1].decode()


@pytest.mark.slow
def test_a_merge_that_is_killed_neither_loses_nor_doubles(two_workers: tuple[Worker, Worker], tmp_path: Path) -> None:
    """At whatever call: a forked process merges a copy of the files, and kills itself at its n-th access to one."""
    for worker in two_workers:
        worker.count("batch v1 30 idle")
        worker.kill()
    folder = two_workers[0].folder

    def rows(of: Path) -> float | None:
        return value(of, "shokado_rows_total", version="v1")

    fates = []
    for call in range(1, 200):
        copy = Path(shutil.copytree(folder, tmp_path / f"copy-{call}"))
        fates.append(merge_until(call, copy))
        assert rows(copy) == 60, f"after call {call}"
        keep_ended(copy)
        assert rows(copy) == 60, f"after call {call}, and a whole merge"
        assert value(copy, "shokado_batch_rows_sum", version="v1") == 60
        assert {path.name for path in copy.glob("*.db")} == {"counter_ended.db", "histogram_ended.db"}
        if fates[-1] == 0:
            break
    assert fates[-1] == 0, "it was never whole"
    assert len(fates) > 10


def merge_until(call: int, folder: Path) -> int:
    """How a process ended that kills itself at this call within the folder, if it comes to it."""
    if child := os.fork():
        return os.waitpid(child, 0)[1]
    left = [call]

    def count(_: str, arguments: tuple[object, ...]) -> None:
        if arguments and isinstance(arguments[0], str | Path) and str(arguments[0]).startswith(str(folder)):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    keep_ended(folder)
    os._exit(0)


def test_a_worker_that_starts_while_the_folder_is_full_joins_its_siblings_later(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    monkeypatch.setenv("_SHOKADO_TEMPORARY", "")
    share_temporary_folder()
    with contextlib.ExitStack() as started:
        first = started.enter_context(contextlib.closing(Worker(small_disk)))
        first.count("batch v1 1 idle")
        free = fill(small_disk)
        second = started.enter_context(contextlib.closing(Worker(small_disk)))
        assert second.folder == first.folder
        second.count("batch v1 5 idle")
        assert value(first.folder, "shokado_rows_total", version="v1") == 1
        free()

        def joined() -> bool:
            second.count()
            return value(first.folder, "shokado_rows_total", version="v1") == 6

        wait_until(joined)


def test_an_idle_server_shows_a_zero_for_each_version(new_worker: Callable[[], Worker]) -> None:
    worker = new_worker()
    for version in ("v1", "v2", "none"):
        assert value(worker.folder, "shokado_requests_total", version=version) == 0
        assert value(worker.folder, "shokado_in_flight", version=version) == 0
        assert value(worker.folder, "shokado_latency_seconds_count", version=version) == 0


def test_labels_are_the_configured_versions_and_none(new_worker: Callable[[], Worker]) -> None:
    worker = new_worker()
    worker.count("failed - malformed", "started v1", "failed v1 model", "started v1", "failed v1 output client")
    _, text = exposition(worker.folder)
    samples = [sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples]
    assert {sample.labels["version"] for sample in samples if "version" in sample.labels} == {"v1", "v2", "none"}
    assert value(worker.folder, "shokado_errors_total", version="none", kind="malformed", fault="server") == 1
    assert value(worker.folder, "shokado_errors_total", version="none", kind="output", fault="client") == 1
    assert value(worker.folder, "shokado_errors_total", version="v1", kind="model", fault="server") == 1


def test_scores_are_counted_by_bucket_and_classes_by_name(new_worker: Callable[[], Worker]) -> None:
    first, second = new_worker(), new_worker()
    first.count("scored v1 0.05 0.25 0.95", "scored v2 0.5 nan inf")
    second.count("scored v1 0.25", "likeliest v2 0 2 2")
    folder = first.folder
    assert value(folder, "shokado_score_bucket", version="v1", le="0.1") == 1
    assert value(folder, "shokado_score_bucket", version="v1", le="0.3") == 3
    assert value(folder, "shokado_score_count", version="v1") == 4
    assert value(folder, "shokado_score_sum", version="v1") == pytest.approx(1.5)
    assert value(folder, "shokado_score_count", version="v2") == 1, "what is no number is left out"
    assert value(folder, "shokado_predicted_class_total", version="v2", **{"class": "c"}) == 2
    assert value(folder, "shokado_predicted_class_total", version="v2", **{"class": "b"}) is None


def test_each_living_worker_tells_its_generation(new_worker: Callable[[], Worker]) -> None:
    first, second = new_worker(), new_worker()
    first.count("routing 7 v1 0.25")
    second.count("routing 8 v2 1")
    generations = {
        sample.labels["pid"]: sample.value
        for family in text_string_to_metric_families(exposition(first.folder)[1].decode())
        for sample in family.samples
        if sample.name == "shokado_generation"
    }
    assert generations == {str(first.process.pid): 7, str(second.process.pid): 8}
    second.kill()
    assert value(first.folder, "shokado_generation", pid=str(second.process.pid)) is None


def test_a_version_that_is_out_of_the_split_has_no_share_left(new_worker: Callable[[], Worker]) -> None:
    worker = new_worker()
    worker.count("routing 7 v1 0.25", "routing 8 v2 1")
    assert value(worker.folder, "shokado_traffic_share", environment="production", version="v1") == 0
    assert value(worker.folder, "shokado_traffic_share", environment="production", version="v2") == 1
