"""`shokado models verify`: does an artefact still score as its framework does?"""

from pathlib import Path
from typing import Annotated

import typer

from shokado.cli.import_options import MaxMemory, MaxSeconds, NoPickle
from shokado.lifecycle.importing.registry import Formats
from shokado.lifecycle.isolation import MAX_SECONDS, ProcessLimits
from shokado.lifecycle.refusal import plain_errors


def verify(
    tag: Annotated[str, typer.Argument(help="A version in the store, such as customers:v1.")],
    rows: Annotated[
        Path | None, typer.Option("--rows", help="CSV or Parquet file with a column for each feature.")
    ] = None,
    framework: Annotated[
        bool, typer.Option("--framework", help="Ask the framework again, also for the card's own rows.")
    ] = False,
    no_pickle: NoPickle = False,
    max_seconds: MaxSeconds = MAX_SECONDS,
    max_memory: MaxMemory = None,
) -> None:
    """Verify a version in the store again: its files are whole, and score as the framework does.

    Without rows, scores of the rows in its card are compared with those that the framework gave at the import. With
    rows, or --framework, the model is loaded out of the registry and asked again, in a process of its own; to read a
    pickle is to run its author's code.

    Examples:

      shokado models verify customers:v1

      shokado models verify customers:v1 --rows last_week.parquet

      shokado models verify customers:v1 --framework --no-pickle
    """
    with plain_errors():
        from shokado.lifecycle.verifying.renewed_receipt import VerifyOrder, verify_artefact

        formats = Formats.WITHOUT_CODE if no_pickle else Formats.ANY
        order = VerifyOrder(tag, rows, framework or rows is not None, formats)
        for verified in verify_artefact(order, ProcessLimits(max_seconds, max_memory)):
            typer.echo(f"{verified.tag}  {verified.outcome}  from {verified.source}")
