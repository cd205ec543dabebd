"""`shokado keys`: make, list and revoke the keys of a server, or of an environment in a cluster.

A server that runs heeds its file within a second or two, and a Secret within a minute or two.
"""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from configuration.settings import SettingsError, load_settings
from shokado.access.keys import KeyFileError, Role, add_key, read_keys, revoke_key
from shokado.lifecycle.refusal import plain_errors
from shokado.lifecycle.rollout.cluster_keys import RUNNER_ENTRY, ClusterKeys
from shokado.lifecycle.rollout.kubectl import Kubectl
from shokado.lifecycle.rollout.manifests import namespace_of, render

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_FILE = "var/keys.yaml"

app = typer.Typer(help="Make, list and revoke keys.", no_args_is_help=True, rich_markup_mode="rich")

KeysFile = Annotated[
    Path | None,
    typer.Option("--file", help=f"The keys file; by default access.keys_file as it is set, else {DEFAULT_FILE}."),
]
Environment = Annotated[
    str | None,
    typer.Option("--environment", help="A folder of k8s/overlays, whose Secret in the cluster takes the file's place."),
]
Context = Annotated[str | None, typer.Option("--context", help="Of the kubeconfig; by default the current.")]


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Print an expected error instead of a traceback, and leave with status 1."""
    try:
        with plain_errors():
            yield
    except (KeyFileError, SettingsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


def _of_cluster(environment: str | None, context: str | None, file: Path | None) -> ClusterKeys | None:
    """The keys of an environment; None where a file is meant."""
    if environment is None and context is None:
        return None
    if environment is None or file is not None:
        raise typer.BadParameter("--context goes with --environment, and --file with neither.")
    return ClusterKeys(Kubectl(context), namespace_of(render(environment)))


def _configured() -> Path | None:
    named = load_settings().access.keys_file
    return ROOT / named if named else None


@app.command()
def create(
    name: Annotated[str, typer.Option("--name", help="Names the key in histories and metrics.")],
    role: Annotated[Role, typer.Option("--role", help="predict, or admin: that and every change.")],
    file: KeysFile = None,
    environment: Environment = None,
    context: Context = None,
) -> None:
    """Make a key and show it: this once, as the file keeps its digest only.

    The key alone goes to standard output.

    Examples:

      shokado keys create --name ci --role predict

      shokado keys create --name me --role admin --file /etc/shokado/keys.yaml

      shokado keys create --name ci --role predict --environment staging
    """
    with _plain_errors():
        if cluster := _of_cluster(environment, context, file):
            secret = cluster.add(name, role)
            typer.echo(f"Key {name} ({role}) is in {cluster}. It is shown this once:", err=True)
            typer.echo(secret)
            return
        configured = None if file is not None else _configured()
        path = file or configured or ROOT / DEFAULT_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        secret = add_key(path, name, role)
        typer.echo(f"Key {name} ({role}) is in {path}. It is shown this once:", err=True)
        typer.echo(secret)
        if file is None and configured is None:
            typer.echo(f"next: SHOKADO_ACCESS__KEYS_FILE={DEFAULT_FILE} bentoml serve", err=True)


@app.command("list")
def list_(file: KeysFile = None, environment: Environment = None, context: Context = None) -> None:
    """Show the names and roles of the keys.

    Examples:

      shokado keys list

      shokado keys list --environment staging
    """
    with _plain_errors():
        if cluster := _of_cluster(environment, context, file):
            held = cluster.read()
            for key in held.keys:
                use = f"  {RUNNER_ENTRY}" if held.is_of_gateways(key) else ""
                typer.echo(f"{key.name}  {key.role}  sha256:{key.sha256[:8]}{use}")
            return
        path = file or _configured() or ROOT / DEFAULT_FILE
        for key in read_keys(path).keys:
            typer.echo(f"{key.name}  {key.role}  sha256:{key.sha256[:8]}")


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="The key's name.")],
    file: KeysFile = None,
    environment: Environment = None,
    context: Context = None,
    force: Annotated[
        bool, typer.Option("--force", help="Of a cluster, also the gateways' own key, and the last admin's.")
    ] = False,
) -> None:
    """Take a key out of the file, or out of the Secret.

    Examples:

      shokado keys revoke ci

      shokado keys revoke ci --environment staging
    """
    with _plain_errors():
        if cluster := _of_cluster(environment, context, file):
            where = ["--environment", str(environment), *(["--context", context] if context else [])]
            cluster.revoke(name, shlex.join(["shokado", "keys", "revoke", name, *where, "--force"]), force=force)
            typer.echo(f"Key {name} is revoked in {cluster}; servers follow within a minute or two.")
            return
        path = file or _configured() or ROOT / DEFAULT_FILE
        revoke_key(path, name)
        typer.echo(f"Key {name} is revoked.")
