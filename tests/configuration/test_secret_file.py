"""The file with the secret that seals prediction ids."""

import os
from pathlib import Path

import pytest

from configuration.secret_file import read_secret
from configuration.settings import SettingsError


def test_its_content_becomes_32_bytes_whatever_ends_its_line(tmp_path: Path) -> None:
    made = set()
    for content in (b"0123456789abcdef", b"0123456789abcdef\n", b"0123456789abcdef\r\n"):
        (tmp_path / "secret").write_bytes(content)
        made.add(read_secret(tmp_path, "secret"))
    assert {value.hex() for value in made if value} == {
        "44319f34ccba7dea2336383361d3ed18d7da6d57d2fa40eee2eccf4b80dfe429"
    }, "as it was: ids of before must verify"
    (tmp_path / "secret").write_bytes(b" 0123456789abcdef")
    assert read_secret(tmp_path, str(tmp_path / "secret")) not in made


def test_no_file_is_no_secret(tmp_path: Path) -> None:
    assert read_secret(tmp_path, None) is None


@pytest.mark.parametrize("content", [b"", b"0123456789abcde\n", bytes(5000)])
def test_what_is_too_short_or_too_long_is_refused_with_what_to_do(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(SettingsError, match=r"feedback.secret_file: .* 16 to 4096 bytes .*; openssl rand -hex 32"):
        read_secret(tmp_path, "secret")


def test_what_cannot_be_read_is_refused_and_waits_for_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("nothing", "No such file"), ("pipe", "not a regular file")):
        with pytest.raises(SettingsError, match=f"feedback.secret_file: .*{name}: {why}"):
            read_secret(tmp_path, name)
