"""One function for all tests of a run: the zip that `shokado lambda build` makes, unpacked as Lambda unpacks it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.server import ROOT


@pytest.fixture(scope="session")
def function_zip(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip, for this machine's Python."""
    target = tmp_path_factory.mktemp("function") / "shokado.zip"
    command = [sys.executable, "-m", "shokado", "lambda", "build", "--runtime", "here", "--output", str(target)]
    ended = subprocess.run(
        command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=600, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "starts in" in ended.stdout
    return target


@pytest.fixture(scope="session")
def task(function_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its content, in a folder that nobody may write to, as on Lambda."""
    folder = tmp_path_factory.mktemp("task")
    with zipfile.ZipFile(function_zip) as zipped:
        zipped.extractall(folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return folder
