"""`shokado log`: the request log of this machine, or what was sent of it, read from its files, server or not."""

import heapq
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from configuration.settings import load_settings
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.refusal import plain_errors
from shokado.request_log.last_rows import last_rows
from shokado.request_log.logged_rows import LoggedRow, LogReader, RecordReader
from shokado.request_log.segments import Folder, SegmentDamaged, records_of, segments_at
from shokado.request_log.sinks.object_store import INSTALL, ObjectStore, PackageMissing
from shokado.request_log.sinks.sink import SinkFailure

ROOT = Path(__file__).resolve().parents[2]
LOOK_EVERY_S = 0.5
"""How often `--follow` looks for more."""
LOOK_FAR_EVERY_S = 5.0
"""The same where each look is a request to another machine."""

app = typer.Typer(
    help="Look at the requests that were recorded, and export them.", no_args_is_help=True, rich_markup_mode="rich"
)

Source = Annotated[
    str | None,
    typer.Argument(
        metavar="[SOURCE]",
        help="A folder, or an address that files were sent to, such as s3://bucket/folder; by default the folder that "
        "serving.yaml names.",
        show_default=False,
    ),
]


@app.command("list")
def list_segments(source: Source = None) -> None:
    """List the files of the log: when each was begun, its size, and its rows.

    Examples:

      shokado log list

      shokado log list s3://bucket/request-log
    """
    with reading(source) as where:
        table = Table("begun", "file", "MiB", "rows", "state")
        for segment in segments_at(where):
            begun = _spelt(segment.begun_at)
            size = f"{segment.size_bytes / 2**20:.2f}"
            try:
                reader = RecordReader()
                rows = sum(1 for records, _ in records_of(segment) for _ in reader.rows_of(records))
            except SegmentDamaged as damaged:
                table.add_row(begun, segment.path.name, size, "?", f"damaged: {damaged}")
                continue
            table.add_row(begun, segment.path.name, size, str(rows), "open" if segment.is_open else "")
        Console().print(table)


@app.command()
def tail(
    source: Source = None,
    number: Annotated[int, typer.Option("--number", "-n", min=0, help="How many of the last rows.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as rows come, until Ctrl-C.")] = False,
) -> None:
    """Print the last rows as JSON, one a line: what was asked, who answered, and why.

    Examples:

      shokado log tail

      shokado log tail --number 0 --follow | jq .version
    """
    with reading(source) as where:
        try:
            if not follow:
                found = last_rows(where, number, most_segments=None)
                if found.damaged:
                    raise SegmentDamaged(found.damaged[0])
                for row in reversed(found.rows):
                    typer.echo(_line(row))
                return
            reader = LogReader(where)
            for row in sorted(heapq.nlargest(number, reader.rows(), key=_answered_at), key=_answered_at):
                typer.echo(_line(row))
            while True:
                time.sleep(LOOK_EVERY_S if isinstance(where, Path) else LOOK_FAR_EVERY_S)
                for row in reader.rows():
                    typer.echo(_line(row))
        except KeyboardInterrupt:
            raise typer.Exit from None


@app.command()
def export(
    named: Annotated[
        list[str],
        typer.Argument(
            metavar="[SOURCE] TARGET",
            help="What to export, as for `list`, and a folder, which must be empty or not there.",
        ),
    ],
) -> None:
    """Write all rows as Parquet files, one for each day and version, with the labels that came for them.

    `pandas.read_parquet(TARGET)` reads them as one table.

    Examples:

      shokado log export requests

      shokado log export s3://bucket/request-log requests
    """
    from shokado.request_log.exporting import export as write

    *sources, last = named
    if len(sources) > 1:
        raise typer.BadParameter("name what to export and where to, and no more")
    target = Path(last)
    with reading(sources[0] if sources else None) as where:
        try:
            counts = write(where, target)
        except FileExistsError as error:
            raise LifecycleError(f"{error}; name another folder") from None
        except ModuleNotFoundError as error:
            raise LifecycleError(f"Parquet needs the package {error.name}.", "make models") from None
        for name, rows in counts.items():
            typer.echo(f"{target / name}  {rows} rows")
        if not counts:
            typer.echo("there are no rows; log.share in serving.yaml says which part of the requests is recorded")


@contextmanager
def reading(source: str | None, status: int = 1) -> Iterator[Folder]:
    """What is read, and what goes wrong with it in plain words, with that status."""
    with plain_errors(status):
        try:
            yield ObjectStore(source) if source is not None and "://" in source else _folder(source)
        except SegmentDamaged as damaged:
            raise LifecycleError(str(damaged), "shokado log list") from None
        except PackageMissing as missing:
            raise LifecycleError(str(missing), INSTALL) from None
        except SinkFailure as failure:
            raise LifecycleError(f"{source}: {failure}") from None
        except OSError as error:
            raise LifecycleError(f"the request log cannot be read: {error}") from None


def _folder(named: str | None) -> Path:
    where = Path(named) if named is not None else load_settings().log_folder(ROOT)
    if not where.is_dir():
        reason = "log.share in serving.yaml is 0, or nothing was asked yet"
        raise LifecycleError(f"{where}: there is no request log; {reason}", "SHOKADO_LOG__SHARE=1 make serve")
    return where


def _answered_at(row: LoggedRow) -> float:
    return row.at


def _line(row: LoggedRow) -> str:
    return msgspec.json.encode({"time": _spelt(row.at), **{k: v for k, v in asdict(row).items() if k != "at"}}).decode()


def _spelt(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
