"""The secret that seals prediction ids, where it is given by a file."""

from hashlib import blake2b
from pathlib import Path

from configuration.regular_file import read_regular_file
from configuration.settings import SettingsError

MIN_BYTES = 16
"""The shortest secret: 128 bits, which nobody guesses if they are random."""
_MAX_BYTES = 4096
"""More than any secret has: a wrong file is not read whole."""
_USE = b"shokado.secret"
_COMMAND = "openssl rand -hex 32 makes one"


def read_secret(root: Path, name: str | None) -> bytes | None:
    """32 bytes made of the file's content, without the line's end; None where no file is named.

    `root` is what a relative name is looked for in. Raises `SettingsError`.
    """
    if name is None:
        return None
    path = root / name
    try:
        content = read_regular_file(path, _MAX_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"feedback.secret_file: {path}: {error.strerror or error}; {_COMMAND}") from None
    content = content.rstrip(b"\r\n")
    if not MIN_BYTES <= len(content) <= _MAX_BYTES:
        message = f"{path} must hold {MIN_BYTES} to {_MAX_BYTES} bytes beside the line's end"
        raise SettingsError(f"feedback.secret_file: {message}; {_COMMAND}")
    return blake2b(content, digest_size=32, person=_USE).digest()
