"""Small files: what is read, and that nothing is waited for."""

import os
from pathlib import Path

import pytest

from configuration.regular_file import read_regular_file


def test_a_file_is_read_up_to_its_bound_through_links(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"secret")
    (tmp_path / "link").symlink_to("file")
    assert read_regular_file(tmp_path / "link", 100) == b"secret"
    assert read_regular_file(tmp_path / "link", 3) == b"sec"


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            read_regular_file(path, 100)
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(OSError, match=r"directory"):
            read_regular_file(path, 100)
