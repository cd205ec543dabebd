"""The goals of the design as ratios of one run, and whether it reached them. Pure: entries in, results out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from operator import ge, lt

from load_tests.bench.lineup import SHOKADO, SHOKADO_OFF, SHOKADO_ON, SHOKADO_ONE
from load_tests.bench.measurements import Measurements, ReportRow
from load_tests.bench.pipeline_lineup import PIPELINE_FASTAPI, PIPELINE_SHOKADO


class GoalResult(StrEnum):
    REACHED = "reached"
    NOT_REACHED = "not reached"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Goal:
    """One line of the goals table. `value` has the unit that `measure` names; None was not measured."""

    measure: str
    at_least: bool
    target: float
    value: float | None

    @property
    def result(self) -> GoalResult:
        if self.value is None:
            return GoalResult.NOT_MEASURED
        return GoalResult.REACHED if (ge if self.at_least else lt)(self.value, self.target) else GoalResult.NOT_REACHED

    @property
    def wanted(self) -> str:
        return f"{'at least' if self.at_least else 'below'} {self.target:g}"


def judge(entries: Iterable[ReportRow]) -> tuple[Goal, ...]:
    """Every goal, in the design's order. Where a contender has two engines, its faster row counts."""
    figures = {entry.name: entry.figures for entry in entries if entry.figures is not None}
    ours = _throughput(figures, SHOKADO)
    return (
        Goal("requests/s, 64 connections, times mosec (its faster row)", True, 2, _by(ours, _mosec(figures))),
        Goal("requests/s, 64 connections, times FastAPI + XGBoost, 2 workers", True, 8, _times(figures, "fastapi-2")),
        Goal("requests/s, 64 connections, times stock BentoML", True, 50, _times(figures, "bentoml")),
        Goal("requests/s, 64 connections, times nginx returning a constant", True, 0.4, _times(figures, "nginx")),
        Goal("p50, 1 connection, FastAPI + XGBoost's by Shokado's", True, 4, _median_ratio(figures)),
        Goal("p99 by p50 at half of the top throughput", False, 5, _tail(figures)),
        Goal("1,000-row JSON request, rows/s, times FastAPI + XGBoost", True, 3, _thousand_rows(figures)),
        Goal("1,000 float32 rows, the faster engine's rows/s alone by Shokado's", False, 2, _engine_ratio(figures)),
        Goal(
            "requests/s, 64 connections, drift and request log on, times both off",
            True,
            0.95,
            _by(_throughput(figures, SHOKADO_ON), _throughput(figures, SHOKADO_OFF)),
        ),
        Goal("memory, 2 versions, 1 worker, everything on, MB (PSS)", False, 512, _memory(figures)),
        Goal("requests/s, 64 connections, a pipeline over texts, times FastAPI's", True, 100, _pipeline(figures)),
    )


def _by(dividend: float | None, divisor: float | None) -> float | None:
    return dividend / divisor if dividend and divisor else None


def _throughput(figures: Mapping[str, Measurements], name: str) -> float | None:
    load = figures[name].at(64) if name in figures else None
    return load.requests_per_second if load else None


def _times(figures: Mapping[str, Measurements], name: str) -> float | None:
    return _by(_throughput(figures, SHOKADO), _throughput(figures, name))


def _pipeline(figures: Mapping[str, Measurements]) -> float | None:
    return _by(*(_throughput(figures, name) for name in (PIPELINE_SHOKADO, PIPELINE_FASTAPI)))


def _mosec(figures: Mapping[str, Measurements]) -> float | None:
    return max((_throughput(figures, name) or 0 for name in ("mosec", "mosec-onnx")), default=0) or None


def _median_ratio(figures: Mapping[str, Measurements]) -> float | None:
    theirs, ours = (figures[name].at(1) if name in figures else None for name in ("fastapi-2", SHOKADO))
    return _by(theirs.p50_ms, ours.p50_ms) if theirs and ours else None


def _tail(figures: Mapping[str, Measurements]) -> float | None:
    paced = figures[SHOKADO].paced if SHOKADO in figures else None
    return _by(paced.p99_ms, paced.p50_ms) if paced else None


def _rows_per_second(figures: Mapping[str, Measurements], name: str) -> float | None:
    load = figures[name].rows(1_000) if name in figures else None
    return load.rows_per_second if load else None


def _thousand_rows(figures: Mapping[str, Measurements]) -> float | None:
    return _by(_rows_per_second(figures, SHOKADO), _rows_per_second(figures, "fastapi-2"))


def _engine_ratio(figures: Mapping[str, Measurements]) -> float | None:
    alone = max(_rows_per_second(figures, f"engine-{engine}") or 0 for engine in ("xgboost", "onnxruntime"))
    return _by(alone, _rows_per_second(figures, "shokado-binary"))


def _memory(figures: Mapping[str, Measurements]) -> float | None:
    return figures[SHOKADO_ONE].pss_megabytes if SHOKADO_ONE in figures else None
