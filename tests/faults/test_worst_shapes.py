"""No body holds the loop, or takes memory, out of proportion to its size: time grows with it, and memory is bounded."""

import json
import subprocess
import sys
import time
from ipaddress import ip_network
from pathlib import Path

import pytest

from shokado.access.forwarding import client_of
from shokado.dialects.dialect import Dialect
from shokado.dialects.head import RequestHead, read_head
from shokado.transports.express_lane.framing import framing_problem
from shokado.transports.grpc.server import head_of
from tests.transports.worst_shapes import GrpcMethod, all_shapes, decode, header_shapes

MIB = 2**20
MAX_TIMES_JSON = 14.0
"""How many times as long as Python's own decoder takes for small objects, a byte of any body may take; 7 is the most
that was measured."""
MAX_GROWTH = 2.0
"""By how much more than four times a body of four times the size may take."""
NOISE_S = 0.02
MAX_BYTES_PER_BYTE = 14.0
"""Of a body of 1 MiB, whose values are few enough to be decoded; of a longer one that is refused, it is 5."""


def json_seconds() -> float:
    """What Python's own decoder takes now for 1 MiB of small objects: a bound in seconds would say how fast the machine
    is."""
    body = "[" + ",".join(['{"a":1}'] * (MIB // 8)) + "]"

    def took() -> float:
        began = time.thread_time()
        json.loads(body)
        return time.thread_time() - began

    return max(took() for _ in range(3))


def seconds(dialect: Dialect | GrpcMethod, body: bytes, head: RequestHead) -> float:
    began = time.thread_time()
    decode(dialect, body, head)
    return time.thread_time() - began


def test_time_grows_with_the_body_in_every_dialect() -> None:
    usual_s = json_seconds()
    for (dialect, name, head, small), (*_, large) in zip(all_shapes(MIB // 8), all_shapes(MIB // 2), strict=True):
        took = seconds(dialect, large, head)
        allowed_s = MAX_TIMES_JSON * usual_s * len(large) / MIB
        if took >= allowed_s:
            # The processor may have been slower meanwhile.
            allowed_s = MAX_TIMES_JSON * json_seconds() * len(large) / MIB
            took = min(seconds(dialect, large, head) for _ in range(3))
        assert took < allowed_s, f"{name} to {dialect.path}: {took:.2f} s"
        if took > NOISE_S:
            before = min(seconds(dialect, small, head) for _ in range(3))
            took = min(took, seconds(dialect, large, head))
            assert took < len(large) / len(small) * MAX_GROWTH * before + NOISE_S, f"{name} to {dialect.path}"


def test_time_grows_with_the_head() -> None:
    """Over HTTP's transports and gRPC: as long as heads may be, and four times as long."""

    def took(headers: list[tuple[bytes, bytes]]) -> float:
        metadata = [(name.decode(), value.decode()) for name, value in headers]
        began = time.thread_time()
        framing_problem(headers, "1.1")
        client_of("10.0.0.1", read_head(headers).forwarding, (ip_network("10.0.0.0/8"),))
        head_of(metadata, None, None)
        return time.thread_time() - began

    for (name, small), (_, large) in zip(header_shapes(2**16), header_shapes(2**18), strict=True):
        took_large = min(took(large) for _ in range(3))
        assert took_large < 4 * MAX_GROWTH * min(took(small) for _ in range(3)) + NOISE_S, name
        assert took_large < MAX_TIMES_JSON * json_seconds(), name


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this kernel does not tell peaks")
def test_memory_is_a_small_multiple_of_the_body_in_every_dialect() -> None:
    command = [sys.executable, "-m", "tests.transports.worst_shapes", str(MIB)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert ran.returncode == 0, ran.stderr
    taken = [(float(line.split()[0]), line) for line in ran.stdout.splitlines()]
    assert len(taken) > 500
    too_much = [line for times, line in taken if times > MAX_BYTES_PER_BYTE]
    assert not too_much
