"""Metrics of one process: the histogram that is added up in one go, bounded labels, and folders that are cleaned up."""

import os
import subprocess
import sys
import tempfile
from bisect import bisect_left
from itertools import pairwise
from math import nextafter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from shokado.monitoring.metrics import (
    _LATENCY_BUCKETS_S,
    _ROW_BUCKETS,
    Metrics,
    Outcomes,
    _tallied_histogram,
    prepare_folder,
)

ON_THE_EDGE = [near for bucket in _LATENCY_BUCKETS_S for near in (bucket, nextafter(bucket, 0), nextafter(bucket, 99))]
seconds = st.one_of(st.sampled_from(ON_THE_EDGE), st.floats(0, 30), st.just(0.0))


def samples(histogram: Histogram) -> dict[tuple[str, str], float]:
    """Value by sample name and bucket, except the time of creation."""
    return {
        (sample.name, sample.labels.get("le", "")): sample.value
        for family in histogram.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def histogram_of(kind: type[Histogram]) -> Any:
    return kind("h", "a histogram", ["version"], registry=CollectorRegistry(), buckets=_LATENCY_BUCKETS_S)


@given(flushes=st.lists(st.lists(seconds, max_size=30), max_size=4))
def test_a_tallied_histogram_equals_one_that_observes_one_by_one(flushes: list[list[float]]) -> None:
    tallied, plain = histogram_of(_tallied_histogram()), histogram_of(Histogram)
    plain.labels("v1")
    tallied.labels("v1")
    for values in flushes:
        tallied.labels("v1").observe_all(values)
        for value in values:
            plain.labels("v1").observe(value)
    found, expected = samples(tallied), samples(plain)
    assert found == pytest.approx(expected)
    assert {name: value for name, value in found.items() if name[0] != "h_sum"} == {
        name: value for name, value in expected.items() if name[0] != "h_sum"
    }


def test_a_value_on_a_boundary_belongs_to_the_bucket_that_ends_there() -> None:
    tallied = histogram_of(_tallied_histogram())
    tallied.labels("v1").observe_all([0.005])
    found = samples(tallied)
    assert (found["h_bucket", "0.0025"], found["h_bucket", "0.005"]) == (0, 1)


@pytest.mark.parametrize("buckets", [_LATENCY_BUCKETS_S, _ROW_BUCKETS])
def test_buckets_ascend(buckets: tuple[float, ...]) -> None:
    assert all(low < high for low, high in pairwise(buckets))


@pytest.mark.parametrize("rows", [1, 2, 3, 4096, 10_000])
def test_every_batch_of_the_default_configuration_has_a_bucket(rows: int) -> None:
    assert bisect_left(_ROW_BUCKETS, rows) < len(_ROW_BUCKETS)


def test_a_version_that_is_not_configured_is_never_counted() -> None:
    metrics = Metrics(["v1"])
    for call in (metrics.started, metrics.cancelled):
        with pytest.raises(KeyError):
            call("v9")
    with pytest.raises(KeyError):
        metrics.failed("v9", "model")
    with pytest.raises(KeyError):
        metrics.batch("v9", [], 1, "idle", 0.1, None)


def test_a_flush_leaves_nothing_to_be_counted_twice_but_keeps_what_is_under_way() -> None:
    metrics = Metrics(["v1"])
    metrics.started("v1")
    metrics.batch("v1", [0.1], 3, "idle", 0.2, None)
    metrics.flush()
    recorder = metrics.recorders["v1"]
    assert recorder.in_flight == 1
    assert (recorder.batch_rows, recorder.waits_s, dict(recorder.releases)) == ([], [], {})
    metrics.answered("v1", 0.1, 1)
    assert metrics.recorders["v1"].in_flight == 0


def test_outcomes_are_handed_over_once_and_only_of_versions_that_have_some() -> None:
    metrics = Metrics(["v1", "v2"], on_time_s=0.05)
    for seconds, rows in ((0.01, 3), (0.05, 1), (0.2, 1)):
        metrics.started("v1")
        metrics.answered("v1", seconds, rows)
    metrics.started("v1")
    metrics.failed("v1", "overloaded")
    assert metrics.take_outcomes() == {}, "not before a flush"
    metrics.flush()
    assert metrics.take_outcomes() == {"v1": Outcomes(requests=3, rows=5, on_time=2, failed=1)}
    assert metrics.take_outcomes() == {}


def test_a_version_that_comes_later_is_counted_from_then_on() -> None:
    metrics = Metrics(["v1"])
    metrics.started("v1")
    for _ in range(2):
        metrics.add_version("v1")
        metrics.add_version("v3")
    metrics.started("v3")
    assert [metrics.recorders[version].in_flight for version in ("v1", "v3")] == [1, 1]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files; what is prepared in it does not outlive the test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    return tmp_path


def folder_of(temporary: Path, pid: int, started: int) -> Path:
    folder = temporary / f"shokado-metrics-{os.getuid()}-{pid}-{started}"
    folder.mkdir()
    (folder / "counter_1.db").write_bytes(b"")
    return folder


def start_ticks(pid: int) -> int:
    """Field 22 of proc(5)'s stat, whose second field is a name in brackets."""
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[22 - 3])


def test_a_prepared_folder_is_private_and_handed_to_prometheus(temporary: Path) -> None:
    folder = prepare_folder()
    assert folder.parent == temporary
    assert os.environ["PROMETHEUS_MULTIPROC_DIR"] == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert prepare_folder() == folder


def test_the_folder_of_a_dead_server_is_removed(temporary: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    started = start_ticks(ended.pid)
    ended.wait(timeout=20)
    dead = folder_of(temporary, ended.pid, started)
    prepare_folder()
    assert not dead.exists()


def test_the_folder_of_a_living_server_is_kept(temporary: Path) -> None:
    living = folder_of(temporary, os.getpid(), start_ticks(os.getpid()))
    prepare_folder()
    assert (living / "counter_1.db").exists()


def test_the_folder_of_a_server_whose_number_another_process_has_now_is_removed(temporary: Path) -> None:
    recycled = folder_of(temporary, os.getpid(), start_ticks(os.getpid()) - 1)
    prepare_folder()
    assert not recycled.exists()


@pytest.mark.parametrize("name", ["shokado-metrics-0x-1-2", "shokado-metrics-{uid}-notes", "somebody-elses-1-2"])
def test_what_is_not_a_servers_folder_is_kept(name: str, temporary: Path) -> None:
    other = temporary / name.format(uid=os.getuid())
    other.mkdir()
    prepare_folder()
    assert other.exists()


def test_a_folder_that_belongs_to_somebody_else_is_refused(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_folder()
    uid = os.getuid()
    prepared = next(temporary.iterdir())
    foreign = temporary / prepared.name.replace(f"-{uid}-", f"-{uid + 1}-")
    prepared.rename(foreign)
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with pytest.raises(PermissionError, match="somebody else"):
        prepare_folder()
