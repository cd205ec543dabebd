"""File descriptors, in processes whose limits may be changed without harm to the test."""

import subprocess
import sys

import pytest

PROGRAM = """
import logging, resource, sys
logging.basicConfig(format="%(message)s")
from shokado.worker.descriptors import allow_connections
soft, hard, *wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(*allow_connections(*wanted), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "room", "soft_afterwards"),
    [
        (256, 1000, [500], [500], 700),
        (900, 1000, [500], [500], 900),
        (256, 600, [500], [400], 600),
        (100, 150, [500], [1], 150),
        (256, 1000, [500, 100], [500, 100], 800),
        (256, 256, [1000, 100], [50, 5], 256),
        (100, 150, [500, 100], [1, 1], 150),
    ],
    ids=["raised", "enough", "not enough", "hardly any", "raised for two", "not enough for two", "hardly any for two"],
)
def test_the_soft_limit_is_raised_as_far_as_need_be(
    soft: int, hard: int, wanted: list[int], room: list[int], soft_afterwards: int
) -> None:
    command = [sys.executable, "-c", PROGRAM, *map(str, (soft, hard, *wanted))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*map(str, (*room, soft_afterwards, hard))]
    assert ("ulimit -Hn" in done.stderr) == (room < wanted)
