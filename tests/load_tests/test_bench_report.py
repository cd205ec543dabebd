"""Goals and RESULTS.md: reached, not reached or not measured; failures named; the hand-written notes stay."""

from dataclasses import replace

from load_tests.bench.goals import GoalResult, judge
from load_tests.bench.hardware import Hardware
from load_tests.bench.load import LoadResult
from load_tests.bench.measure import Plan
from load_tests.bench.measurements import Measurements, ReportRow
from load_tests.bench.report import NOTES_END, NOTES_START, BenchRun, render, table


def one_row(connections: int, requests_per_second: float, p50_ms: float) -> LoadResult:
    return LoadResult(connections, 1, 1000, requests_per_second, p50_ms, 3 * p50_ms, 0, 0)


def many_rows(rows: int, rows_per_second: float) -> LoadResult:
    return LoadResult(1, rows, 1000, rows_per_second / rows, 1.0, 2.0, 0, 0)


def entry(name: str, requests_per_second: float, p50_ms: float = 1.0, megabytes: float = 100) -> ReportRow:
    steps = (one_row(1, requests_per_second / 10, p50_ms), one_row(64, requests_per_second, p50_ms * 10))
    paced = one_row(64, requests_per_second / 2, p50_ms)
    figures = Measurements(steps, (many_rows(1_000, requests_per_second * 100),), paced, megabytes)
    return ReportRow(name, name.title(), "As it comes.", {"python": "3.11"}, figures)


SHOKADO = entry("shokado", 40_000, 0.1)
FAILED = ReportRow("ray", "Ray", "Two replicas.", {}, failure="was not ready within 120 s: no memory")


def run(*entries: ReportRow) -> BenchRun:
    machine = Hardware("A CPU", 2, 8, "Linux 6", "3.11.7")
    return BenchRun(machine, "2026-01-01", "make bench", "wrk 4.1", Plan(3, 10, (1, 64), (1_000,)), entries)


def test_goals_are_ratios_within_the_run() -> None:
    others = [entry("fastapi-2", 4_000, 0.5), entry("mosec", 30_000), entry("mosec-onnx", 10_000)]
    goals = judge([SHOKADO, entry("shokado-off", 42_000), entry("shokado-on", 39_900), *others])

    values = {goal.measure: (goal.value, goal.result) for goal in goals}

    assert values["requests/s, 64 connections, times mosec (its faster row)"] == (40 / 30, GoalResult.NOT_REACHED)
    assert values["requests/s, 64 connections, times FastAPI + XGBoost, 2 workers"] == (10, GoalResult.REACHED)
    assert values["p50, 1 connection, FastAPI + XGBoost's by Shokado's"] == (5, GoalResult.REACHED)
    assert values["requests/s, 64 connections, drift and request log on, times both off"] == (0.95, GoalResult.REACHED)
    assert values["requests/s, 64 connections, times stock BentoML"] == (None, GoalResult.NOT_MEASURED)


def test_goals_that_are_upper_bounds() -> None:
    entries = [
        entry("shokado", 40_000),
        entry("shokado-binary", 40_000),
        entry("shokado-1-worker", 20_000, megabytes=512),
        entry("engine-xgboost", 60_000),
        entry("engine-onnxruntime", 70_000),
    ]

    values = {goal.measure: goal for goal in judge(entries)}

    assert values["p99 by p50 at half of the top throughput"].result is GoalResult.REACHED
    assert values["1,000 float32 rows, the faster engine's rows/s alone by Shokado's"].value == 1.75
    assert values["memory, 2 versions, 1 worker, everything on, MB (PSS)"].result is GoalResult.NOT_REACHED


def test_without_shokado_every_goal_is_unmeasured() -> None:
    assert {goal.result for goal in judge([entry("mosec", 1), FAILED])} == {GoalResult.NOT_MEASURED}


def test_a_contender_that_failed_is_named_with_its_reason() -> None:
    text = render(run(SHOKADO, FAILED))

    assert "- Ray: not measured, was not ready within 120 s: no memory" in text
    assert "| Ray | - | - |" in text


def test_the_report_shows_ratios_and_the_machine() -> None:
    text = render(run(SHOKADO, entry("mosec", 10_000)))

    assert "A CPU, 2 cores, 8 GiB memory, Linux 6, Python 3.11.7" in text
    assert "| 100 | 0.250 |" in text
    assert "| Mosec | 5,000 | 1.00 | 3.00 | 50% | 3.0 |" in text


def test_the_engines_have_a_table_of_their_own_with_the_winner() -> None:
    slow = entry("engine-xgboost", 1)
    fast = entry("engine-onnxruntime", 1)
    assert fast.figures is not None
    halved = replace(fast.figures, many_rows=(replace(fast.figures.many_rows[0], p50_ms=0.5),))

    text = render(run(SHOKADO, slow, replace(fast, figures=halved)))

    assert "The faster one: 1,000 rows onnxruntime (2.0 times)." in text
    assert "| Engine-Onnxruntime | 500 µs |" in text


def test_notes_survive_the_next_run() -> None:
    first = render(run(SHOKADO))
    edited = first.replace("the soak's figure.", "the soak's figure: +0.4 %.")

    second = render(run(FAILED), edited)

    assert "the soak's figure: +0.4 %." in second
    assert second.count(NOTES_START) == second.count(NOTES_END) == 1
    assert render(run(FAILED), second) == second


def test_a_table_is_aligned_for_figures() -> None:
    assert table(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"


def test_a_hop_costs_what_it_adds_to_the_plain_server() -> None:
    remote = entry("shokado-remote", 30_000, 0.4)

    text = render(run(SHOKADO, remote, entry("mosec", 10_000)))

    assert "## What each hop costs" in text
    assert "| Shokado-Remote | 0.75 | +0.30 ms | - | +0.00 ms |" in text
    assert "| Mosec | 0.25" not in text
    assert "## What each hop costs" not in render(run(SHOKADO, entry("mosec", 10_000)))


def test_pipelines_have_a_table_of_their_own_with_ratios() -> None:
    theirs, ours = entry("pipeline-fastapi", 200), entry("pipeline-shokado", 30_000, 0.1)

    text = render(run(SHOKADO, theirs, replace(FAILED, name="pipeline-mlflow", title="MLflow"), ours))

    before, section = text.split("## A pipeline over texts and gaps")
    assert "Pipeline-" not in before
    assert (
        "| Pipeline-Fastapi | 20 | 1.00 | 3.00 | 200 | 10.00 | 30.00 | 20,000 | 1.00 | 0 | 0 | 100 | 150 |" in section
    )
    assert "- MLflow: not measured, was not ready" in section
    assert "a pipeline over texts, times FastAPI's | at least 100 | 150 | **reached** |" in section
    assert "## A pipeline over texts and gaps" not in render(run(SHOKADO))
