"""Contenders of several processes: what stands behind is there first, counted with it, and gone afterwards."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from load_tests.bench.contender_process import HOST, Launch, Server, ServerError, free_ports, listens


def file_server(folder: Path, port: int, *behind: Launch) -> Launch:
    return Launch((sys.executable, "-m", "http.server", str(port), "--bind", HOST), folder, port, behind=behind)


def test_what_stands_behind_lives_as_long_as_what_stands_before(tmp_path: Path) -> None:
    front, back = free_ports(2)

    with Server(file_server(tmp_path, front, file_server(tmp_path, back)), tmp_path / "log") as server:
        assert listens(front)
        assert listens(back)
        assert len(server.processes()) == 2

    assert not listens(front)
    assert not listens(back)


def test_a_front_that_does_not_start_leaves_nothing_behind(tmp_path: Path) -> None:
    front, back = free_ports(2)
    command = (sys.executable, "-c", "raise SystemExit(3)")
    broken = Launch(command, tmp_path, front, behind=(file_server(tmp_path, back),))

    with pytest.raises(ServerError, match="ended with 3"), Server(broken, tmp_path / "log"):
        pass

    assert not listens(back)


def test_a_process_that_is_no_descendant_is_counted_by_its_pid_file(tmp_path: Path) -> None:
    (front,) = free_ports(1)
    (tmp_path / "pid").write_text("1")
    launch = replace(file_server(tmp_path, front), pid_file=tmp_path / "pid")

    with Server(launch, tmp_path / "log") as server:
        assert 1 in server.processes()
