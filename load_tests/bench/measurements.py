"""What was measured: one `Measurements` per contender and turn, and the medians over the turns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from load_tests.bench.load import LoadResult


@dataclass(frozen=True)
class Measurements:
    """One contender's measurements. `one_row` by connections, `many_rows` by rows, both over the plan's steps."""

    one_row: tuple[LoadResult, ...] = ()
    many_rows: tuple[LoadResult, ...] = ()
    paced: LoadResult | None = None
    """64 connections that rest so long in between that about half of the top throughput arrives."""
    pss_megabytes: float | None = None

    def at(self, connections: int) -> LoadResult | None:
        """What was measured with one row per request over that many connections."""
        return next((load for load in self.one_row if load.connections == connections), None)

    def rows(self, rows: int) -> LoadResult | None:
        """What was measured with that many rows per request over one connection."""
        return next((load for load in self.many_rows if load.rows == rows), None)


@dataclass(frozen=True)
class ReportRow:
    """A row of the report: figures, or the reason why there are none. Versions are name to version."""

    name: str
    title: str
    settings: str
    versions: dict[str, str]
    figures: Measurements | None = None
    failure: str | None = None


def fold(turns: Sequence[Measurements]) -> Measurements:
    """The medians over turns that took the same steps."""
    paced = [turn.paced for turn in turns if turn.paced is not None]
    memory = [turn.pss_megabytes for turn in turns if turn.pss_megabytes is not None]
    return Measurements(
        one_row=_fold_steps([turn.one_row for turn in turns]),
        many_rows=_fold_steps([turn.many_rows for turn in turns]),
        paced=fold_loads(paced) if paced else None,
        pss_megabytes=median(memory) if memory else None,
    )


def fold_loads(loads: Sequence[LoadResult]) -> LoadResult:
    """Median rate and percentiles; counts of requests and errors add up."""

    def middle(field: Callable[[LoadResult], float]) -> float:
        return median(field(load) for load in loads)

    return LoadResult(
        connections=loads[0].connections,
        rows=loads[0].rows,
        requests=sum(load.requests for load in loads),
        requests_per_second=middle(lambda load: load.requests_per_second),
        p50_ms=middle(lambda load: load.p50_ms),
        p99_ms=middle(lambda load: load.p99_ms),
        refused=sum(load.refused for load in loads),
        broken=sum(load.broken for load in loads),
    )


def _fold_steps(turns: Sequence[tuple[LoadResult, ...]]) -> tuple[LoadResult, ...]:
    return tuple(fold_loads(step) for step in zip(*turns, strict=True))
