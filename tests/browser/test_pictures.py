"""The README's pictures are made by a command, and the README shows what it makes."""

import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser.pictures import HEIGHT, SCHEMES, WIDTH
from tests.browser.served_page import PaperServer
from tests.conftest import ROOT
from tests.tools import needs


def size_of(picture: Path) -> tuple[int, int]:
    """Width and height of a PNG, as its header says."""
    head = picture.read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", head[16:])
    return width, height


@pytest.mark.slow
@needs("chromium")
def test_the_command_takes_both_pictures(paper: PaperServer, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.browser.pictures", "--url", paper.url]
    subprocess.run([*command, "--seconds", "6", "--folder", str(tmp_path)], cwd=ROOT, check=True, timeout=240)
    for scheme in SCHEMES:
        assert size_of(tmp_path / f"dashboard-{scheme}.png") == (WIDTH, HEIGHT)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_readme_shows_it(scheme: str) -> None:
    path = f"docs/pictures/dashboard-{scheme}.png"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(f'(src|srcset)="{path}"', readme)
    assert size_of(ROOT / path) == (WIDTH, HEIGHT)
