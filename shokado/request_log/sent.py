"""What was sent of the log: for each segment that a sink has taken, an empty file of its name in the folder `sent/`.

A mark is made after the sink has said so. Whoever is killed in between sends that segment again.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from shokado.request_log.segments import Segment, segments_in

FOLDER = "sent"


def mark_sent(folder: Path, name: str) -> None:
    """Remember that the segment of this name was sent. Raises `OSError`."""
    marks = folder / FOLDER
    marks.mkdir(mode=0o700, exist_ok=True)
    (marks / name).touch(mode=0o600)


def sent_in(folder: Path) -> frozenset[str]:
    """The names of segments that were sent. Raises `OSError`."""
    try:
        return frozenset(os.listdir(folder / FOLDER))
    except FileNotFoundError:
        return frozenset()


def unsent_in(folder: Path) -> list[Segment]:
    """The segments that are ended and not sent, in the order in which they were begun. Raises `OSError`."""
    return [segment for segment in segments_in(folder, without=sent_in(folder)) if segment.is_ended]


def forget(folder: Path, dropped: Iterable[Segment]) -> list[Segment]:
    """Remove the marks of segments that are gone, and tell which of `dropped` had none. Raises `OSError`."""
    sent = sent_in(folder)
    for name in sent:
        if not (folder / name).exists():
            with contextlib.suppress(FileNotFoundError):
                (folder / FOLDER / name).unlink()
    return [segment for segment in dropped if segment.path.name not in sent]
