"""`shokado experiment`: let versions that share a gateway's traffic compete until it is decided which one is better.

Exit status 0: done; 1: refused, or there is no experiment; 2: wrong usage.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from configuration.experiment_plan import DEFAULT_FILE, load_plan
from configuration.settings import SettingsError
from shokado.cli.canary import KEY_VARIABLE, opened_gateway
from shokado.cli.version_tables import show
from shokado.lifecycle.errors import GatewayRefused, LifecycleError

if TYPE_CHECKING:
    from shokado.client.answers import ExperimentAnswer
    from shokado.lifecycle.rollout.gateway_client import GatewayClient

app = typer.Typer(
    help="Let versions compete until it is decided which one is better.", no_args_is_help=True, rich_markup_mode="rich"
)

Url = Annotated[str, typer.Option("--url", help="Of the gateway.")]
EnvironmentOption = Annotated[
    str | None, typer.Option("--environment", help="Whose split it is; by default the gateway's default environment.")
]
KeyFile = Annotated[
    Path | None,
    typer.Option("--key-file", help=f"A file with an admin key; by default the key is what {KEY_VARIABLE} says."),
]
Why = Annotated[str, typer.Option("--why", help="For the history.")]
Id = Annotated[str | None, typer.Argument(help="Of an experiment; by default the one under way.")]
_URL = "http://127.0.0.1:3000"
_PAIRS = {
    "sampled": "sampled", "scored": "scored by the shadow", "failed": "failed",
    "no_room": "that there was no room for", "labels": "labels", "joined": "labels joined with scores",
    "let_go": "labels let go before scores came",
}  # fmt: skip
"""What became of the requests that a shadow is compared on, in words."""


@app.command()
def start(
    candidates: Annotated[
        list[str] | None,
        typer.Argument(help="Versions or aliases; by default all that share the traffic, or the shadow."),
    ] = None,
    control: Annotated[str | None, typer.Option("--control", help="By default the active version.")] = None,
    plan: Annotated[Path, typer.Option("--plan", help="What is judged, how long, and what follows.")] = DEFAULT_FILE,
    why: Why = "",
    url: Url = _URL,
    environment: EnvironmentOption = None,
    key_file: KeyFile = None,
) -> None:
    """Begin an experiment between the versions that share the traffic, or, where the plan's design is `shadow`, of one
    with its shadow; the split stays until the end, of all units or of the plan's part of a layer.

    Examples:

      shokado experiment start v2

      shokado experiment start v2 v3 --control v1 --plan careful.yaml --environment staging

      shokado experiment start v2 --plan configuration/shadow_experiment.yaml
    """
    with opened_gateway(url, environment, key_file, "experiment") as gateway:
        try:
            content = load_plan(plan).model_dump(mode="json")
        except SettingsError as error:
            raise LifecycleError(str(error)) from error
        begun = gateway.start_experiment(content, control, candidates or None, why)
        versions = ", ".join(begun.candidates)
        typer.echo(f"experiment {begun.id} of {versions} against {begun.control} in {begun.environment}")
        typer.echo(f"next: shokado experiment status {begun.id}")


@app.command()
def status(
    experiment: Id = None, url: Url = _URL, environment: EnvironmentOption = None, key_file: KeyFile = None
) -> None:
    """Show an experiment and the verdict on it; looking often costs nothing.

    Examples:

      shokado experiment status
    """
    with opened_gateway(url, environment, key_file, "experiment") as gateway:
        _show(_found(gateway, experiment))


@app.command()
def stop(
    experiment: Id = None,
    why: Why = "by hand",
    url: Url = _URL,
    environment: EnvironmentOption = None,
    key_file: KeyFile = None,
) -> None:
    """End an experiment as it stands; the split stays as it is.

    Examples:

      shokado experiment stop --why "complaints from support"
    """
    with opened_gateway(url, environment, key_file, "experiment") as gateway:
        stopped = gateway.stop_experiment(_found(gateway, experiment).id, why)
        typer.echo(f"experiment {stopped.id} is stopped")


def _found(gateway: "GatewayClient", experiment: str | None) -> "ExperimentAnswer":
    """The one that is named, or that is under way in the environment. Raises `GatewayRefused`."""
    environment = gateway.routing().environment if experiment is None else None
    for one in gateway.experiments():
        if one.id == experiment or (one.running and one.environment == environment):
            return one
    what = f"no experiment {experiment}" if experiment is not None else f"no experiment under way in {environment}"
    raise GatewayRefused(f"There is {what}.", "shokado experiment start VERSION")


def _show(found: "ExperimentAnswer") -> None:
    typer.echo(f"experiment {found.id} in {found.environment}: {found.verdict}")
    if found.reason:
        typer.echo(f"  {found.reason}")
    if layer := found.plan.get("layer"):
        typer.echo(f"  of units from {layer['from']:g} to {layer['to']:g} of the layer {layer['name']}")
    if found.pairs:
        # A server leaves out what it has counted none of.
        told = ", ".join(f"{found.pairs.get(name, 0):,} {words}" for name, words in _PAIRS.items())
        typer.echo(f"  requests that both are compared on: {told}")
    for name, version in found.versions.items():
        for guardrail in version.guardrails or ():
            typer.echo(f"  guardrail of {name} {guardrail.state}: {guardrail.reason}")
    table = Table("version", "assigned", "observations", "mean", "effect", "interval", box=None)
    for name, version in found.versions.items():
        low, high = ("" if bound is None else f"{bound:+.4g}" for bound in (version.low, version.high))
        interval = f"{low} to {high}" if low and high else ""
        mean = "" if version.mean is None else f"{version.mean:.4g}"
        effect = "" if version.effect is None else f"{version.effect:+.4g}"
        table.add_row(name, f"{version.assigned:,}", f"{version.observations:,}", mean, effect, interval)
    show(table)
