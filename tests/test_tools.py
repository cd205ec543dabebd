"""The last line of a run: what was skipped for want of programs, and the command that installs them."""

import re

from tests.support.server import ROOT
from tests.tools import PACKAGES, last_line, why


def test_what_programs_would_have_run_is_counted_with_the_command_for_all_of_them() -> None:
    reasons = [why("nginx"), f"Skipped: {why('redis-server')}", "a process may have 1024 open files here"]
    assert last_line(reasons) == (
        "2 tests were skipped for want of programs; to install all of them on Debian, as root: make tools"
    )
    assert last_line(reasons[2:]) is None


def test_that_command_installs_every_package_that_a_test_names() -> None:
    (listed,) = re.findall(r"^TOOLS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(PACKAGES.values()) <= set(listed.split())
