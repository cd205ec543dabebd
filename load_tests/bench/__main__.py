"""`python -m load_tests.bench`: run the contenders in turns, print the table, write RESULTS.md."""

import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache
from importlib.metadata import version
from pathlib import Path
from textwrap import fill, indent
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from load_tests.bench import engines, environment, load, report
from load_tests.bench.check import WrongScores
from load_tests.bench.contender import Contender
from load_tests.bench.contender_process import ServerError
from load_tests.bench.hardware import this_machine
from load_tests.bench.launch import ROOT
from load_tests.bench.lineup import LINEUP, QUICK, SHOKADOS, contender_named
from load_tests.bench.measure import WORK, Plan, take_turn
from load_tests.bench.measurements import Measurements, ReportRow, fold
from load_tests.bench.pipeline_lineup import PIPELINE_SHOKADO, PIPELINES
from load_tests.bench.pipeline_model import NotPrepared, PipelineModel
from load_tests.bench.reference_model import ModelMissing, ReferenceModel, find_model

RESULTS = Path(__file__).with_name("RESULTS.md")
PARTIAL_RESULTS = WORK / "RESULTS.md"
NAMES = (*(contender.name for contender in LINEUP), *engines.TITLES)
FAILURES = (
    ServerError,
    WrongScores,
    load.LoadError,
    environment.BuildError,
    NotPrepared,
    OSError,
    ValueError,
    subprocess.SubprocessError,
)
HELP = f"""Serve one model with Shokado and with its alternatives, in turns, and compare speed, latency and memory.

\b
Examples:
  python -m load_tests.bench           everything, three turns: about an hour
  python -m load_tests.bench --quick   Shokado and FastAPI, one short turn
  python -m load_tests.bench --only pipeline-fastapi --only pipeline-shokado
  python -m load_tests.bench --turns 1 --seconds 2 --only shokado --only mosec

\b
Contenders:
{indent(fill(", ".join(NAMES), 74, break_on_hyphens=False), "  ")}
"""

TABLE_WIDTH = 132
"""Columns that the table needs; a narrower terminal scrolls or wraps it."""

console = Console(highlight=False, width=max(Console().width, TABLE_WIDTH))
app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(help=HELP)
def main(
    turns: Annotated[int, typer.Option(min=1, max=20, help="How often each contender runs; medians are shown.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, max=120, help="Length of a step, whole seconds.")] = 10,
    only: Annotated[list[str] | None, typer.Option(help="Run this contender; repeat for more.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One turn of 2 s steps, of Shokado and FastAPI.")] = False,
    model_dir: Annotated[Path | None, typer.Option(help="Folder with model.ubj and model.onnx.")] = None,
    output: Annotated[Path | None, typer.Option(help="File to write; a part of the line-up goes to var/bench.")] = None,
) -> None:
    """Run the contenders in turns and write what they did. Exit code 1 when Shokado itself could not be measured."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    names = list(QUICK) if quick and not only else only or list(NAMES)
    plan = Plan(turns=1, seconds=2, row_counts=(1, 1_000), paced=False) if quick else Plan(turns, seconds)
    with _plain_errors():
        _known(names)
        load.require_wrk()
        model = find_model(model_dir)
        entries = _run(names, model, plan)
    run = report.BenchRun(
        this_machine(), f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", _command(), load.wrk_version(), plan, entries
    )
    target = output or (RESULTS if set(names) == set(NAMES) and not quick else PARTIAL_RESULTS)
    earlier = target.read_text() if target.is_file() else ""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(report.render(run, earlier))
    _show(entries, plan.connections)
    console.print(f"Written: {target}", soft_wrap=True)
    ours = {PIPELINE_SHOKADO, *(contender.name for contender in SHOKADOS)}
    if any(entry.failure and entry.name in ours for entry in entries):
        raise typer.Exit(1)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Both signals, and a Ctrl-C that a background shell ignores, end the benchmark through every `finally`."""
    raise KeyboardInterrupt


@contextmanager
def _plain_errors() -> Iterator[None]:
    """What the user can mend is one sentence and exit code 2, not a traceback."""
    try:
        yield
    except (load.LoadError, ModelMissing, LookupError) as error:
        typer.echo(str(error.args[0]), err=True)
        raise typer.Exit(2) from error


def _known(names: Sequence[str]) -> None:
    for name in names:
        if name not in NAMES:
            near = get_close_matches(name, NAMES, n=1)
            raise LookupError(f"There is no contender {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""))


def _command() -> str:
    return shlex.join(["python", "-m", "load_tests.bench", *sys.argv[1:]])


def _run(names: Sequence[str], model: ReferenceModel, plan: Plan) -> tuple[ReportRow, ...]:
    """All turns: A B C A B C. A contender that failed once is out, with its reason."""
    turns: dict[str, list[Measurements]] = {name: [] for name in names}
    failures: dict[str, str] = {}
    for turn in range(plan.turns):
        for name in names:
            if name in failures:
                continue
            console.print(f"turn {turn + 1}/{plan.turns}  {name} ..", end=" ")
            try:
                turns[name].append(_take(name, model, plan))
            except FAILURES as error:
                failures[name] = _without_paths(str(error))
            console.print(failures.get(name) or _summary(turns[name][-1]), soft_wrap=True, markup=False)
    return tuple(_entry(name, turns[name], failures.get(name)) for name in NAMES if name in turns)


def _without_paths(reason: str) -> str:
    """The report is committed: it names no folder of the machine that wrote it."""
    return reason.replace(str(ROOT), ".").replace(str(Path.home()), "~")


def _take(name: str, model: ReferenceModel, plan: Plan) -> Measurements:
    if name in engines.TITLES:
        return engines.time_engine(engines.open_engine(name, model), plan.row_counts, plan.short_seconds)
    contender = contender_named(name)
    if contender in PIPELINES:
        return take_turn(contender, _pipeline(), plan.of_pipelines)
    return take_turn(contender, model, plan)


@cache
def _pipeline() -> PipelineModel:
    """The pipeline, trained and imported by the first contender that serves it."""
    model = PipelineModel(WORK / "pipeline")
    model.prepare()
    return model


def _summary(figures: Measurements) -> str:
    if figures.one_row:
        return ", ".join(f"{step.connections}c {step.requests_per_second:,.0f}/s" for step in figures.one_row)
    return ", ".join(f"{step.rows} rows {step.requests_per_second:,.0f}/s" for step in figures.many_rows)


def _entry(name: str, turns: list[Measurements], failure: str | None) -> ReportRow:
    figures = fold(turns) if turns and not failure else None
    if name in engines.TITLES:
        packages = {"engine-xgboost": ("xgboost-cpu",), "engine-onnxruntime": ("onnxruntime",)}.get(name, ())
        versions = {package: version(package) for package in packages}
        return ReportRow(name, engines.TITLES[name], engines.SETTINGS[name], versions, figures, failure)
    contender = contender_named(name)
    return ReportRow(name, contender.title, contender.settings, _versions(contender), figures, failure)


def _versions(contender: Contender) -> dict[str, str]:
    if contender.requirements is None:
        return {package: version(package) for package in contender.packages}
    pinned = environment.pins(contender.requirements)
    return {package: pinned[package] for package in contender.packages}


def _show(entries: Sequence[ReportRow], connections: Sequence[int]) -> None:
    """The main tables, with names for titles so that they fit."""
    named = [replace(entry, title=entry.name) for entry in entries]
    for title, (header, rows) in {
        "One row per request": report.one_row_cells(named, connections),
        "A pipeline over texts and gaps": report.pipeline_cells(named),
    }.items():
        if not rows:
            continue
        shown = Table(title=title, box=None)
        for index, column in enumerate(header):
            shown.add_column(column.replace(", ", "\n"), justify="right" if index else "left", no_wrap=True)
        for row in rows:
            shown.add_row(*row)
        console.print(shown)


if __name__ == "__main__":
    app()
