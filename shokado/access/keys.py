"""Keys: what a file of them holds, and which of them somebody has shown.

The file is YAML, a list of `{name, role, sha256}`, where `sha256` is the hexadecimal SHA-256 of the key. A key itself
is random and shown once, when it is made; no file, log or metric has it. As it has 256 bits of chance, a plain digest
keeps it as safe as a slow one would.
"""

import fcntl
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import Any

import yaml

from configuration.regular_file import read_regular_file

MAX_KEYS = 64
"""Keys in one file: every request compares with all of them, and each name is a label of metrics."""
MAX_FILE_BYTES = 2**16
"""More than `MAX_KEYS` need: a wrong file is not read whole."""
PREFIX = "shk_"
"""Lets scanners for leaked secrets, and people, tell what they have found."""
KEY_BYTES = 32
"""Random bytes of a key: 256 bits, which nobody guesses."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}").fullmatch
_DIGEST = re.compile(r"[0-9a-f]{64}").fullmatch
_FIELDS = {"name", "role", "sha256"}


class KeyFileError(Exception):
    """The file cannot be used; the message says why, and holds nothing of a digest."""


class Role(StrEnum):
    """What a key is good for; an admin may do all that a predictor may."""

    PREDICT = "predict"
    ADMIN = "admin"

    def includes(self, wanted: "Role") -> bool:
        return self is Role.ADMIN or self is wanted


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of the file."""

    name: str
    role: Role
    sha256: str = field(repr=False)


class KeyRing:
    """The keys that hold."""

    def __init__(self, keys: tuple[Key, ...] = ()) -> None:
        self.keys = keys
        self._digests = [(bytes.fromhex(key.sha256), key) for key in keys]
        self._found: dict[bytes, Key] = {}

    def find(self, digest: bytes) -> Key | None:
        """The key of this digest (see `digest_of`), compared with all in constant time.

        One that was found is remembered by its digest, whose bytes tell nobody how to come closer to a key.
        """
        found = self._found.get(digest)
        if found is None:
            for known, key in self._digests:
                if compare_digest(known, digest):
                    found = self._found[digest] = key
        return found


def digest_of(key: bytes) -> bytes:
    """What stands for a key from where it is read on: its SHA-256, 32 bytes."""
    return sha256(key).digest()


def read_keys(path: Path) -> KeyRing:
    """Read a file of keys, which may have none. Raises `KeyFileError`."""
    return parse_keys(path, read_text(path))


def read_text(path: Path) -> bytes:
    """What a file of keys says. Raises `KeyFileError` when that cannot be told."""
    try:
        text = read_regular_file(path, MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror or error}") from error
    if len(text) > MAX_FILE_BYTES:
        raise KeyFileError(f"{path}: longer than {MAX_FILE_BYTES} bytes")
    return text


def parse_keys(path: Path | str, text: bytes) -> KeyRing:
    """The keys that a file's text holds. Raises `KeyFileError`.

    `[]` revokes all keys; no text at all does not, as a file is empty for a moment while it is written anew.
    """
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise KeyFileError(f"{path}: not readable as YAML") from error
    if not isinstance(content, list):
        raise KeyFileError(f"{path}: holds no list of keys; without any, it is []")
    keys = tuple(_entry(path, number, entry) for number, entry in enumerate(content, 1))
    if len(keys) > MAX_KEYS:
        raise KeyFileError(f"{path}: holds {len(keys)} keys; at most {MAX_KEYS} are allowed")
    for what in ("name", "sha256"):
        values = [getattr(key, what) for key in keys]
        twice = next((key.name for key in keys if values.count(getattr(key, what)) > 1), None)
        if twice is not None:
            raise KeyFileError(f"{path}: the {what} of key {twice} occurs twice")
    return KeyRing(keys)


def _entry(path: Path | str, number: int, entry: Any) -> Key:
    where = f"{path}: entry {number}"
    if not isinstance(entry, dict) or set(entry) != _FIELDS:
        raise KeyFileError(f"{where} must have name, role and sha256, and nothing else")
    name, role, digest = entry["name"], entry["role"], entry["sha256"]
    if not isinstance(name, str) or not _NAME(name):
        raise KeyFileError(f"{where}: the name must be 1 to 63 small letters, digits and ._-")
    if role not in list(Role):
        raise KeyFileError(f"{where} ({name}): the role must be predict or admin")
    if not isinstance(digest, str) or not _DIGEST(digest):
        raise KeyFileError(f"{where} ({name}): sha256 must be 64 hexadecimal digits in small letters, in quotes")
    return Key(name, Role(role), digest)


def add_key(path: Path, name: str, role: Role) -> str:
    """Make a key, add its digest to the file, and return it. Raises `KeyFileError`, as for a name that is taken."""
    with _changing(path) as keys:
        return add_to(path, keys, name, role)


def revoke_key(path: Path, name: str) -> None:
    """Take a key out of the file. Raises `KeyFileError`, as when there is none of that name."""
    with _changing(path) as keys:
        take_from(path, keys, name)


def add_to(where: Path | str, keys: list[Key], name: str, role: Role) -> str:
    """Make a key, add it to the keys, and return what is shown once. `where` begins the words of a `KeyFileError`."""
    secret = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    entry = Key(name, role, digest_of(secret.encode()).hex())
    if any(key.name == name for key in keys):
        raise KeyFileError(f"{where}: there is a key called {name}")
    keys.append(_entry(where, len(keys) + 1, asdict(entry)))
    if len(keys) > MAX_KEYS:
        raise KeyFileError(f"{where}: holds {MAX_KEYS} keys, and no more are allowed")
    return secret


def take_from(where: Path | str, keys: list[Key], name: str) -> Key:
    """Take a key out of the keys, and return it. `where` begins the words of a `KeyFileError`."""
    found = next((key for key in keys if key.name == name), None)
    if found is None:
        raise KeyFileError(f"{where}: there is no key called {name}")
    keys.remove(found)
    return found


def text_of(keys: list[Key]) -> str:
    """What a file of these keys says."""
    return yaml.safe_dump([asdict(key) | {"role": str(key.role)} for key in keys], sort_keys=False)


@contextmanager
def _changing(path: Path) -> Iterator[list[Key]]:
    """The file's keys, to be changed; nobody sees half a change, and of two changes at once none is lost."""
    path = path.resolve()
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        keys = list(read_keys(path).keys) if path.exists() and path.stat().st_size else []
        yield keys
        _replace(path, text_of(keys))
        os.fsync(folder)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    finally:
        os.close(folder)


def _replace(path: Path, text: str) -> None:
    # The temporary file has mode 0600 from the beginning.
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
