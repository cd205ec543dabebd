"""The load tests as they are run: locust in a process of its own against real servers, and its exit code and report.

Locust patches the process that imports it, so nothing here does.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from shokado.access.keys import Role, add_key
from tests.conftest import ROOT
from tests.gateway.nginx_server import gateway, needs_nginx
from tests.support import http
from tests.support.server import Server, free_port, serving

LOCUST = Path(sys.executable).with_name("locust")
ALL = {"single": 1, "batch": 1, "sticky": 2, "open_inference": 1}
P99_MS = 2000
"""These tests are not about times."""
SLOW_S = 2.0


def profile(
    rate: float, seconds: float = 3, *, users: dict[str, int] | None = None, **thresholds: Any
) -> dict[str, Any]:
    return {
        "about": "of a test",
        "stages": [{"seconds": seconds, "rate": rate}],
        "users": users or ALL,
        "units": 100,
        "thresholds": {"p99_ms": P99_MS, **thresholds},
    }


def command_for(host: str, folder: Path, tried: dict[str, Any] | None, *options: str) -> list[str]:
    """What `make load` runs, for a profile or for smoke; the report is `report.html`."""
    command = [str(LOCUST), "--locustfile", "load_tests/locustfile.py", "--headless", "--only-summary", "--host", host]
    command += ["--html", str(folder / "report.html"), "--stop-timeout", "60", "--loglevel", "WARNING"]
    if tried is not None:
        (folder / "profiles.yaml").write_text(yaml.safe_dump({"tried": tried}))
        command += ["--profiles", str(folder / "profiles.yaml"), "--profile", "tried"]
    return [*command, *options]


def two_processes() -> list[str]:
    port = str(free_port())
    return ["--processes", "2", "--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--master-port", port]


def load(
    host: str, folder: Path, tried: dict[str, Any] | None = None, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        command_for(host, folder, tried, *options), cwd=ROOT, env={**os.environ, **environment}, capture_output=True,
        text=True, check=False, timeout=120,
    )  # fmt: skip


def measured(output: str, threshold: str) -> str:
    """That threshold's line of the assessment."""
    return next(line for line in output.splitlines() if line.startswith(threshold))


def counted(output: str) -> tuple[int, ...]:
    """Requests that were sent, accepted, refused, and had an error, in the first stage."""
    return tuple(int(number.replace(",", "")) for number in measured(output, "1 ").split()[3:7])


@pytest.mark.slow
def test_the_smoke_profile_holds_against_a_real_server(server: Server, tmp_path: Path) -> None:
    ran = load(f"{server.url}/", tmp_path)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.rstrip().endswith("smoke: held: all thresholds")
    page = (tmp_path / "report.html").read_text()
    assert "smoke: held: all thresholds" in page
    assert "accepted p99" in page
    for name in ("native", "packed, 100 rows", "sticky", "feedback", "v2, JSON", "v2, binary", "/predict"):
        assert f'"name": "{name}"' in page


@pytest.mark.slow
@needs_nginx
def test_the_smoke_profile_holds_through_the_gateway(server: Server, tmp_path: Path) -> None:
    (tmp_path / "nginx").mkdir()
    with gateway(tmp_path / "nginx", [server]) as running:
        ran = load(running.url, tmp_path)

    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.slow
def test_units_that_switch_are_found(server: Server, tmp_path: Path) -> None:
    # The server's strategy is random.
    tried = profile(100, users={"sticky": 1}, stickiness="always") | {"units": 20}
    ran = load(server.url, tmp_path, tried)

    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert ran.stdout.rstrip().endswith("tried: not held: stickiness")


@pytest.mark.slow
def test_two_processes_add_up(server: Server, tmp_path: Path) -> None:
    def answered() -> float:
        return server.metric("shokado_requests_total")

    before = answered()
    ran = load(server.url.removeprefix("http://"), tmp_path, profile(150), *two_processes())

    assert ran.returncode == 0, ran.stdout + ran.stderr
    sent, accepted, _, _ = counted(ran.stdout)
    assert sent == accepted == answered() - before
    assert sent > 200


@pytest.mark.slow
def test_a_process_that_is_lost_is_inconclusive(server: Server, tmp_path: Path) -> None:
    command = command_for(server.url, tmp_path, profile(50, 10, users={"single": 1}), *two_processes())
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert "stage 1 of 1" in running.stdout.readline()
        psutil.Process(running.pid).children()[0].kill()
        output = running.stdout.read()

    assert running.returncode == 3, output
    assert "a process of the generator was lost" in output


@pytest.mark.slow
def test_too_much_for_the_generator_is_inconclusive(server: Server, tmp_path: Path) -> None:
    tried = profile(20_000, 60, users={"single": 1}) | {"user_rate": 100}
    ran = load(server.url, tmp_path, tried)

    assert ran.returncode == 3, ran.stdout + ran.stderr
    assert "tried: inconclusive: the generator is the bottleneck" in ran.stdout


@pytest.mark.slow
def test_refusals_are_counted_apart_and_units_stick(models: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    predict, admin = add_key(keys, "load", Role.PREDICT), add_key(keys, "lead", Role.ADMIN)
    settings = {"WORKERS": "1", "ACCESS__KEYS_FILE": str(keys), "ACCESS__RATES__PER_KEY": "50/second"}
    with serving(environment={f"SHOKADO_{name}": value for name, value in settings.items()}) as limited:
        unknown = load(limited.url, tmp_path, profile(150, refusal_rate=1))
        assert unknown.returncode == 2
        assert "SHOKADO_API_KEY" in unknown.stderr
        split = {"environment": "staging", "weights": {"v1": 50, "v2": 50}, "strategy": "hash"}
        changed = http.post(f"{limited.url}/v1/traffic-split", json=split, headers={"X-API-Key": admin}, timeout=20)
        assert changed.status_code == 200

        ran = load(
            limited.url, tmp_path, profile(150, refusal_rate=1), "--environment", "staging", SHOKADO_API_KEY=predict
        )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    _, accepted, refused, errors = counted(ran.stdout)
    # How many there are of each depends on the machine.
    assert accepted >= 50, "a second's worth"
    assert refused > 50
    assert errors == 0
    assert " 0 of " in measured(ran.stdout, "stickiness")
    assert "units, generation 2: v1" in ran.stdout


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_that_is_stopped_is_inconclusive(server: Server, tmp_path: Path, processes: int) -> None:
    """Also one that a shell began in the background: it begins with SIGINT ignored."""
    command = command_for(server.url, tmp_path, profile(50, 600, users={"single": 1}))
    command += two_processes() if processes == 2 else []
    background = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
    with subprocess.Popen(background, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            assert "stage 1 of 1" in running.stdout.readline()
            running.send_signal(signal.SIGINT)
            output, _ = running.communicate(timeout=60)
        finally:
            running.kill()

    assert running.returncode == 3, output
    assert "tried: inconclusive: the run was stopped before its end" in output


def test_make_passes_on_what_is_typed() -> None:
    def command(*variables: str) -> str:
        make = ["make", "--dry-run", "--old-file=.venv/.dev", "load", *variables]
        return subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "--profile smoke --host 127.0.0.1 --server-port 3000" in command()
    assert "--profile soak --host https://models.example.com" in command(
        "PROFILE=soak", "HOST=https://models.example.com"
    )
    assert "--host runner --server-port 8080" in command("HOST=runner", "PORT=8080")
    assert "--processes 3" in command("PROCESSES=3")


def test_no_server_and_no_profile_are_said_with_what_to_do(tmp_path: Path) -> None:
    absent = load(f"http://127.0.0.1:{free_port()}", tmp_path)
    assert absent.returncode == 2
    assert absent.stderr.rstrip().endswith("is it running? Start it with: make serve")

    unknown = load("http://127.0.0.1:1", tmp_path, None, "--profile", "smoek")
    assert unknown.returncode == 2
    assert "no profile 'smoek'; there are smoke, ramp" in unknown.stderr


SIGNATURE = {"task": "binary", "features": [{"name": "age", "type": "float"}], "classes": [0, 1]}
VERSION = {
    "version": "v1", "ready": True, "state": "ready", "active_in": ["production"], "weights": {"production": 1.0},
    "shadow_in": [], "aliases": [], "model": "customers", "signature": SIGNATURE,
}  # fmt: skip
CONTENT = {
    "active": "v1", "weights": {"v1": 1.0}, "shares": {"v1": 1.0}, "strategy": "random", "enabled": True, "salt": "",
    "shadow": None,
}  # fmt: skip
MADE = {"generation": 1, "by": "me", "action": "configured", "why": ""}
ENTRY = {"environments": {"production": CONTENT}, "at": "2026-01-01T00:00:00Z", "changed": None, "versions": None}
SPLIT = {"environment": "production", "updated_at": "2026-01-01T00:00:00Z", "percent": {"v1": 100.0}}
DESCRIPTION: dict[str, Any] = {
    "/v1/models": {"generation": 1, "versions": [VERSION], "workers": None},
    "/v1/traffic-split": {**CONTENT, **MADE, **SPLIT},
    "/v1/traffic-split/history?limit=500": {"entries": [{**MADE, **ENTRY}]},
}
RIGHT = {"prediction": 0.5, "prediction_class": 0, "model_version": "v1", "prediction_id": "AQ"}


class Impostor(BaseHTTPRequestHandler):
    """Answers like a server, but slowly."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(200, DESCRIPTION[self.path])

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(SLOW_S)
        self.answer(200, RIGHT)

    def answer(self, status: int, content: Any, *headers: tuple[str, str]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in (("X-Model-Version", "v1"), ("X-Generation", "1"), *headers):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


class Liar(Impostor):
    """Answers wrongly, in several ways by turns."""

    asked = itertools.count()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        match next(self.asked) % 6:
            case 0:
                self.answer(200, RIGHT | {"model_version": "v2"})
            case 1:
                self.answer(200, RIGHT | {"prediction": 2})
            case 2:
                self.answer(429, "not now")
            case 3:
                self.answer(503, "later", ("Retry-After", "1"))
            case 4:
                self.close_connection = True
                self.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
            case _:
                self.answer(200, RIGHT)


@contextmanager
def answering(kind: type[Impostor]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.slow
def test_a_server_that_is_too_slow_is_named(tmp_path: Path) -> None:
    with answering(Impostor) as url:
        ran = load(url, tmp_path, profile(20, users={"single": 1}, p99_ms=SLOW_S / 2 * 1000))

    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "not held: accepted p99" in ran.stdout


def test_wrong_answers_are_errors_and_refusals_are_not(tmp_path: Path) -> None:
    with answering(Liar) as url:
        ran = load(url, tmp_path, profile(60, users={"single": 1}, refusal_rate=1))

    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "tried: not held: errors" in ran.stdout
    for words in ("the body says v2", "outside 0 to 1", 'status 429: "not now"', "no answer:"):
        assert words in ran.stdout
    sent, accepted, refused, errors = counted(ran.stdout)
    assert min(accepted, refused) > 0
    assert errors > 2 * refused
    assert sent == accepted + refused + errors
