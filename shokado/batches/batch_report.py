"""The report of a batch: a file in which its process says how far it is, at any moment whole."""

from enum import StrEnum
from pathlib import Path

import msgspec


class BatchState(StrEnum):
    """What a batch is at."""

    PLANNING = "planning"
    """The input is looked at, and cut into blocks."""
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    """Every row is in the output."""
    FAILED = "failed"
    """What was scored stays, and the same batch again goes on with it."""
    CANCELLED = "cancelled"
    """Likewise."""

    @property
    def has_ended(self) -> bool:
        return self in (BatchState.SUCCEEDED, BatchState.FAILED, BatchState.CANCELLED)


class BatchReport(msgspec.Struct, frozen=True):
    """How far a batch is.

    Attributes:
        rows: all of the input; 0 while it is planned.
        done: those that have become a part, or are rejected.
        scored: by version.
        rejected: by the code of why.
        rows_per_s: of this run; None before the first block.
        error: why it failed.
    """

    state: BatchState
    rows: int = 0
    done: int = 0
    scored: dict[str, int] = {}
    rejected: dict[str, int] = {}
    rows_per_s: float | None = None
    error: str | None = None


def write_report(path: Path, report: BatchReport) -> None:
    """Raises `OSError`."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(msgspec.json.encode(report))
    temporary.replace(path)


def read_report(path: Path) -> BatchReport | None:
    """None where there is none, or one of another release."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=BatchReport)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
