"""File descriptors, in processes whose limits may be changed without harm to the test."""

import subprocess
import sys

import pytest

PROGRAM = """
import logging, resource, sys
logging.basicConfig(format="%(message)s")
from control.descriptors import allow_connections
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(allow_connections(wanted), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "room", "soft_afterwards"),
    [(256, 1000, 500, 500, 700), (900, 1000, 500, 500, 900), (256, 600, 500, 400, 600), (100, 150, 500, 1, 150)],
    ids=["raised", "enough", "not enough", "hardly any"],
)
def test_the_soft_limit_is_raised_as_far_as_need_be(
    soft: int, hard: int, wanted: int, room: int, soft_afterwards: int
) -> None:
    command = [sys.executable, "-c", PROGRAM, str(soft), str(hard), str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(room), str(soft_afterwards), str(hard)]
    assert ("ulimit -Hn" in done.stderr) == (room < wanted)
