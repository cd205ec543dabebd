"""Load by wrk: bodies in, one measurement out. wrk corrects its latencies for coordinated omission."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("load.lua")
CALIBRATIONS = 3
"""Short runs in which the pause is found."""


class LoadError(Exception):
    """wrk is missing or failed; the message says what to do."""


@dataclass(frozen=True)
class LoadResult:
    """What one run of wrk saw.

    `requests` counts all answers, `requests_per_second` only those that were not refused. `refused` are statuses of
    400 and above, `broken` connections that failed or timed out. The percentiles are of all answers.
    """

    connections: int
    rows: int
    requests: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    refused: int
    broken: int

    @property
    def rows_per_second(self) -> float:
        return self.requests_per_second * self.rows


def require_wrk() -> None:
    """Raise `LoadError` with the way to install it when wrk is missing."""
    if shutil.which("wrk") is None:
        raise LoadError("wrk makes the load and is not installed: apt-get install wrk")


def wrk_version() -> str:
    output = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False).stdout
    return " ".join(output.split()[:2])


@dataclass(frozen=True)
class Target:
    """What is asked, again and again: bodies sent by POST in turn, each with `rows` rows."""

    url: str
    bodies: Sequence[bytes]
    headers: Mapping[str, str]
    rows: int = 1


def run(target: Target, connections: int, seconds: float, pause_ms: float = 0) -> LoadResult:
    """Send over `connections` for `seconds` (whole ones); each connection rests `pause_ms` on average in between."""
    require_wrk()
    whole_seconds = max(1, round(seconds))
    wrk = ["wrk", "-t1", f"-c{connections}", f"-d{whole_seconds}s", "--timeout", "10s", "-s", str(SCRIPT), target.url]
    headers = [f"{name}: {value}" for name, value in target.headers.items()]
    with tempfile.TemporaryDirectory() as folder:
        for number, body in enumerate(target.bodies):
            Path(folder, str(number)).write_bytes(body)
        command = [*wrk, "--", folder, str(len(target.bodies)), f"{pause_ms:.3f}", *headers]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=whole_seconds + 60)
    if done.returncode:
        raise LoadError(f"wrk ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    return parse(done.stdout, connections, target.rows)


def parse(output: str, connections: int, rows: int) -> LoadResult:
    """Read the line that `load.lua` prints at the end. A run without a single answer is an error."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise LoadError(f"wrk printed no measurement: {output.strip()[-300:]}")
    seen = json.loads(lines[-1])
    if not seen["requests"]:
        raise LoadError(f"no request was answered ({seen['socket_errors']} socket errors)")
    return LoadResult(
        connections=connections,
        rows=rows,
        requests=seen["requests"],
        requests_per_second=(seen["requests"] - seen["status_errors"]) / (seen["duration_us"] / 1e6),
        p50_ms=seen["p50_us"] / 1e3,
        p99_ms=seen["p99_us"] / 1e3,
        refused=seen["status_errors"],
        broken=seen["socket_errors"],
    )


def run_paced(target: Target, connections: int, seconds: float, requests_per_second: float) -> LoadResult:
    """Load of about `requests_per_second`: the pause is found in short runs first, then held for `seconds`."""
    wanted_ms = 1e3 * connections / requests_per_second
    pause_ms = wanted_ms
    for _ in range(CALIBRATIONS):
        trial = run(target, connections, 1, pause_ms)
        taken_ms = 1e3 * connections / max(1, trial.requests_per_second)
        pause_ms = max(0.01, pause_ms + wanted_ms - taken_ms)
    return run(target, connections, seconds, pause_ms)
