"""Progress of a batch: a bar on a terminal, a line now and then elsewhere, and a file for whoever watches."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from shokado.batches.batch_report import BatchReport, BatchState, write_report
from shokado.lifecycle.batch.part_files import BlockDone
from shokado.lifecycle.progress import say

_LINE_EVERY_S = 10.0
_FILE_EVERY_S = 0.5


class BatchProgress:
    """Shows it while it is open."""

    def __init__(self, rows: int, report: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """`rows` are all of the input; `report` is a file that is told it as well."""
        self._rows, self._report, self._clock = rows, report, clock
        self._scored: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._found = 0
        self._begun = self._lined = clock()
        self._filed = -_FILE_EVERY_S
        console = Console(highlight=False)
        self._is_shown = console.is_terminal
        self._bar = Progress(
            TextColumn("score"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %  {task.fields[words]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not self._is_shown,
            transient=True,
        )
        self._task = self._bar.add_task("score", total=rows, words="")

    def __enter__(self) -> Self:
        self._bar.start()
        self._write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    @property
    def counts(self) -> BatchReport:
        """How far it is."""
        done = self._scored.total() + self._rejected.total()
        seconds = self._clock() - self._begun
        rate = (done - self._found) / seconds if seconds > 0 and done > self._found else None
        return BatchReport(BatchState.RUNNING, self._rows, done, dict(self._scored), dict(self._rejected), rate)

    def found(self, done: BlockDone) -> None:
        """A block was done by an earlier run."""
        self._found += done.rows
        self._count(done)

    def told(self, done: BlockDone) -> None:
        """A block is done."""
        self._count(done)
        now, counts = self._clock(), self.counts
        if not self._is_shown and now - self._lined > _LINE_EVERY_S:
            self._lined = now
            say(f"{counts.done:,} of {counts.rows:,} rows, {counts.rows_per_s or 0:,.0f} rows/s")
        if now - self._filed > _FILE_EVERY_S:
            self._write()

    def _count(self, done: BlockDone) -> None:
        self._scored.update(done.scored)
        self._rejected.update(done.rejected)
        counts = self.counts
        words = f"{counts.done:,} of {counts.rows:,} rows"
        if counts.rows_per_s is not None:
            words += f", {counts.rows_per_s:,.0f} rows/s"
        self._bar.update(self._task, completed=counts.done, words=words)

    def _write(self) -> None:
        if self._report is None:
            return
        self._filed = self._clock()
        write_report(self._report, self.counts)
