"""RESULTS.md: machine, settings, tables, goals, and the notes that people wrote by hand. Pure: values in, text out."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from load_tests.bench.engines import PREFIX
from load_tests.bench.goals import judge
from load_tests.bench.hardware import Hardware
from load_tests.bench.lineup import HOPS, SHOKADO
from load_tests.bench.load import LoadResult
from load_tests.bench.measure import Plan
from load_tests.bench.measurements import ReportRow
from load_tests.bench.pipeline_lineup import PIPELINE_SHOKADO, PIPELINES

NOTES_START, NOTES_END = "<!-- notes -->", "<!-- /notes -->"
ABSENT = "-"


@dataclass(frozen=True)
class BenchRun:
    """Everything one run of the benchmark knows."""

    machine: Hardware
    date: str
    command: str
    load_tool: str
    plan: Plan
    entries: tuple[ReportRow, ...]


def render(run: BenchRun, earlier: str = "") -> str:
    """The whole file. `earlier` is its last content, whose notes stay."""
    parts = [
        _head(run),
        _one_row(run),
        _hops(run),
        _many_rows(run),
        _paced(run),
        _engines(run),
        _pipelines(run),
        _goals(run),
        _settings(run),
    ]
    return "\n\n".join([*(part for part in parts if part), _notes(earlier)]) + "\n"


def one_row_cells(entries: Sequence[ReportRow], connections: Sequence[int]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the main table; the terminal and the file show the same one."""
    header = ["contender"]
    for count in connections:
        header += [f"req/s, {count}c", f"p50 ms, {count}c", f"p99 ms, {count}c"]
    header += ["non-2xx", "broken", "PSS MB", f"of Shokado, {connections[-1]}c"]
    ours = _throughput(entries, SHOKADO, connections[-1])
    served = [entry for entry in entries if not _is_engine(entry) and not _is_pipeline(entry)]
    return header, [_one_row_cells(entry, connections, ours) for entry in served]


def pipeline_cells(entries: Sequence[ReportRow]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the pipeline's table; no rows where nobody served it."""
    header = ["contender"]
    for step in ("1c", "64c"):
        header += [f"req/s, {step}", f"p50 ms, {step}", f"p99 ms, {step}"]
    header += ["rows/s, 1,000 rows", "p50 ms, 1,000 rows", "non-2xx", "broken", "PSS MB"]
    header += ["ratio, 1c", "ratio, 64c", "ratio, 1,000 rows"]
    pipelines = [entry for entry in entries if _is_pipeline(entry)]
    ours = next((entry for entry in pipelines if entry.name == PIPELINE_SHOKADO), None)
    return header, [_pipeline_cells(entry, ours, len(header)) for entry in pipelines]


def _pipeline_cells(entry: ReportRow, ours: ReportRow | None, width: int) -> list[str]:
    if entry.figures is None:
        return [entry.title, *[ABSENT] * (width - 1)]
    loads = _pipeline_loads(entry)
    many = loads[-1]
    cells = [entry.title, *(cell for load in loads[:-1] for cell in _speed(load))]
    cells += [_count(many.rows_per_second), f"{many.p50_ms:.2f}"] if many else [ABSENT] * 2
    cells.append(_count(sum(load.refused for load in loads if load)))
    cells.append(_count(sum(load.broken for load in loads if load)))
    cells.append(ABSENT if entry.figures.pss_megabytes is None else f"{entry.figures.pss_megabytes:,.0f}")
    plain = _pipeline_loads(ours) if ours else (None,) * len(loads)
    return cells + [_times(own, load) for own, load in zip(plain, loads, strict=True)]


def _pipeline_loads(entry: ReportRow) -> tuple[LoadResult | None, ...]:
    figures = entry.figures
    return (figures.at(1), figures.at(64), figures.rows(1_000)) if figures else (None,) * 3


def _times(ours: LoadResult | None, theirs: LoadResult | None) -> str:
    if ours is None or theirs is None or not theirs.requests_per_second:
        return ABSENT
    return f"{ours.requests_per_second / theirs.requests_per_second:.3g}"


def _one_row_cells(entry: ReportRow, connections: Sequence[int], ours: float) -> list[str]:
    figures = entry.figures
    if figures is None:
        return [entry.title, *[ABSENT] * (3 * len(connections) + 4)]
    loads = [figures.at(count) for count in connections]
    cells = [entry.title]
    for load in loads:
        cells += _speed(load)
    cells.append(_count(sum(load.refused for load in loads if load)))
    cells.append(_count(sum(load.broken for load in loads if load)))
    cells.append(ABSENT if figures.pss_megabytes is None else f"{figures.pss_megabytes:,.0f}")
    last = loads[-1]
    cells.append(f"{last.requests_per_second / ours:.3f}" if last and ours else ABSENT)
    return cells


def _speed(load: LoadResult | None) -> list[str]:
    if load is None:
        return [ABSENT] * 3
    return [_count(load.requests_per_second), f"{load.p50_ms:.2f}", f"{load.p99_ms:.2f}"]


def _throughput(entries: Iterable[ReportRow], name: str, connections: int) -> float:
    figures = next((entry.figures for entry in entries if entry.name == name), None)
    load = figures.at(connections) if figures else None
    return load.requests_per_second if load else 0.0


def _is_engine(entry: ReportRow) -> bool:
    return entry.name.startswith(PREFIX)


def _is_pipeline(entry: ReportRow) -> bool:
    return entry.name in {contender.name for contender in PIPELINES}


def _rows_of(count: int) -> str:
    return f"{count:,} {'row' if count == 1 else 'rows'}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, first column to the left, figures to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _head(run: BenchRun) -> str:
    return (
        "# Side by side\n\n"
        f"Written by `{run.command}` on {run.date}; everything outside the notes at the end is generated.\n\n"
        f"- Machine: {run.machine}. Load and server share the cores.\n"
        f"- Load: {run.load_tool}, one thread, keep-alive, {run.plan.seconds:g} s a step, "
        f"contenders in turns (turns: {run.plan.turns}), medians over the turns. "
        "wrk corrects its percentiles for coordinated omission.\n"
        "- Same model file, same rows. Before it is timed, a contender answers 50 rows one by one, "
        "each within 1e-4 of XGBoost's own predict.\n"
        "- req/s counts accepted requests only. non-2xx (statuses of 400 and above; none redirects) and broken "
        "connections are sums over all turns.\n"
        "- Memory is PSS (proportional set size) of the whole process tree after the last step, in units of 2^20 bytes."
    )


def _one_row(run: BenchRun) -> str:
    header, rows = one_row_cells(run.entries, run.plan.connections)
    if not rows:
        return ""
    failed = _failed(entry for entry in run.entries if not _is_pipeline(entry))
    return "## One row per request\n\n" + table(header, rows) + failed


def _failed(entries: Iterable[ReportRow]) -> str:
    failed = [f"- {entry.title}: not measured, {entry.failure}" for entry in entries if entry.failure]
    return "\n\n" + "\n".join(failed) if failed else ""


def _pipelines(run: BenchRun) -> str:
    header, rows = pipeline_cells(run.entries)
    if not rows:
        return ""
    text = (
        "## A pipeline over texts and gaps\n\n"
        "Another model: scikit-learn's `ColumnTransformer` of three columns of texts (imputed, one-hot) and two of "
        "numbers (with gaps, imputed, scaled) before `LogisticRegression`. A contender first answers "
        "50 rows within 1e-4 of scikit-learn's own `predict_proba`. One row over 1 and 64 connections, and 1,000 "
        "rows over one; a ratio is Shokado's requests/s by the contender's.\n\n"
    )
    return text + table(header, rows) + _failed(entry for entry in run.entries if _is_pipeline(entry))


def _hops(run: BenchRun) -> str:
    """How the ways to deploy Shokado differ from the plain one."""
    connections = run.plan.connections
    figures = {entry.name: entry.figures for entry in run.entries if entry.figures}
    plain = figures.get(SHOKADO)
    names = {"shokado-service", *(contender.name for contender in HOPS)}
    found = [entry for entry in run.entries if entry.name in names and entry.name in figures]
    if plain is None or not found:
        return ""
    rows = []
    for entry in found:
        hop = figures[entry.name]
        cells = [_ratio(hop.at(connections[-1]), plain.at(connections[-1])), _more(hop.at(1), plain.at(1))]
        rows.append([entry.title, *cells, *(_more(hop.rows(count), plain.rows(count)) for count in (100, 1_000))])
    header = ["", f"req/s, {connections[-1]}c, of Shokado's", "1 row, 1c", "100 rows", "1,000 rows"]
    text = "Throughput as a part of Shokado's own, and how much longer the median answer takes."
    return f"## What each hop costs\n\n{text}\n\n{table(header, rows)}"


def _ratio(load: LoadResult | None, plain: LoadResult | None) -> str:
    if load is None or plain is None or not plain.requests_per_second:
        return ABSENT
    return f"{load.requests_per_second / plain.requests_per_second:.2f}"


def _more(load: LoadResult | None, plain: LoadResult | None) -> str:
    return f"{load.p50_ms - plain.p50_ms:+.2f} ms" if load and plain else ABSENT


def _rows_table(run: BenchRun, entries: Iterable[ReportRow], cell: Callable[[LoadResult], str]) -> str:
    header = ["", *(_rows_of(count) for count in run.plan.row_counts)]
    rows = []
    for entry in entries:
        if entry.figures and entry.figures.many_rows and not _is_pipeline(entry):
            loads = [entry.figures.rows(count) for count in run.plan.row_counts]
            rows.append([entry.title, *(cell(load) if load else ABSENT for load in loads)])
    return table(header, rows) if rows else ""


def _many_rows(run: BenchRun) -> str:
    body = _rows_table(run, run.entries, lambda load: _count(load.rows_per_second) if load.rows_per_second else "none")
    if not body:
        return ""
    return "## Many rows per request\n\nRows/s over one connection, so each figure is rows ÷ latency.\n\n" + body


def _paced(run: BenchRun) -> str:
    rows = []
    for entry in run.entries:
        paced = entry.figures.paced if entry.figures else None
        top = _throughput(run.entries, entry.name, run.plan.connections[-1])
        if paced and top and not _is_pipeline(entry):
            share = f"{paced.requests_per_second / top:.0%}"
            rows.append([entry.title, *_speed(paced), share, f"{paced.p99_ms / paced.p50_ms:.1f}"])
    if not rows:
        return ""
    text = (
        "## At half of the top throughput\n\n"
        f"{run.plan.connections[-1]} connections rest in between for exponentially distributed times (wrk's `delay`), "
        "so that about half of each contender's own top throughput arrives.\n\n"
    )
    return text + table(["contender", "req/s", "p50 ms", "p99 ms", "of its top", "p99 ÷ p50"], rows)


def _engines(run: BenchRun) -> str:
    engines = [entry for entry in run.entries if _is_engine(entry)]
    body = _rows_table(run, engines, lambda load: _latency(load.p50_ms))
    if not body:
        return ""
    text = "## The engines alone\n\nMedian time of one call, in process, one thread."
    return "\n\n".join(part for part in (text, body, _winners(run, engines)) if part)


def _latency(milliseconds: float) -> str:
    return f"{milliseconds:.2f} ms" if milliseconds >= 1 else f"{milliseconds * 1e3:.0f} µs"


def _winners(run: BenchRun, engines: Sequence[ReportRow]) -> str:
    """Which of the two engines is the faster one at each size; `auto` should follow it."""
    wins = []
    for count in run.plan.row_counts:
        times = {
            entry.name.removeprefix(PREFIX): load.p50_ms
            for entry in engines
            if entry.figures and entry.name != f"{PREFIX}auto" and (load := entry.figures.rows(count))
        }
        if len(times) == 2:
            fast, slow = sorted(times, key=times.__getitem__)
            wins.append(f"{_rows_of(count)} {fast} ({times[slow] / times[fast]:.1f} times)")
    return f"The faster one: {', '.join(wins)}. `engine: auto` takes each where it wins." if wins else ""


def _goals(run: BenchRun) -> str:
    rows = [
        [goal.measure, goal.wanted, ABSENT if goal.value is None else f"{goal.value:.3g}", f"**{goal.result}**"]
        for goal in judge(run.entries)
    ]
    return "## Goals\n\n" + table(["measure", "goal", "this run", "verdict"], rows)


def _settings(run: BenchRun) -> str:
    lines = []
    for entry in run.entries:
        versions = ", ".join(f"{name} {version}" for name, version in entry.versions.items())
        lines.append(f"- {entry.title}{f' ({versions})' if versions else ''}: {entry.settings}")
    return "## Settings and versions\n\n" + "\n".join(lines)


def _notes(earlier: str) -> str:
    """The hand-written part of the last file, or an empty one."""
    _, started, rest = earlier.partition(NOTES_START)
    notes, ended, _ = rest.partition(NOTES_END)
    kept = notes if started and ended else "\n## Notes\n\nWhere the time goes, and the soak's figure.\n\n"
    return f"{NOTES_START}{kept}{NOTES_END}"
