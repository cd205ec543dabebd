"""`shokado replay`: put logged requests to another version, and compare.

Exit status 0: within all limits; 1: a limit is exceeded; 2: wrong usage, or something is missing; 3: too few rows.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from shokado.cli.canary import INCONCLUSIVE_STATUS, KEY_VARIABLE, key_of
from shokado.cli.log import reading
from shokado.cli.log_window import Since, Until
from shokado.cli.version_tables import show
from shokado.lifecycle.errors import LifecycleError

if TYPE_CHECKING:
    from shokado.experiments.clustered_intervals import Estimate
    from shokado.lifecycle.replaying.candidate import Candidate
    from shokado.lifecycle.replaying.replay_report import ReplayReport

REFUSED_STATUS = 2
"""1 says that the candidate is not good enough, which is not known where something is missing."""
DEFAULT_RATE = 50.0
DEFAULT_CONCURRENCY = 8
"""What a server that serves others as well can bear beside them."""


def replay(  # noqa: PLR0913  # its arguments are options
    target: Annotated[Path, typer.Argument(help="A folder for report.html and report.json.")] = Path("replay"),
    *,
    against: Annotated[
        str, typer.Option(help="The candidate: a version in the store (v3, NAME:v3); with --url a server's.")
    ],
    log: Annotated[str | None, typer.Option(help="A folder, or an address, as of `shokado log list`.")] = None,
    url: Annotated[str | None, typer.Option(help="A server that has the candidate; else it is scored here.")] = None,
    key_file: Annotated[
        Path | None, typer.Option(help=f"A file with a key of that server; by default what {KEY_VARIABLE} says.")
    ] = None,
    since: Since = None,
    until: Until = None,
    version: Annotated[str | None, typer.Option(help="Only what this version has answered.")] = None,
    by: Annotated[
        list[str] | None, typer.Option(metavar="FEATURE", help="Tell rows apart by it; several times.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Rows; of a log with more, about so many are drawn.")] = 20_000,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second, at most.")] = DEFAULT_RATE,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests at a time.")] = DEFAULT_CONCURRENCY,
    max_difference: Annotated[float | None, typer.Option(min=0, help="Mean absolute difference of scores.")] = None,
    max_disagreement: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of rows with another label.")
    ] = None,
    max_errors: Annotated[float | None, typer.Option(min=0, max=1, help="Share of requests that fail.")] = None,
    max_accuracy_loss: Annotated[
        float | None, typer.Option(min=0, max=1, help="Accuracy that is lost, by the labels that came.")
    ] = None,
    max_p95_ms: Annotated[float | None, typer.Option(min=0, help="95th percentile of the latency, with --url.")] = None,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999999, help="Of each interval.")] = 0.95,
) -> None:
    """Put logged requests to another version, and compare its scores, labels and latency with what was answered.

    Without --url the version is scored here, out of the model store. A limit is kept where the whole interval is.
    Status 1: a limit is exceeded; 3: too few rows to tell; 2: wrong usage, or nothing could be replayed.

    Examples:

      shokado replay --against v3

      shokado replay day --log s3://bucket/request-log --since 24h --against v3 --by region --max-disagreement 0.02

      shokado replay --against v3 --url https://staging.example.com --key-file key --rate 20 --max-p95-ms 20
    """
    from shokado.lifecycle.rollout.verdict import Verdict

    if url is None and (key_file is not None or max_p95_ms is not None):
        raise typer.BadParameter("--key-file and --max-p95-ms go with --url: without a server there is no latency.")
    with reading(log, REFUSED_STATUS) as where:
        from shokado.lifecycle.replaying.replay_order import ReplayLimits, ReplayOrder
        from shokado.lifecycle.replaying.replay_page import check_installed
        from shokado.lifecycle.replaying.replay_run import replay_log

        check_installed()
        now = time.time()
        limits = ReplayLimits(max_difference, max_disagreement, max_errors, max_accuracy_loss, max_p95_ms)
        begin, end = (0.0 if since is None else now - since), now - (until or 0.0)
        order = ReplayOrder(begin, end, version, tuple(by or ()), most, 1 - confidence, limits)

        def find(models: Sequence[str]) -> "Candidate":
            if url is None:
                from shokado.lifecycle.replaying.stored_candidate import StoredCandidate, find_artefact_of

                return StoredCandidate(find_artefact_of(against, models))
            from shokado.lifecycle.replaying.served_candidate import ServedCandidate

            return ServedCandidate(url, against, key_of(key_file), rate, concurrency)

        try:
            report = replay_log(order, where, find, target)
        except KeyboardInterrupt:
            raise LifecycleError("Ended by Ctrl-C; no report was written.", "shokado replay .. --most 1000") from None
    _show(report, target)
    match report.verdict:
        case Verdict.FAIL:
            raise typer.Exit(1)
        case Verdict.INCONCLUSIVE:
            typer.echo("more rows would tell: --most, --since with a longer time, or --confidence", err=True)
            raise typer.Exit(INCONCLUSIVE_STATUS)


def _show(report: "ReplayReport", target: Path) -> None:
    for table in report.tables:
        shown = Table(table.by, "rows", "difference", "disagree", report.quality_name, "failed", box=None)
        groups = table.groups if len(table.groups) == 1 else [*table.groups, report.overall]
        for group in groups:
            quality = group.quality.difference if group.quality else None
            shown.add_row(
                escape(group.group),
                f"{group.rows:,}",
                _spelt(group.difference, "{:.4g}"),
                _spelt(group.disagreement, "{:.2%}"),
                _spelt(quality, "{:+.4g}"),
                f"{group.failed:,}",
            )
        show(shown)
    for one in report.left_out:
        setting = f" ({one.setting})" if one.setting else ""
        typer.echo(f"left out: {one.rows:,} rows of {one.requests:,} requests: {one.reason}{setting}")
    for failure in report.failed:
        typer.echo(f"failed: {failure.requests:,} requests with {failure.code}, such as: {failure.message}")
    for note in report.notes:
        typer.echo(f"note: {note}")
    if report.verdict is not None:
        typer.echo(f"{report.candidate}: {report.verdict}")
    for finding in report.findings:
        typer.echo(f"  {finding.verdict:<12}  {finding.text}")
    typer.echo(f"next: {target / 'report.html'}")


def _spelt(found: "Estimate | None", form: str) -> str:
    from shokado.lifecycle.replaying.replay_verdict import spelt_bounds

    return "" if found is None else f"{form.format(found.value)} ({spelt_bounds(found, form)})"
