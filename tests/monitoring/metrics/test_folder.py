"""The folder of a server's metrics: private, found by its workers, and removed when the server is dead."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from shokado.monitoring.metrics.folder import prepare_folder


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
