"""Segments: the files of the request log. A process appends blocks to its own one, and begins another one in time.

    magic | length, checksum | MessagePack of a list of records | length, checksum | ..

Each block is handed to the kernel as it is written: a process that is killed loses what it had not written yet, and at
most leaves half a block, where reading ends. The one that is being written is locked by its process, and so is known.
"""

import contextlib
import errno
import fcntl
import os
import struct
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from configuration.file_lock import lock
from shokado.request_log.records import CARD_TAG, Record, decode_list, encoded_list

MAGIC = b"SHKDLOG2"
SUFFIX = ".segment"
BLOCK_BYTES = 2**20
"""About so much is one block: whoever reads decodes one at once."""
MAX_BLOCK_BYTES = 256 * 2**20
"""Larger lengths are those of damaged files."""
_HEAD = struct.Struct("<II")
"""Length of the block and its CRC-32."""
_BEGINNING_BYTES = 11
"""The longest head of a list, that of its first record, and that record's tag."""


class SegmentDamaged(Exception):
    """The file is no segment, or a block in its middle is not as it was written; the message names it."""


class SegmentWriter:
    """The segment that a process writes, and then the next one. For one thread at a time."""

    def __init__(
        self,
        folder: Path,
        worker: str,
        clock: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        """`worker` is the process's name, which no other one has. `clock` tells the time of day, `elapsed` how long."""
        self._folder = folder
        self._worker = worker
        self._clock = clock
        self._elapsed = elapsed
        self._file: IO[bytes] | None = None
        self._begun_ms, self._begun_on = 0, 0.0
        self.size = 0
        """Bytes of the open segment; 0 where there is none."""

    @property
    def age_s(self) -> float:
        """Seconds since the open segment was begun."""
        return self._elapsed() - self._begun_on

    def write(self, records: Sequence[bytes]) -> None:
        """Append records that are encoded, in blocks. Raises `OSError`, after which the file is as it was."""
        file = self._file or self._begin()
        try:
            size = self.size + sum(_write_block(file, encoded_list(block)) for block in _blocks(records))
        except OSError:
            file.truncate(self.size)
            file.seek(self.size)
            raise
        self.size = size

    def close(self) -> None:
        """End the segment: the next write begins another one."""
        file, self._file, self.size = self._file, None, 0
        if file is not None:
            with file:
                os.fdatasync(file.fileno())

    def _begin(self) -> IO[bytes]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A later name than the last one's, also within a millisecond, or where the clock was set back.
        self._begun_ms = max(round(self._clock() * 1000), self._begun_ms + 1)
        self._begun_on = self._elapsed()
        name = f"{self._begun_ms:013d}-{self._worker}{SUFFIX}"
        descriptor = os.open(self._folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        # Unbuffered: a write that returned is the kernel's.
        file = os.fdopen(descriptor, "wb", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if file.write(MAGIC) < len(MAGIC):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.close()
            raise
        self._file, self.size = file, len(MAGIC)
        return file


def _blocks(records: Sequence[bytes]) -> Iterator[list[bytes]]:
    """The records in their order, cut where they are `BLOCK_BYTES` together."""
    block: list[bytes] = []
    size = 0
    for record in records:
        block.append(record)
        size += len(record)
        if size >= BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


def _write_block(file: IO[bytes], content: bytes) -> int:
    """Append a block, and return its size. Raises `OSError`, also for one that nobody would read."""
    if len(content) > MAX_BLOCK_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    head = _HEAD.pack(len(content), zlib.crc32(content))
    for part in (head, content):
        rest = memoryview(part)
        # Unbuffered, a write takes what there is room for.
        while rest:
            rest = rest[file.write(rest) :]
    return len(head) + len(content)


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of the log."""

    path: Path
    size_bytes: int
    is_open: bool
    """Whether a process still writes it."""
    written_at: float = 0.0
    """When it was written to for the last time, in Unix seconds."""

    @property
    def begun_at(self) -> float:
        """In Unix seconds."""
        return int(self.path.name.partition("-")[0]) / 1000

    @property
    def is_ended(self) -> bool:
        """Whether it has records, and nobody adds to them. One without may be about to be locked by its process."""
        return not self.is_open and self.size_bytes > len(MAGIC)

    def open(self) -> IO[bytes]:
        """The file's content. Raises `OSError`."""
        return self.path.open("rb")


class RemoteFolder(Protocol):
    """Where segments lie that are not files of this machine."""

    @property
    def name(self) -> str:
        """Its address, without credentials."""
        ...

    def segments(self) -> list[Segment]:
        """Those that are there, in the order in which they were begun."""
        ...


Folder = Path | RemoteFolder


def segments_at(folder: Folder) -> list[Segment]:
    """The segments of a folder of this machine, or of another place."""
    return segments_in(folder) if isinstance(folder, Path) else folder.segments()


def segments_in(folder: Path, without: Collection[str] = ()) -> list[Segment]:
    """The segments of a folder, in the order in which they were begun, leaving out those of the names in `without`.

    A folder that is not there has none.
    """
    found = []
    for path in sorted(folder.glob(f"[0-9]*-*{SUFFIX}")):
        if path.name in without:
            continue
        try:
            with path.open("rb") as file:
                # Before the lock is asked for: what has records now was locked when they came.
                status = os.fstat(file.fileno())
                found.append(Segment(path, status.st_size, not lock(file, shared=True), status.st_mtime))
        except FileNotFoundError:
            # Too old, and removed meanwhile.
            continue
    return found


def records_of(segment: Segment, start: int = 0) -> Iterator[tuple[list[Record], int]]:
    """The records of each block from byte `start` on (0: all), and where the block ends.

    Ends before a block that was not wholly written. Raises `SegmentDamaged`, and `OSError`.
    """
    with segment.open() as file:
        position = start or _first_block(segment, file)
        while (block := _next_block(segment, file, position)) is not None:
            records = read_block(segment, file, block)
            if records is None:
                return
            position = block.end
            yield records, position


class Block(NamedTuple):
    """Where records lie in a segment."""

    start: int
    length: int
    checksum: int
    has_cards: bool
    """Whether cards are the first of its records, as is where there are any."""

    @property
    def end(self) -> int:
        return self.start + _HEAD.size + self.length


def blocks_of(segment: Segment, file: IO[bytes]) -> Iterator[Block]:
    """The blocks of an open segment, of which no more than a few bytes are read; the last one may lack its end.

    Raises `SegmentDamaged`, and `OSError`.
    """
    position = _first_block(segment, file)
    while (block := _next_block(segment, file, position)) is not None:
        yield block
        position = block.end


def read_block(segment: Segment, file: IO[bytes], block: Block) -> list[Record] | None:
    """The records of a block; None where it lacks its end. Raises `SegmentDamaged`, and `OSError`."""
    file.seek(block.start + _HEAD.size)
    content = file.read(block.length)
    if len(content) < block.length:
        return None
    if zlib.crc32(content) != block.checksum:
        raise SegmentDamaged(f"{segment.path}: the block at byte {block.start} is not as it was written")
    return decode_list(content)


def _first_block(segment: Segment, file: IO[bytes]) -> int:
    """Where it begins. Raises `SegmentDamaged`."""
    found = file.read(len(MAGIC))
    if found != MAGIC and len(found) == len(MAGIC):
        raise SegmentDamaged(f"{segment.path}: not a segment of a request log")
    return len(MAGIC)


def _next_block(segment: Segment, file: IO[bytes], position: int) -> Block | None:
    file.seek(position)
    beginning = file.read(_HEAD.size + _BEGINNING_BYTES)
    if len(beginning) < _HEAD.size:
        return None
    length, checksum = _HEAD.unpack_from(beginning)
    if length > MAX_BLOCK_BYTES:
        raise SegmentDamaged(f"{segment.path}: the block at byte {position} is not as it was written")
    return Block(position, length, checksum, CARD_TAG in beginning[_HEAD.size :])


def drop_old(folder: Path, max_bytes: int, before: float) -> list[Segment]:
    """Remove segments that were begun before this Unix time, and the oldest ones until the rest has `max_bytes`.

    What is being written stays. Returns what was removed.
    """
    segments = segments_in(folder)
    excess = sum(segment.size_bytes for segment in segments) - max_bytes
    dropped = []
    for segment in segments:
        if not segment.is_open and (segment.begun_at < before or (excess > 0 and segment.is_ended)):
            excess -= segment.size_bytes
            # Another process may have been faster.
            with contextlib.suppress(FileNotFoundError):
                segment.path.unlink()
                dropped.append(segment)
    return dropped
