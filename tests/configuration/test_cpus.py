"""CPUs: the smaller of the affinity mask and the cgroup quota, whichever cgroup version wrote it."""

import os
from pathlib import Path

import pytest

from configuration import cpus
from configuration.cpus import available_cpus


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def cgroup_v1(folder: Path, quota: str, period: str = "100000") -> Path:
    (folder / "cpu").mkdir()
    (folder / "cpu" / "cpu.cfs_quota_us").write_text(quota + "\n")
    (folder / "cpu" / "cpu.cfs_period_us").write_text(period + "\n")
    return folder


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("100001 100000", 2),
        ("50000 100000", 1),
        ("1000 100000", 1),
        ("30000 10000", 3),
        ("1600000 100000", 8),
        ("max 100000", 8),
        ("", 8),
        ("garbage", 8),
    ],
)
def test_a_quota_of_cgroup_v2_is_rounded_up_to_whole_cpus(written: str, expected: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(written + "\n")
    assert available_cpus(tmp_path) == expected


@pytest.mark.parametrize(
    ("quota", "expected"), [("250000", 3), ("100000", 1), ("1000", 1), ("-1", 8), ("0", 8), ("99900000", 8)]
)
def test_a_quota_of_cgroup_v1_is_rounded_up_to_whole_cpus(quota: str, expected: int, tmp_path: Path) -> None:
    assert available_cpus(cgroup_v1(tmp_path, quota)) == expected


def test_cgroup_v2_wins_over_v1(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("300000 100000\n")
    assert available_cpus(cgroup_v1(tmp_path, "100000")) == 3


def test_cgroup_v1_counts_where_v2_has_no_limit(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert available_cpus(cgroup_v1(tmp_path, "500000")) == 5


def test_without_a_cgroup_the_affinity_mask_counts(tmp_path: Path) -> None:
    assert available_cpus(tmp_path / "nothing") == 8


def test_the_affinity_mask_counts_where_it_is_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3})
    (tmp_path / "cpu.max").write_text("400000 100000\n")
    assert available_cpus(tmp_path) == 1


def test_this_machine_has_at_least_one() -> None:
    assert 1 <= available_cpus(cpus.CGROUP) <= 8
