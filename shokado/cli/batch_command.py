"""`shokado batch`: score tables by versions of the model store, on Ray, in an environment of its own.

Exit status 0: done; 1: refused, or more rows were rejected than may be; 2: wrong usage.
"""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from shokado.cli.canary import KEY_VARIABLE, opened_gateway
from shokado.cli.image_options import BaseImage, BuildNetwork, Engine
from shokado.cli.version_tables import show
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.refusal import plain_errors

if TYPE_CHECKING:
    from shokado.client.answers import Split
    from shokado.lifecycle.batch.batch_run import BatchSummary

app = typer.Typer(help="Score tables of any size.", no_args_is_help=True, rich_markup_mode="rich")


@app.callback()
def batch() -> None:
    """Score tables of any size."""


@app.command()
def run(  # noqa: PLR0913, PLR0917  # each is an option
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="A CSV or Parquet file, or a folder of them; or an address, s3://..")
    ],
    output: Annotated[str, typer.Argument(help="A folder, or an address, that is empty or of the same batch.")],
    model: Annotated[str, typer.Option(help="Name of the model.")],
    version: Annotated[str | None, typer.Option(help="The version that scores all rows.")] = None,
    split: Annotated[bool, typer.Option("--split", help="Each row is scored as the traffic split says.")] = False,
    unit: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="With --split: the column of units, as X-Unit-ID has them.")
    ] = None,
    url: Annotated[str, typer.Option(help="With --split: the server that tells it.")] = "http://127.0.0.1:3000",
    environment: Annotated[
        str | None, typer.Option(help="With --split: whose it is; by default the server's default one.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help=f"With --split: a file with a key; by default what {KEY_VARIABLE} says.")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Carry a column over, as often as wanted.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="auto, onnxruntime or xgboost; auto takes the one that is faster here.")
    ] = "auto",
    cpus: Annotated[int | None, typer.Option(min=1, help="Processors of this machine; by default all.")] = None,
    address: Annotated[
        str | None, typer.Option(envvar="RAY_ADDRESS", help="A Ray cluster; by default Ray is started here.")
    ] = None,
    block_rows: Annotated[
        int | None, typer.Option(min=1, max=10_000_000, help="Rows of a part, about; by default 100,000.")
    ] = None,
    max_text_characters: Annotated[int, typer.Option(min=1, help="Length of a text, as a server limits it.")] = 100_000,
    max_rejected: Annotated[
        float, typer.Option(min=0, max=1, help="Share of rows without a score from which on the status is 1.")
    ] = 1.0,
    split_file: Annotated[Path | None, typer.Option(help="What a server tells of its split.", hidden=True)] = None,
    report: Annotated[Path | None, typer.Option(help="A file that tells progress as JSON.", hidden=True)] = None,
) -> None:
    """Score each row of a table, or of many, with the numbers that a server answers.

    Writes part-*.parquet with the version and scores of each row, and _rejected/part-*.parquet with the rows that have
    none, and why. After any end, the same command goes on where it was. Needs an environment of its own: make batch.

    Examples:

      shokado batch run customers.csv scored --model customers --version v2

      shokado batch run s3://bucket/rows s3://bucket/scored --model customers --version v2 --keep id --address auto

      shokado batch run rows.parquet scored --model customers --split --unit customer_id --url http://127.0.0.1:3000
    """
    if split == (version is not None):
        raise typer.BadParameter("say which version scores: --version V, or --split")
    if not split and (unit is not None or environment is not None or key_file is not None):
        raise typer.BadParameter("--unit, --environment and --key-file go with --split")
    if address is not None and cpus is not None:
        raise typer.BadParameter("--cpus is for this machine; a cluster at --address has the processors that it has")
    with plain_errors():
        from configuration.settings import EngineChoice

        if engine not in {choice.value for choice in EngineChoice}:
            raise typer.BadParameter(f"--engine is one of {', '.join(choice.value for choice in EngineChoice)}")
        from shokado.lifecycle.batch.ray_blocks import check_installed

        check_installed()
        from shokado.lifecycle.batch.batch_run import RunOptions, run_batch
        from shokado.lifecycle.batch.planning import BatchOrder

        def order(is_planned: bool) -> BatchOrder:
            found = None
            if split and not is_planned:
                found = _split_in(split_file) if split_file else _split_at(url, environment, key_file)
            kept, choice = tuple(keep or ()), EngineChoice(engine)
            return BatchOrder(model, version, found, unit, kept, choice, block_rows, max_text_characters)

        began = time.monotonic()
        try:
            summary = run_batch(order, source, output, RunOptions(address, cpus, report))
        except KeyboardInterrupt:
            raise LifecycleError("Ended by Ctrl-C; what is scored stays, and the same command goes on.") from None
        _show(summary, output, time.monotonic() - began)
        rejected = sum(summary.rejected.values())
        if rejected > max_rejected * summary.rows:
            raise LifecycleError(
                f"{rejected:,} of {summary.rows:,} rows have no score, and --max-rejected is {max_rejected:g}."
            )


@app.command()
def image(
    model: Annotated[str, typer.Option(help="The model whose versions the image holds.")],
    engine: Engine = None,
    base_image: BaseImage = None,
    tag: Annotated[
        str | None,
        typer.Option("--tag", "-t", envvar="TAG", help="By default shokado-batch:<version of this project>."),
    ] = None,
    network: BuildNetwork = None,
) -> None:
    """Build the image of batches, such as that of k8s/components/batch: Ray, these commands and a model's versions.

    This host's ways to packages serve the build and stay out of the image.

    Examples:

      shokado batch image --model customers --tag registry.example/shokado-batch:1.4.0
    """
    from shokado.lifecycle.packaging.batch_image import build_batch_image
    from shokado.lifecycle.packaging.imaging import find_engine

    with plain_errors():
        typer.echo(f"{build_batch_image(model, find_engine(engine), tag, base_image, network)}  built")


def _split_at(url: str, environment: str | None, key_file: Path | None) -> "Split":
    with opened_gateway(url, environment, key_file, "batch") as gateway:
        return gateway.split()


def _split_in(file: Path) -> "Split":
    from shokado.client.answers import Split
    from shokado.client.decoding import decode

    return decode(Split, json.loads(file.read_bytes()))


def _show(summary: "BatchSummary", output: str, seconds: float) -> None:
    table = Table("", "rows", box=None)
    for version, rows in sorted(summary.scored.items()):
        table.add_row(f"scored by {version}", f"{rows:,}")
    for code, rows in sorted(summary.rejected.items()):
        table.add_row(f"rejected: {code}", f"{rows:,}")
    show(table)
    typer.echo(f"{summary.rows:,} rows in {seconds:.1f} s: {output}/part-*.parquet")
    if summary.rejected:
        typer.echo(f"why some have no score: {output}/_rejected")
