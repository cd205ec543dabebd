"""No body holds the loop, or takes memory, out of proportion to its size: time grows with it, and memory is bounded."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from protocols.dialect import Dialect
from protocols.head import RequestHead
from tests.protocols.worst_shapes import all_shapes, decode

MIB = 2**20
MAX_S_PER_MIB = 0.25
"""Of processor time; the most that was measured on a busy machine is a tenth of a second."""
MAX_GROWTH = 2.0
"""By how much more than four times a body of four times the size may take."""
NOISE_S = 0.02
MAX_BYTES_PER_BYTE = 14.0
"""Of a body of 1 MiB, whose values are few enough to be decoded; of a longer one that is refused, it is 5."""


def seconds(dialect: Dialect, body: bytes, head: RequestHead) -> float:
    began = time.thread_time()
    decode(dialect, body, head)
    return time.thread_time() - began


def test_time_grows_with_the_body_in_every_dialect() -> None:
    for (dialect, name, head, small), (*_, large) in zip(all_shapes(MIB // 8), all_shapes(MIB // 2), strict=True):
        took = seconds(dialect, large, head)
        allowed_s = MAX_S_PER_MIB * len(large) / MIB
        if took >= allowed_s:
            # The processor may have done something else meanwhile.
            took = min(seconds(dialect, large, head) for _ in range(3))
        assert took < allowed_s, f"{name} to {dialect.path}: {took:.2f} s"
        if took > NOISE_S:
            before = min(seconds(dialect, small, head) for _ in range(3))
            took = min(took, seconds(dialect, large, head))
            assert took < len(large) / len(small) * MAX_GROWTH * before + NOISE_S, f"{name} to {dialect.path}"


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this kernel does not tell peaks")
def test_memory_is_a_small_multiple_of_the_body_in_every_dialect() -> None:
    command = [sys.executable, "-m", "tests.protocols.worst_shapes", str(MIB)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert ran.returncode == 0, ran.stderr
    taken = [(float(line.split()[0]), line) for line in ran.stdout.splitlines()]
    assert len(taken) > 500
    too_much = [line for times, line in taken if times > MAX_BYTES_PER_BYTE]
    assert not too_much
