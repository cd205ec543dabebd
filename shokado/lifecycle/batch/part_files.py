"""Part files: the rows of a block, written as they come, and in place once all are.

A block's rows without scores are put in their place first, and its part last: where a part is, all of the block is
done. The part says of which plan it is, and what became of its rows.
"""

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from shokado.lifecycle.batch.batch_plan import REJECTED, RowBlock
from shokado.lifecycle.batch.locations import Location
from shokado.lifecycle.errors import BatchRefused

_KEY = b"shokado"


class BlockDone(msgspec.Struct, frozen=True):
    """What became of the rows of a block: how many have scores, by version, and how many do not, by the code of why."""

    plan: str
    part: str
    scored: dict[str, int]
    rejected: dict[str, int]

    @property
    def rows(self) -> int:
        return sum(self.scored.values()) + sum(self.rejected.values())


class PartWriter:
    """Writes what becomes of a block. Context manager: it is done when that ends well, and else nothing is there."""

    def __init__(self, output: Location, plan: str, block: RowBlock, schemas: tuple[Any, Any]) -> None:
        """`schemas` are those of rows with scores and without."""
        self._output, self._block, self._schemas = output, block, schemas
        self._plan = plan
        self._open = ExitStack()
        self._writers: dict[str, Any] = {}
        self._scored: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._rejected_path = output.at(REJECTED, block.part)
        self._part_path = output.at(block.part)

    def __enter__(self) -> Self:
        self._open.__enter__()
        # The first to be opened is the last to be put in its place.
        self._writers["part"] = self._writer(self._part_path, self._schemas[0])
        return self

    def write(self, scored: Any, versions: Counter[str]) -> None:
        """Rows with scores, as a table of Arrow, and how many each version scored."""
        self._scored += versions
        self._writers["part"].write_table(scored)

    def reject(self, rejected: Any, codes: Counter[str]) -> None:
        """Rows without, and how many are so for each reason."""
        self._rejected += codes
        if "rejected" not in self._writers:
            self._writers["rejected"] = self._writer(self._rejected_path, self._schemas[1])
        self._writers["rejected"].write_table(rejected)

    @property
    def done(self) -> BlockDone:
        return BlockDone(self._plan, self._block.part, dict(self._scored), dict(self._rejected))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            if self.done.rows != self._block.rows:
                raise AssertionError(f"{self.done.rows} rows came of {self._block.rows}")
            self._writers["part"].add_key_value_metadata({_KEY: msgspec.json.encode(self.done)})
            if "rejected" not in self._writers:
                self._output.remove(self._rejected_path)
        self._open.__exit__(kind, error, trace)

    def _writer(self, path: str, schema: Any) -> Any:
        from pyarrow import parquet

        temporary: Path = self._open.enter_context(self._output.writing(path))
        writer = parquet.ParquetWriter(temporary, schema, compression="zstd")
        self._open.callback(writer.close)
        return writer


def read_done(output: Location, plan: str, block: RowBlock) -> BlockDone | None:
    """What a part that is there says of its block; None where it cannot be read, and so is to be made again.

    Raises `BatchRefused` for a part of another plan.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with output.open(output.at(block.part)) as file:
            metadata = parquet.read_metadata(file).metadata or {}
        found = msgspec.json.decode(metadata[_KEY], type=BlockDone)
    except (pyarrow.ArrowException, OSError, KeyError, msgspec.DecodeError):
        return None
    if found.plan != plan:
        raise BatchRefused(f"{output.name}/{block.part} is of another batch. Name another folder.")
    return found
