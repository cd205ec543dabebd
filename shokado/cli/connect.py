"""`shokado models connect`: a model that only Python can score, which MLflow's own server or MLServer has loaded."""

from pathlib import Path
from typing import Annotated

import typer

from shokado.cli.import_options import ModelName
from shokado.lifecycle.importing.version import ImportOrder, WhenTaken
from shokado.lifecycle.refusal import plain_errors


def connect(
    uri: Annotated[str, typer.Argument(help="models:/<name>/<number>, or any other address that import takes.")],
    version: Annotated[str, typer.Option("--as", help="Version label in the store, such as v3.")],
    url: Annotated[str, typer.Option("--url", help="Where its server is: http://127.0.0.1:5001.")],
    served_as: Annotated[
        str | None,
        typer.Option("--model", help="Its name in MLServer, which is asked by the Open Inference Protocol."),
    ] = None,
    name: ModelName = None,
    replace: Annotated[bool, typer.Option("--replace", help="Connect even where the label is taken.")] = False,
    reference: Annotated[
        Path | None, typer.Option(help="CSV or Parquet file with the levels of all columns; else the input example.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Its labels in their order, such as low,high; else those that it gives.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Largest difference that rounding to float32 may make.")
    ] = 1e-4,
) -> None:
    """Let a model that only Python can score be served as a remote version, by MLflow's own server or MLServer.

    Nothing of the model is loaded: its columns are those of its signature, and the server is asked what it takes and
    gives. Rows are compared as they are and as they will be sent.

    Examples:

      mlflow models serve -m models:/churn/3 -p 5001 --env-manager local

      shokado models connect models:/churn/3 --as v3 --url http://127.0.0.1:5001

      shokado models connect models:/churn@next --as v4 --url http://churn:80 --reference churn.csv --classes no,yes

      shokado models connect models:/churn/3 --as v3 --url http://127.0.0.1:8080 --model churn
    """
    from shokado.lifecycle.importing.connecting import ConnectOrder, connect_version

    with plain_errors():
        when_taken = WhenTaken.REPLACE if replace else WhenTaken.REFUSE
        source = ImportOrder(uri, version, name, when_taken, tolerance, reference=reference)
        labels = tuple(label.strip() for label in classes.split(",")) if classes is not None else ()
        order = ConnectOrder(source, url, labels, served_as)
        connected = connect_version(order)
        artefact = connected.artefact
        typer.echo(f"{artefact.tag}  {connected.outcome}  from {artefact.card.source.uri}")
        typer.echo(f"next: in serving.yaml, {order.placement}")
