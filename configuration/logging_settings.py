"""What the server's log looks like."""

from typing import Literal

from configuration.frozen import FrozenSettings


class LoggingSettings(FrozenSettings):
    """The server's own log, on its standard output."""

    format: Literal["text", "json"] = "text"
    """Lines to read, or a JSON object each."""
