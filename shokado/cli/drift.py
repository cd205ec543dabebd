"""`shokado drift`: rows of the request log beside others, in a job of its own.

Exit status 0: no drift; 1: a column has drifted; 2: too few rows to say, wrong usage, or something is missing.
"""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from shokado.cli.image_options import BaseImage, BuildNetwork, Engine
from shokado.cli.log import reading
from shokado.cli.version_tables import show
from shokado.lifecycle.refusal import plain_errors

if TYPE_CHECKING:
    from shokado.lifecycle.detecting.drift_report import DriftReport

UNTOLD_STATUS = 2
_UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0}

app = typer.Typer(
    help="Compare what was asked and answered lately with other rows.", no_args_is_help=True, rich_markup_mode="rich"
)


@app.callback()
def drift() -> None:
    """Compare what was asked and answered lately with other rows."""


def duration(text: str) -> float:
    """Seconds of `90m`, `24h`, `7d`. Raises `typer.BadParameter`."""
    if not (match := re.fullmatch(r"(\d{1,6})([mhd])", text)) or not int(match[1]):
        raise typer.BadParameter(f"{text!r} is no time such as 90m, 24h or 7d")
    return int(match[1]) * _UNITS[match[2]]


@app.command()
def report(
    target: Annotated[Path, typer.Argument(help="A folder for report.html, report.json and verdict.json.")],
    version: Annotated[str, typer.Option("--version", help="The version whose rows are looked at.")],
    log: Annotated[str | None, typer.Option("--log", help="A folder, or an address, as of `shokado log list`.")] = None,
    since: Annotated[float, typer.Option(parser=duration, metavar="TIME", help="How far back is looked.")] = "24h",  # type: ignore[assignment]
    reference: Annotated[Path | None, typer.Option(help="CSV or Parquet file of rows to compare with.")] = None,
    against: Annotated[
        float | None,
        typer.Option(parser=duration, metavar="TIME", help="Compare with so much of the log before that, scores too."),
    ] = None,
    threshold: Annotated[float, typer.Option(min=0.001, max=100, help="The PSI beyond which a column drifted.")] = 0.1,
    error_rate: Annotated[float, typer.Option(min=1e-6, max=0.2, help="Chance at most of a false alarm.")] = 0.01,
) -> None:
    """Write an Evidently report of a version's logged rows, and leave with status 1 where a column has drifted.

    Status 2: there are too few rows to tell, or something is missing. Needs an environment of its own: make drift.

    Examples:

      shokado drift report drift --version v1 --reference training.parquet

      shokado drift report drift --version v1 --since 1h --against 7d --log s3://bucket/request-log
    """
    from shokado.lifecycle.detecting.evidently_report import check_installed

    if (reference is None) == (against is None):
        raise typer.BadParameter("say what to compare with: --reference FILE, or --against TIME")
    with reading(log, UNTOLD_STATUS) as where:
        check_installed()
        from shokado.lifecycle.detecting.drift_report import DriftOrder, make_report

        found = make_report(
            DriftOrder(version, since, reference, against, threshold, error_rate), where, time.time(), target
        )
    _show(found, target)
    if found.verdict != "none":
        raise typer.Exit(1 if found.verdict == "drift" else UNTOLD_STATUS)


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
    from shokado.lifecycle.packaging.drift_image import build_drift_image
    from shokado.lifecycle.packaging.imaging import find_engine

    with plain_errors():
        typer.echo(f"{build_drift_image(find_engine(engine), tag, base_image, network)}  built")


def _show(found: "DriftReport", target: Path) -> None:
    table = Table("column", "verdict", "PSI", "interval", box=None)
    for column in sorted(found.columns, key=lambda one: -(one.psi or 0)):
        between = "" if column.low is None else f"{column.low:.3f} to {column.high:.3f}"
        table.add_row(column.name, column.verdict, "" if column.psi is None else f"{column.psi:.3f}", between)
    show(table)
    if found.left_out:
        typer.echo(f"left out, as the log has no values of them: {', '.join(found.left_out)}")
    if found.of_another_import:
        typer.echo(f"left out: {found.of_another_import} rows that another import of {found.version} has answered")
    typer.echo(
        f"{found.version}: {found.verdict}, by {found.rows} rows beside {found.reference_rows} of {found.reference}"
    )
    typer.echo(f"next: {target / 'report.html'}")
    if found.verdict == "too few rows":
        typer.echo(
            "more rows would tell: --since with a longer time, or log.share in serving.yaml closer to 1", err=True
        )
