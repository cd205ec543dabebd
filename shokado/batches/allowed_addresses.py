"""Allowed addresses: whether a batch may read or write somewhere. A path is looked at as the kernel would find it."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://([A-Za-z0-9._=+-]+(?:/[A-Za-z0-9._=+-]+)*)/?")
"""No more characters than tables have in their names: fsspec gives others a meaning, such as `::` and `?`."""
_LOCAL = ("file", "local")


class AddressRefused(Exception):
    """A batch may not go there; the message says where it may."""


def allowed(address: str, prefixes: Sequence[str]) -> str:
    """The address as a batch is given it. Raises `AddressRefused` unless it is one of the prefixes, or below one."""
    found = _normal(address)
    if found is None or not any(_is_below(found, _normal(prefix)) for prefix in prefixes):
        raise AddressRefused(f"{address[:200]!r} is not below {', '.join(prefixes)}")
    return found


def _normal(address: str) -> str | None:
    """An absolute path without links, or an address without empty and relative steps; None for anything else."""
    if address.startswith("/"):
        return None if "\0" in address else os.path.realpath(address)
    match = _ADDRESS.fullmatch(address)
    if match is None or match[1] in _LOCAL or {".", ".."} & set(match[2].split("/")):
        return None
    return f"{match[1]}://{match[2]}"


def _is_below(found: str, prefix: str | None) -> bool:
    if prefix is None or found.startswith("/") != prefix.startswith("/"):
        return False
    return Path(found) == Path(prefix) or found.startswith(prefix.rstrip("/") + "/")
