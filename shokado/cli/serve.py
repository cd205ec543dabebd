"""`shokado serve`: versions out of the MLflow registry, side by side, in one command."""

from pathlib import Path
from typing import Annotated

import typer

from configuration.port import MAX_PORT
from configuration.settings import MAX_WORKERS
from shokado.cli.import_options import MaxMemory, MaxSeconds, ModelName, NoPickle, NoRows
from shokado.lifecycle.importing.registry import Formats
from shokado.lifecycle.isolation import MAX_SECONDS, ProcessLimits
from shokado.lifecycle.refusal import plain_errors
from shokado.lifecycle.serving.order import DEFAULT_HOST, DEFAULT_PORT, ServeOrder, parse_host, parse_split


def serve(  # noqa: PLR0913, PLR0917  # its arguments are options
    addresses: Annotated[
        list[str] | None,
        typer.Argument(
            help="Versions of one model: models:/NAME/3, models:/NAME@champion, models:/NAME/latest, runs:/ID/PATH; "
            "files that end with .onnx; tags of BentoML's store, NAME:VERSION.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="Their shares of the traffic, such as 90,10, relative to the sum; else alike."),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", "-p", min=1, max=MAX_PORT, envvar="BENTOML_PORT", help="Where to listen.")
    ] = DEFAULT_PORT,
    host: Annotated[
        str,
        typer.Option("--host", envvar="BENTOML_HOST", help="Where to listen; 0.0.0.0: from other machines as well."),
    ] = DEFAULT_HOST,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=MAX_WORKERS, help="Server processes; by default one per CPU.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="The file to write, or without versions to serve; else var/serving/NAME.yaml."),
    ] = None,
    name: ModelName = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Even where the file, or the split, was changed by hand since.")
    ] = False,
    no_pickle: NoPickle = False,
    no_rows: NoRows = False,
    max_seconds: MaxSeconds = MAX_SECONDS,
    max_memory: MaxMemory = None,
) -> None:
    """Import versions of a model out of the MLflow registry where they are missing, and serve them side by side.

    A commented serving.yaml is written, to keep and to edit, and is served again with --config alone. Version 3 of the
    registry is v3. The registry is MLFLOW_TRACKING_URI, or var/mlflow.db of this project.

    Examples:

      shokado serve models:/churn/3

      shokado serve models:/churn/3 models:/churn/4 --split 90,10 --port 3000

      shokado serve models:/churn@champion models:/churn@challenger --config churn.yaml

      shokado serve churn:v3 churn.onnx --name churn

      shokado serve --config churn.yaml
    """
    found = tuple(addresses or ())
    if not found and config is None:
        raise typer.BadParameter("name a version, such as models:/churn/3, or a file with --config.")
    if not found and (split is not None or workers is not None or name is not None or no_rows):
        raise typer.BadParameter(
            "--split, --workers, --name and --no-rows go with versions; without any, the file says them."
        )
    weights, address = _weights(split, len(found)), _host(host)

    from shokado.lifecycle.serving import starting
    from shokado.lifecycle.serving.serving_file import shown

    with plain_errors():
        formats = Formats.WITHOUT_CODE if no_pickle else Formats.ANY
        order = ServeOrder(
            found, weights, name, config, workers, address, port, replace, formats, keep_rows=not no_rows
        )
        if found:
            written = starting.write_configuration(order, ProcessLimits(max_seconds, max_memory))
            for one in written.versions:
                typer.echo(f"{one.artefact.tag}  {one.imported.outcome}  from {one.artefact.card.source.uri}")
            typer.echo(f"{shown(order.file)}  {'written' if written.new else 'as it was'}")
        typer.echo(f"split: {starting.settle_split(order)}")
        url = f"http://[{order.host}]:{order.port}" if ":" in order.host else f"http://{order.host}:{order.port}"
        typer.echo(f"serve: {url}, ready when /readyz answers 200; /docs has requests to try (Ctrl-C stops it)")
        starting.become_server(order)


def _weights(split: str | None, versions: int) -> tuple[float, ...] | None:
    try:
        return parse_split(split, versions) if split is not None else None
    except ValueError as error:
        raise typer.BadParameter(f"--split {error}") from None


def _host(text: str) -> str:
    try:
        return parse_host(text)
    except ValueError as error:
        raise typer.BadParameter(f"--host {error}") from None
