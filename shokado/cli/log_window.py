"""The window of the request log that a command looks at: how it is said, and its options."""

import re
from typing import Annotated

import typer

_UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0}


def duration(text: str) -> float:
    """Seconds of `90m`, `24h`, `7d`. Raises `typer.BadParameter`."""
    if not (match := re.fullmatch(r"(\d{1,6})([mhd])", text)) or not int(match[1]):
        raise typer.BadParameter(f"{text!r} is no time such as 90m, 24h or 7d")
    return int(match[1]) * _UNITS[match[2]]


Since = Annotated[
    float | None, typer.Option(parser=duration, metavar="TIME", help="How far back: 90m, 24h, 7d; else all.")
]
Until = Annotated[
    float | None, typer.Option(parser=duration, metavar="TIME", help="How long ago the last ones were; else now.")
]
