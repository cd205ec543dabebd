"""`shokado drift`: rows of the request log beside others, in a job of its own.

Exit status 0: no version has drifted; 1: one has; 2: none has, but of one it cannot be told, or the usage is wrong, or
something is missing.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from shokado.cli.image_options import BaseImage, BuildNetwork, Engine
from shokado.cli.log import reading
from shokado.cli.log_window import duration
from shokado.cli.version_tables import show
from shokado.lifecycle.refusal import plain_errors

if TYPE_CHECKING:
    from shokado.lifecycle.detecting.drift_report import DriftReport
    from shokado.lifecycle.detecting.drift_summary import DriftSummary, UntoldVersion

UNTOLD_STATUS = 2

app = typer.Typer(
    help="Compare what was asked and answered lately with other rows.", no_args_is_help=True, rich_markup_mode="rich"
)


@app.callback()
def drift() -> None:
    """Compare what was asked and answered lately with other rows."""


@app.command()
def report(
    target: Annotated[Path, typer.Argument(help="A folder for summary.json, and for a folder of each version.")],
    version: Annotated[
        list[str] | None,
        typer.Option("--version", help="A version whose rows are looked at, as often as wanted; by default all there."),
    ] = None,
    log: Annotated[str | None, typer.Option("--log", help="A folder, or an address, as of `shokado log list`.")] = None,
    since: Annotated[float, typer.Option(parser=duration, metavar="TIME", help="How far back is looked.")] = "24h",  # type: ignore[assignment]
    reference: Annotated[Path | None, typer.Option(help="CSV or Parquet file of rows to compare with.")] = None,
    against: Annotated[
        float | None,
        typer.Option(parser=duration, metavar="TIME", help="Compare with so much of the log before that, scores too."),
    ] = None,
    threshold: Annotated[float, typer.Option(min=0.001, max=100, help="The PSI beyond which a column drifted.")] = 0.1,
    error_rate: Annotated[
        float, typer.Option(min=1e-6, max=0.2, help="Chance at most of a false alarm, of each version.")
    ] = 0.01,
) -> None:
    """Write an Evidently report of each version's logged rows, and leave with status 1 where a version has drifted.

    Status 2: there are too few rows of a version to tell, or something is missing. Needs an environment of its own:
    make drift.

    Examples:

      shokado drift report drift --version v1 --reference training.parquet

      shokado drift report drift --since 1h --against 7d --log s3://bucket/request-log
    """
    from shokado.lifecycle.detecting.evidently_report import check_installed

    if (reference is None) == (against is None):
        raise typer.BadParameter("say what to compare with: --reference FILE, or --against TIME")
    with reading(log, UNTOLD_STATUS) as where:
        check_installed()
        from shokado.lifecycle.detecting.drift_report import DriftOrder
        from shokado.lifecycle.detecting.drift_summary import make_reports

        order = DriftOrder(tuple(version or ()), since, reference, against, threshold, error_rate)
        summary, found = make_reports(order, where, time.time(), target)
    _show(summary, found, target)
    if summary.drifted or summary.untold:
        raise typer.Exit(1 if summary.drifted else UNTOLD_STATUS)


@app.command()
def image(
    engine: Engine = None,
    base_image: BaseImage = None,
    tag: Annotated[
        str | None,
        typer.Option("--tag", "-t", envvar="TAG", help="By default shokado-drift:<version of this project>."),
    ] = None,
    network: BuildNetwork = None,
) -> None:
    """Build the image of a job that reports drift, such as the one of k8s/components/drift.

    This host's ways to packages serve the build and stay out of the image.

    Examples:

      shokado drift image --tag registry.example/shokado-drift:1.4.0
    """
    from shokado.lifecycle.packaging.drift_image import DRIFT_IMAGE
    from shokado.lifecycle.packaging.imaging import find_engine

    with plain_errors():
        typer.echo(f"{DRIFT_IMAGE.build(find_engine(engine), tag, base_image, network)}  built")


def _show(summary: "DriftSummary", found: Sequence["DriftReport | UntoldVersion"], target: Path) -> None:
    from shokado.lifecycle.detecting.drift_report import DriftReport

    for one in found:
        if isinstance(one, DriftReport):
            _show_report(one, target)
        else:
            typer.echo(f"{one.version}: not compared. {one.error}", err=True)
            if one.error.next_command:
                typer.echo(f"  next: {one.error.next_command}", err=True)
    # Last, as the last words of a job are what its pod's status has.
    if summary.untold:
        typer.echo(f"cannot be told: {', '.join(summary.untold)}", err=True)
    if summary.drifted:
        typer.echo(f"drift: {', '.join(summary.drifted)}", err=True)


def _show_report(found: "DriftReport", target: Path) -> None:
    table = Table("column", "verdict", "PSI", "interval", box=None)
    for column in sorted(found.columns, key=lambda one: -(one.psi or 0)):
        between = "" if column.low is None else f"{column.low:.3f} to {column.high:.3f}"
        table.add_row(column.name, column.verdict, "" if column.psi is None else f"{column.psi:.3f}", between)
    show(table)
    if found.left_out:
        typer.echo(f"left out, as the log has no values of them: {', '.join(found.left_out)}")
    if found.of_another_import:
        typer.echo(f"left out: {found.of_another_import} rows that another import of {found.version} has answered")
    of = f" of {', '.join(found.drifted)}" if found.drifted else ""
    typer.echo(
        f"{found.version}: {found.verdict}{of}, by {found.rows} rows beside {found.reference_rows} of {found.reference}"
    )
    typer.echo(f"  next: {target / found.version / 'report.html'}")
    if found.verdict == "too few rows":
        typer.echo(
            "  more rows would tell: --since with a longer time, or log.share in serving.yaml closer to 1", err=True
        )
