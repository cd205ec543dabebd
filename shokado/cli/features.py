"""`shokado features`: the transformer, what is done to its store, and whether serving gives what training had.

Exit status 0: done; 1: refused for a reason that is printed, or, of `check`, values differ; 2: wrong usage, or, of
`check`, nothing could be compared.
"""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from shokado.cli.image_options import BaseImage, BuildNetwork, Engine
from shokado.cli.version_tables import show
from shokado.lifecycle.refusal import plain_errors

if TYPE_CHECKING:
    from shokado.lifecycle.transforming.skew import SkewReport

DEFAULT_PORT = 6570
DEFAULT_URL = f"http://127.0.0.1:{DEFAULT_PORT}"
UNTOLD_STATUS = 2

Repository = Annotated[
    Path, typer.Option("--repo", envvar="FEATURE_REPO", help="Folder of feature_store.yaml, after `feast apply`.")
]
Service = Annotated[
    str | None, typer.Option("--service", envvar="FEATURE_SERVICE", help="Feature service; by default the only one.")
]


class ClusterPart(StrEnum):
    """What is applied to a cluster by itself."""

    TRANSFORMER = "transformer"
    FEAST = "feast"


Apply = Annotated[
    bool, typer.Option("--apply", help="Write the definitions into the registry first, as `feast apply` does.")
]

app = typer.Typer(
    help="Features by entity: serve them, materialize them, and compare them with what was trained on.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.callback()
def features() -> None:
    """Features by entity: serve them, materialize them, and compare them with what was trained on."""


@app.command()
def serve(
    repo: Repository = Path("feature_repo"),
    service: Service = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0: from other machines too.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = DEFAULT_PORT,
    socket: Annotated[
        Path | None, typer.Option(help="Unix socket to listen at instead, for servers of the same user and machine.")
    ] = None,
    apply: Apply = False,
) -> None:
    """Answer a server's questions for features, by entity: what serving.yaml names as features.url.

    It shows features to whoever reaches it, and asks for no key. Needs an environment of its own: make features.

    Examples:

      var/features/bin/shokado features serve --repo var/feature_repo

      var/features/bin/shokado features serve --repo var/feature_repo --socket var/features.sock
    """
    from shokado.lifecycle.transforming.feature_repository import apply_definitions, check_installed

    with plain_errors():
        check_installed()
        from shokado.lifecycle.transforming.transformer import Transformer, serve_features

        if apply:
            apply_definitions(repo)
        transformer = Transformer(repo, service)
        repository = transformer.open()
        where = f"unix:{socket.resolve()}" if socket is not None else f"http://{host}:{port}"
        typer.echo(f"features: {where}, of {repository.service}: {', '.join(repository.feature_names)}")
        typer.echo(f"          by {', '.join(repository.entity_names)}")
        serve_features(transformer.app(), host, port, socket)


@app.command()
def materialize(
    repo: Repository = Path("feature_repo"),
    view: Annotated[
        list[str] | None, typer.Option("--view", help="A feature view, as often as wanted; by default all.")
    ] = None,
    start: Annotated[
        datetime | None, typer.Option("--from", help="Values from then on, UTC; by default since the last run.")
    ] = None,
    end: Annotated[datetime | None, typer.Option("--until", help="Values up to then, UTC; by default now.")] = None,
    apply: Apply = False,
) -> None:
    """Put values of the offline store into the online store, from where the last run ended.

    May be killed and run again at any time. Needs an environment of its own: make features.

    Examples:

      var/features/bin/shokado features materialize --repo var/feature_repo

      var/features/bin/shokado features materialize --repo var/feature_repo --view activity --from 2026-11-01
    """
    from shokado.lifecycle.transforming.feature_repository import apply_definitions, check_installed

    with plain_errors():
        check_installed()
        from shokado.lifecycle.transforming.materializing import MaterializeOrder
        from shokado.lifecycle.transforming.materializing import materialize as run

        if apply:
            apply_definitions(repo)
        run(MaterializeOrder(repo, tuple(view or ()), _utc(start), _utc(end)))


@app.command()
def check(
    table: Annotated[Path, typer.Argument(help="CSV or Parquet file of training rows, with entities beside features.")],
    url: Annotated[str, typer.Option(help="The transformer's address, as serving.yaml has it.")] = DEFAULT_URL,
    max_rows: Annotated[
        int, typer.Option(min=1, max=100_000, help="Rows that are looked up, of as many entities.")
    ] = 1000,
    tolerance: Annotated[
        float, typer.Option(min=0, help="How far numbers may lie apart, relative to the trained.")
    ] = 1e-6,
    max_share: Annotated[
        float, typer.Option(min=0, max=1, help="Part of a feature's rows that may differ before it counts as skewed.")
    ] = 0.0,
) -> None:
    """Compare training rows with what serving gives for the same entities; leave with status 1 where a feature differs.

    Where the table has a column event_timestamp, values that have changed since then are told apart: they are no skew.
    Status 2: nothing could be compared.

    Examples:

      shokado features check training.parquet --url http://127.0.0.1:6570
    """
    from shokado.lifecycle.transforming.skew import SkewOrder, check_skew

    with plain_errors(UNTOLD_STATUS):
        report = check_skew(SkewOrder(table, url, max_rows, tolerance))
    _show(report)
    if not any(feature.compared for feature in report.features):
        typer.echo("nothing was compared: all values have changed since their rows were true", err=True)
        raise typer.Exit(UNTOLD_STATUS)
    skewed = [feature for feature in report.features if feature.share > max_share]
    for feature in skewed:
        typer.echo(f"skew: {feature.name}: {feature.example}", err=True)
    if skewed:
        raise typer.Exit(1)


@app.command()
def image(
    repo: Repository = Path("feature_repo"),
    engine: Engine = None,
    base_image: BaseImage = None,
    tag: Annotated[
        str | None,
        typer.Option("--tag", "-t", envvar="TAG", help="By default shokado-features:<version of this project>."),
    ] = None,
    network: BuildNetwork = None,
) -> None:
    """Build the image of the transformer and of materialization, with the definitions of a repository inside.

    Data and registry of the repository stay out of it, and so do this host's ways to packages.

    Examples:

      shokado features image --repo var/feature_repo --tag registry.example/shokado-features:1.4.0
    """
    from shokado.lifecycle.packaging.features_image import build_features_image
    from shokado.lifecycle.packaging.imaging import find_engine

    with plain_errors():
        typer.echo(f"{build_features_image(repo, find_engine(engine), tag, base_image, network)}  built")


@app.command()
def deploy(
    part: Annotated[ClusterPart, typer.Argument(help="transformer, or feast: the job that materializes.")],
    environment: Annotated[str, typer.Option(envvar="ENVIRONMENT", help="A folder of k8s/overlays.")] = "staging",
    context: Annotated[
        str | None, typer.Option(help="A context of the kubeconfig; by default the current one.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="The image, with its tag or digest.")] = None,
    timeout: Annotated[float, typer.Option(min=1, max=3600, help="Seconds until it must be ready.")] = 300,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ask the cluster, and change nothing.")] = False,
) -> None:
    """Apply k8s/transformer or k8s/feast to an environment's namespace, and wait: for the rollout, or for a first run.

    Examples:

      shokado features deploy feast --environment staging

      shokado features deploy transformer --environment staging --image registry.example/shokado-features:1.4.0
    """
    from shokado.lifecycle.rollout.deploying_features import FeaturesOrder, deploy_features

    with plain_errors():
        deploy_features(FeaturesOrder(part, environment, context, image, timeout, dry_run=dry_run))


@app.command()
def example(
    folder: Annotated[Path, typer.Argument(help="A folder that is not there.")] = Path("var/feature_repo"),
) -> None:
    """Write an example of a Feast repository: the customers of the data set of that name, and numbers of messages.

    Examples:

      var/features/bin/shokado features example var/feature_repo

      var/features/bin/feast --chdir var/feature_repo apply
    """
    from shokado.lifecycle.transforming.feature_repository import check_installed

    with plain_errors():
        check_installed()
        from shokado.lifecycle.transforming.example import write_example

        write_example(folder)
    typer.echo(f"{folder}  next: var/features/bin/feast --chdir {folder} apply")


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def _show(report: "SkewReport") -> None:
    columns = ("feature", "rows", "equal", "different", "missing", "newer", "largest difference")
    found = Table(*columns, box=None)
    for one in report.features:
        numbers = (one.compared, one.equal, one.different, one.missing, one.newer)
        found.add_row(one.name, *map(str, numbers), f"{one.largest:.3g}")
    show(found)
    if report.left_out:
        typer.echo(f"not compared, as no feature is called so: {', '.join(report.left_out)}")
