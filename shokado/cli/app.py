"""The `shokado` command line: what is typed goes in, progress lines and one table or one next command come out.

Exit status 0: done; 1: refused for a reason that is printed, with the command that helps; 2: wrong usage.
"""

import gc
import os
from pathlib import Path
from typing import Annotated

import typer

from runners.artefacts import repository
from runners.artefacts.artefact import Artefact, ArtefactDamaged
from runners.artefacts.integrity import DamagedFile
from shokado import __version__
from shokado.cli import batch_command
from shokado.cli import canary as canary_cli
from shokado.cli import drift as drift_cli
from shokado.cli import experiment as experiment_cli
from shokado.cli import features as features_cli
from shokado.cli import function as function_cli
from shokado.cli import k8s as k8s_cli
from shokado.cli import keys as keys_cli
from shokado.cli import log as log_cli
from shokado.cli import split as split_cli
from shokado.cli.connect import connect
from shokado.cli.estimate import estimate
from shokado.cli.export import export, restore
from shokado.cli.image_options import BaseImage, BuildNetwork, Engine
from shokado.cli.import_options import MaxMemory, MaxSeconds, ModelName, NoPickle, NoRows
from shokado.cli.promote import promote, rollback, stage
from shokado.cli.replay import replay
from shokado.cli.serve import serve
from shokado.cli.smoke_test import smoke_test
from shokado.cli.status import status
from shokado.cli.verify import verify
from shokado.cli.version_tables import receipt_table, reference_of, show, table_of
from shokado.cli.watch_registry import watch
from shokado.lifecycle import datasets
from shokado.lifecycle.examples import preparing
from shokado.lifecycle.importing import onnx_files
from shokado.lifecycle.importing.architectures import Architecture
from shokado.lifecycle.importing.checkpoints import Checkpoint, parsed_arguments
from shokado.lifecycle.importing.column_names import parsed_columns
from shokado.lifecycle.importing.onnx_files import OnnxFile
from shokado.lifecycle.importing.output_meaning import TASKS, OutputMeaning, parsed_classes
from shokado.lifecycle.importing.registry import Formats
from shokado.lifecycle.importing.version import ImportOrder, WhenTaken, import_isolated, set_reference
from shokado.lifecycle.isolation import MAX_SECONDS, ProcessLimits
from shokado.lifecycle.quantizing.quantize_order import Limits, Method, QuantizeOrder
from shokado.lifecycle.quantizing.quantized_version import quantize_version
from shokado.lifecycle.refusal import plain_errors

# Importing MLflow makes so many objects that walking them again and again takes a fifth of a command.
gc.set_threshold(100_000)
# BentoML, which commands import late, reads this once.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
models = typer.Typer(
    help="Train, import, quantize and list model versions.", no_args_is_help=True, rich_markup_mode="rich"
)
app.command()(serve)
app.command()(replay)
app.command()(smoke_test)
app.command()(status)
app.command()(stage)
app.command()(promote)
app.command()(rollback)
app.command()(watch)
app.add_typer(models, name="models")
models.command()(connect)
models.command()(verify)
models.command()(export)
models.command()(restore)
app.add_typer(keys_cli.app, name="keys")
app.add_typer(split_cli.app, name="split")
app.add_typer(canary_cli.app, name="canary")
app.add_typer(experiment_cli.app, name="experiment")
app.add_typer(k8s_cli.app, name="k8s")
app.add_typer(function_cli.app, name="lambda")
log_cli.app.command()(estimate)
app.add_typer(log_cli.app, name="log")
app.add_typer(drift_cli.app, name="drift")
app.add_typer(features_cli.app, name="features")
app.add_typer(batch_command.app, name="batch")


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"shokado {__version__}")
        raise typer.Exit


@app.callback()
def main(
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Bring model versions into the BentoML store, verified, serve them, and build the bundle that does."""


DataSetName = Annotated[
    str,
    typer.Option("--dataset", "-d", envvar="DATASET", help=f"Data set and model name: {', '.join(datasets.NAMES)}."),
]


@models.command()
def prepare(
    dataset: DataSetName = "customers",
    quantized: Annotated[
        bool, typer.Option("--quantized", help="Make v2-quantized as well, out of a wide network, v2-wide.")
    ] = False,
) -> None:
    """Make both example versions of a data set ready to be served: train, register and import what is missing.

    A second run finds everything in place and takes less than a second. Of texts there is no quantized version.

    Examples:

      shokado models prepare

      shokado models prepare --dataset iris --quantized

      DATASET=diabetes shokado models prepare
    """
    with plain_errors():
        for stored in preparing.prepare_isolated(preparing.PrepareOrder(dataset, quantized)):
            typer.echo(f"{stored.tag}  {stored.outcome}  from {stored.source}")


@models.command()
def train(dataset: DataSetName = "customers") -> None:
    """Train both example versions anew and register them in MLflow; nothing that is served changes.

    The registry is MLFLOW_TRACKING_URI, or var/mlflow.db of this project.

    Examples:

      shokado models train

      MLFLOW_TRACKING_URI=http://mlflow.example:5000 shokado models train --dataset iris
    """
    with plain_errors():
        for registered in preparing.train(dataset):
            typer.echo(f"{registered.uri}  registered; next: shokado models import {registered.uri} --as <label>")


@models.command("import")
def import_(  # noqa: PLR0913, PLR0917 each is an option
    uri: Annotated[
        str,
        typer.Argument(
            help="models:/<name>/<number>, models:/<name>/latest, models:/<name>@<alias>, models:/<model id> or "
            "runs:/<id>/<path>; a file that ends with .onnx; a tag of BentoML's store, <name>:<version>, of what "
            "bentoml.onnx saved; with --architecture, a file of torch.save."
        ),
    ],
    version: Annotated[str, typer.Option("--as", help="Version label in the store, such as v3.")],
    name: ModelName = None,
    replace: Annotated[bool, typer.Option("--replace", help="Import even where the label is taken.")] = False,
    beside: Annotated[bool, typer.Option("--beside", help="Where the label is taken, add a number to it.")] = False,
    no_pickle: NoPickle = False,
    tolerance: Annotated[float, typer.Option(min=0, help="Largest difference from the framework's scores.")] = 1e-4,
    reference: Annotated[
        Path | None, typer.Option(help="CSV or Parquet file of training data; by default what the registry has.")
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="Of a checkpoint: your own code, such as my_package.nets:Net or nets.py:Net.")
    ] = None,
    architecture_args: Annotated[
        str | None, typer.Option(help="Of a checkpoint: keywords for the architecture, such as '{\"hidden\": 64}'.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="Of an ONNX file: what its columns are called, such as width,age:integer.")
    ] = None,
    task: Annotated[str | None, typer.Option(help=f"Of a file: {', '.join(TASKS)}.")] = None,
    classes: Annotated[
        str | None, typer.Option(help="Of a file: labels in the order of its outputs, such as no,yes.")
    ] = None,
    logits: Annotated[
        bool, typer.Option("--logits", help="Of a file: put a softmax, or a sigmoid, behind its outputs.")
    ] = False,
    float64: Annotated[
        bool, typer.Option("--float64", help="Rows of float64, also where float32 is close enough.")
    ] = False,
    no_rows: NoRows = False,
    max_seconds: MaxSeconds = MAX_SECONDS,
    max_memory: MaxMemory = None,
) -> None:
    """Convert one version out of the MLflow registry, verify it against its framework, and store it.

    XGBoost, LightGBM, CatBoost, scikit-learn, ONNX, PyTorch, Keras and statsmodels flavors can be imported, ONNX files,
    those of BentoML's store among them, and checkpoints of PyTorch. A model whose converted files score differently is
    refused.
    To read a pickle is to run its author's code, in a process of its own: trust the registry, or say --no-pickle.

    Examples:

      shokado models import models:/customers/3 --as v3

      shokado models import models:/customers@challenger --as v3 --no-pickle

      shokado models import runs:/0a1b2c3d/model --name customers --as v4 --reference customers.parquet

      shokado models import model.pt --architecture nets.py:Net --classes no,yes --logits --name churn --as v1

      shokado models import model.onnx --features width,depth,age:integer --classes no,yes --name churn --as v1
    """
    is_onnx = architecture is None and onnx_files.is_named(uri)
    if architecture is None and architecture_args:
        raise typer.BadParameter("--architecture-args go with --architecture.")
    if architecture is None and not is_onnx and (task or classes or logits):
        raise typer.BadParameter("--task, --classes and --logits go with --architecture, or an ONNX file.")
    if features and not is_onnx:
        raise typer.BadParameter("--features go with an ONNX file.")
    with plain_errors():
        when_taken = WhenTaken.REPLACE if replace else WhenTaken.BESIDE if beside else WhenTaken.REFUSE
        formats = Formats.WITHOUT_CODE if no_pickle else Formats.ANY
        said = OutputMeaning(task, parsed_classes(classes or ""), logits)
        file: Checkpoint | OnnxFile | None = None
        if architecture is not None:
            file = Checkpoint(Path(uri), Architecture(architecture), parsed_arguments(architecture_args or "{}"), said)
        elif is_onnx:
            file = OnnxFile(uri, parsed_columns(features or ""), said, reference)
        address = uri if file is None else file.uri
        order = ImportOrder(
            address, version, name, when_taken, tolerance, formats, reference, file, float64, keep_rows=not no_rows
        )
        imported = import_isolated(order, ProcessLimits(max_seconds, max_memory))
        artefact = imported.artefact
        typer.echo(f"{artefact.tag}  {imported.outcome}  from {artefact.card.source.uri}")


@models.command("reference")
def reference_(
    tag: Annotated[str, typer.Argument(help="A version in the store, such as customers:v1.")],
    file: Annotated[Path, typer.Argument(help="CSV or Parquet file with a column for each feature.")],
    no_rows: NoRows = False,
) -> None:
    """Keep what a version's rows and scores are like, by those of a file; drift is told by the distance from it.

    Some hundred of the rows are kept as well: scores are explained by them. What is served does not change, and a
    reference that is there is replaced.

    Examples:

      shokado models reference customers:v1 customers.parquet
    """
    with plain_errors():
        artefact = set_reference(tag, file, keep_rows=not no_rows)
        typer.echo(f"{artefact.tag}  has its reference from {file}")


@models.command()
def quantize(
    tag: Annotated[str, typer.Argument(help="A network in the store, such as customers:v2-wide.")],
    version: Annotated[str, typer.Option("--as", help="Version label in the store, such as v2-quantized.")],
    method: Annotated[
        Method, typer.Option(help="int8 is the fastest one, float16 the one that agrees most.")
    ] = Method.INT8,
    tolerance: Annotated[
        float,
        typer.Option(min=1e-6, help="Largest mean difference from the parent's scores; of values, in deviations."),
    ] = Limits.tolerance,
    same_labels: Annotated[
        float, typer.Option(min=0, max=1, help="Smallest share of rows that keep their label.")
    ] = Limits.same_labels,
    rows: Annotated[
        Path | None, typer.Option(help="CSV or Parquet file of rows like those that will be asked.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Quantize even where the label is taken.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Store what gains nothing, or differs too much.")] = False,
) -> None:
    """Make a version with smaller weights of one that is in the store, and show what that gains and costs.

    Both are measured side by side. A version that is neither smaller nor faster than its parent is refused, and so is
    one whose scores or labels differ too much.

    Examples:

      shokado models quantize customers:v2-wide --as v2-quantized

      shokado models quantize customers:v2-wide --as v2-half --method float16 --rows customers.parquet
    """
    with plain_errors():
        order = QuantizeOrder(tag, version, method, Limits(tolerance, same_labels), rows, replace, force)
        quantized = quantize_version(order)
        receipt = quantized.artefact.card.quantized
        if receipt is not None:
            show(receipt_table(quantized.artefact.tag, receipt))
        typer.echo(f"{quantized.artefact.tag}  {quantized.outcome}  from {tag}")


@models.command("list")
def list_(name: Annotated[str | None, typer.Argument(help="Only the versions of this model.")] = None) -> None:
    """Show the versions in the store, with where they came from and how they were verified.

    Examples:

      shokado models list

      shokado models list customers
    """
    found = repository.artefacts(name)
    if not found:
        typer.echo(f"No versions{f' of {name}' if name else ''} in {repository.home() / 'models'}.")
        typer.echo("next: shokado models prepare")
        return
    show(table_of([item for item in found if isinstance(item, Artefact)]))
    for item in found:
        if isinstance(item, ArtefactDamaged):
            typer.echo(f"damaged: {item}")
        elif isinstance(damage := reference_of(item), DamagedFile):
            typer.echo(f"damaged: the reference of {item.tag}, which is served all the same: {damage}")


@app.command()
def build(
    version: Annotated[str | None, typer.Option(help="Version of the bento; by default BentoML makes one.")] = None,
) -> None:
    """Build the bento: the code and every version that serving.yaml names, with the sources as labels.

    Examples:

      shokado build

      shokado build --version 1.4.0
    """
    from shokado.lifecycle.packaging.bundling import build_bento

    with plain_errors():
        tag = build_bento(version)
        typer.echo(f"{tag}  built")
        typer.echo("next: bentoml serve shokado:latest")


@app.command()
def image(
    engine: Engine = None,
    base_image: BaseImage = None,
    tag: Annotated[
        str | None, typer.Option("--tag", "-t", envvar="TAG", help="By default shokado:<version of this project>.")
    ] = None,
    bento: Annotated[str | None, typer.Option(help="One that was built before, such as shokado:1.4.0.")] = None,
    network: BuildNetwork = None,
) -> None:
    """Build the bento and an image of it, and show what weighs most.

    This host's ways to packages (pip's and uv's settings, certificates) serve the build and stay out of the image.

    Examples:

      shokado image

      shokado image --engine podman --base-image registry.example/python:3.11 --tag registry.example/shokado:1.4.0
    """
    from shokado.lifecycle.packaging.bundling import build_bento
    from shokado.lifecycle.packaging.imaging import ImageOrder, build_image, find_engine, megabytes

    with plain_errors():
        found = find_engine(engine)
        built = build_image(ImageOrder(bento or build_bento(), found, tag, base_image, network))
        for part in built.largest(10):
            typer.echo(f"{megabytes(part.size_bytes):>10}  {part.path}")
        typer.echo(f"{built.tag}  built with {found}")
        typer.echo(f"next: {built.command()}")


@app.command()
def deploy(
    environment: Annotated[str, typer.Option("--environment", help="A folder of k8s/overlays: staging, production.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be applied, and change nothing.")] = False,
    context: Annotated[str | None, typer.Option("--context", help="Of the kubeconfig; by default the current.")] = None,
    image: Annotated[str | None, typer.Option("--image", help="With its tag or digest, for all pods.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds until all must be ready.")] = 300,
    undo: Annotated[
        bool, typer.Option("--undo", help="Bring back the newest release that was Ready before what is there.")
    ] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback-on-failure", help="Undo what does not become ready in time.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force-conflicts", help="Take fields from other tools, and not only from kubectl.")
    ] = False,
) -> None:
    """Apply an environment to a Kubernetes cluster, and wait until it is ready there.

    The cluster is asked first whether it would take everything. What is gone from the manifests is deleted at the end.

    Examples:

      shokado deploy --environment staging --dry-run

      shokado deploy --environment production --context prod --image registry.example.com/shokado:1.4.0

      shokado deploy --environment production --undo
    """
    from shokado.lifecycle.rollout import deploying

    if undo and (dry_run or image):
        raise typer.BadParameter("--undo brings back a release as it was: neither --image nor --dry-run goes with it.")
    with plain_errors():
        order = deploying.DeployOrder(environment, context, image, timeout, rollback, force)
        if dry_run:
            deploying.dry_run(order)
            typer.echo("Nothing was changed.")
            return
        if undo:
            typer.echo(f"{environment} is ready: {deploying.undo(order)}")
            return
        deploying.deploy(order)
        typer.echo(f"{environment} is ready")
        typer.echo("next: shokado canary start VERSION --url URL")
