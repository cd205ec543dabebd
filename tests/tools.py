"""Programs that tests use and a machine may lack; a test without one is skipped, says so, and is counted at the end."""

import shutil

import pytest

PACKAGES = {
    "chromium": "chromium",
    "curl": "curl",
    "nginx": "nginx-light",
    "openssl": "openssl",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "redis-server": "redis-server",
}
"""Debian's package of each program; `make tools` installs them all."""
_INSTALLED = (*(f"needs {program};" for program in PACKAGES), "needs the client of", "needs the published definitions")
"""How the reasons begin of tests that it lets run."""


def needs(program: str) -> pytest.MarkDecorator:
    """Skip a test where the program is not installed."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=why(program))


def why(program: str) -> str:
    return f"needs {program}; on Debian: apt-get install {PACKAGES[program]}"


def last_line(reasons: list[str]) -> str | None:
    """What a run says at its end of tests skipped for these reasons; None where `make tools` would not help."""
    wanting = sum(reason.removeprefix("Skipped: ").startswith(_INSTALLED) for reason in reasons)
    if not wanting:
        return None
    return f"{wanting} tests were skipped for want of programs; to install all of them on Debian, as root: make tools"
