"""A sink: what takes the segments of the log, one after the other."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Protocol

from shokado.request_log.segments import Segment


class FailureReason(StrEnum):
    """Why something was not sent; a label of metrics."""

    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    DENIED = "denied"
    """The sink knows no such credentials, or they may not do this."""
    REFUSED = "refused"
    """The sink has answered, and not taken it."""
    DAMAGED = "damaged"
    """The segment cannot be read on."""
    CRASHED = "crashed"
    """The process that sends has ended."""


class SinkFailure(Exception):
    """A step that was not taken, and may be tried again; the message is for people, without credentials."""

    def __init__(self, reason: FailureReason, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after_s = retry_after_s
        """How long the sink asks to be left alone."""


Step = Callable[[], None]
"""Sends a part of a segment, when it is called again as well. Raises `SinkFailure`."""


class Sink(Protocol):
    """Takes segments. For one thread."""

    name: str
    """Where it is, for people, without credentials."""

    def steps(self, segment: Segment) -> Iterator[Step]:
        """The steps that send a segment; each is to be taken before the next one is asked for.

        Raises `SegmentDamaged`, and `OSError` where the segment cannot be read.
        """
        ...
