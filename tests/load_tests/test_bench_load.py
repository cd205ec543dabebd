"""wrk's output becomes a `Load`: rates count accepted answers, percentiles are milliseconds, silence is an error."""

import shutil
from pathlib import Path

import pytest

from load_tests.bench import launch, load
from load_tests.bench.contender import Site
from load_tests.bench.contender_process import Server, free_ports
from load_tests.bench.reference_model import ReferenceModel

LINE = (
    '{"requests": 1000, "duration_us": 2000000, "p50_us": 250, "p99_us": 4000, "max_us": 9000, '
    '"status_errors": 100, "socket_errors": 3}'
)


def test_the_last_line_of_json_is_the_measurement() -> None:
    output = f"Running 2s test\n  1 threads and 4 connections\n{LINE}\n"

    measured = load.parse(output, connections=4, rows=10)

    assert measured == load.LoadResult(4, 10, 1000, 450.0, 0.25, 4.0, 100, 3)
    assert measured.rows_per_second == 4500.0


def test_output_without_a_measurement_is_quoted_in_the_error() -> None:
    with pytest.raises(load.LoadError, match="unable to connect"):
        load.parse("unable to connect to 127.0.0.1", connections=1, rows=1)


def test_a_run_without_answers_is_an_error() -> None:
    with pytest.raises(load.LoadError, match="3 socket errors"):
        load.parse(LINE.replace("1000", "0", 1), connections=1, rows=1)


def test_without_wrk_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(load.LoadError, match="apt-get install wrk"):
        load.require_wrk()


@pytest.mark.skipif(
    not shutil.which("wrk") or not shutil.which("nginx"),
    reason="needs wrk and nginx; on Debian: apt-get install wrk nginx-light",
)
def test_a_real_load_on_a_real_server_and_nothing_is_left(tmp_path: Path) -> None:
    site = Site(Path(), tmp_path, free_ports(1), ReferenceModel(tmp_path))
    with Server(launch.nginx(site), tmp_path / "log") as server:
        target = load.Target(server.url, [b"{}", b"[1]"], {"Content-Type": "application/json"})
        free = load.run(target, connections=4, seconds=1)
        paced = load.run(target, connections=4, seconds=1, pause_ms=20)
        assert server.pss_megabytes() > 0

    assert free.refused == free.broken == 0
    assert 100 < paced.requests_per_second < 250
    with pytest.raises(ConnectionRefusedError):
        server.post("/", b"", {})
