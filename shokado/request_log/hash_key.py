"""The key that masked values are hashed with: a file's that the settings name, else one that the log's folder keeps."""

import contextlib
import os
import secrets
from pathlib import Path

from configuration.log_settings import LogSettings
from configuration.regular_file import read_regular_file
from configuration.settings import SettingsError
from shokado.request_log.masking import KEY_BYTES

KEY_FILE = "hash.key"


def hash_key(settings: LogSettings, folder: Path, root: Path) -> bytes:
    """The 32 bytes that values are hashed with: of the file that the settings name, else one that the folder keeps.

    Raises `SettingsError` where the file cannot be read or has too few bytes.
    """
    if not settings.hash and settings.unit != "hash":
        return bytes(KEY_BYTES)
    path = root / settings.key_file if settings.key_file is not None else folder / KEY_FILE
    try:
        if settings.key_file is None:
            _make(path)
        key = read_regular_file(path, KEY_BYTES)
    except OSError as error:
        raise SettingsError(f"log.key_file: {path}: {error.strerror or error}") from None
    if len(key) < KEY_BYTES:
        raise SettingsError(f"log.key_file: {path} must hold {KEY_BYTES} bytes; openssl rand -hex 16 makes them")
    return key


def _make(path: Path) -> None:
    """Put a key there unless there is one; all processes of a server do so at once, and one of them is first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        return
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    scratch.touch(mode=0o600)
    scratch.write_bytes(secrets.token_bytes(KEY_BYTES))
    with contextlib.suppress(FileExistsError):
        os.link(scratch, path)
    scratch.unlink()
