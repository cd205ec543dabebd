"""Ports: which numbers are one. What asks the kernel by another number gets it cut to 16 bits: 80000 would be 14464."""

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator

MAX_PORT = 65_535
RANGE = f"a port is a number from 1 to {MAX_PORT}"


def _port(value: Any) -> int:
    if isinstance(value, bool) or not str(value).isdecimal() or not 1 <= int(value) <= MAX_PORT:
        raise ValueError(f"{value!r} is no port: {RANGE}")
    return int(value)


Port = Annotated[int, BeforeValidator(_port)]


def check_port(url: str) -> str:
    """The address. Raises `ValueError`, whose words repeat none of it, when it has a port that is none."""
    try:
        port = urlsplit(url).port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"the port of the address is none: {RANGE}")
    return url
