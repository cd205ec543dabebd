"""`shokado k8s`: versions come into the manifests, and go. The cluster follows with the next `shokado deploy`."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from configuration.settings import DEFAULT_FILE, SettingsError, load_settings
from shokado.cli.canary import KEY_VARIABLE, key_of, user
from shokado.lifecycle.refusal import plain_errors
from shokado.lifecycle.rollout.manifests import OVERLAYS

app = typer.Typer(
    help="Add versions to the Kubernetes manifests, and remove them.", no_args_is_help=True, rich_markup_mode="rich"
)

Version = Annotated[str, typer.Argument(help="As the gateways call it, such as v3.")]
Folder = Annotated[
    Path, typer.Option("--folder", help="Of the manifests; by default k8s of this project.", show_default=False)
]


@app.command()
def add_version(
    version: Version,
    tag: Annotated[
        str | None, typer.Option("--tag", help="Of its artefact in the image; by default MODEL:VERSION.")
    ] = None,
    folder: Folder = OVERLAYS.parent,
) -> None:
    """Write a version into the manifests of all environments: its runners, and the way of the gateways to them.

    It starts without traffic. All files are changed, or none; nothing happens in a cluster before the next deploy.

    Examples:

      shokado k8s add-version v3

      shokado k8s add-version v3 --tag customers:v3-2
    """
    from shokado.lifecycle.rollout import version_manifests

    with plain_errors():
        edit = version_manifests.add(version, tag, folder)
        for line in edit.files:
            typer.echo(line)
        typer.echo(f"{version} is in the manifests of {' and '.join(edit.environments)}, without traffic")
        _note_what_the_image_lacks(version)
        for environment in edit.environments:
            typer.echo(f"next: shokado deploy --environment {environment} --image IMAGE, which holds {version}")


@app.command()
def remove_version(
    version: Version,
    urls: Annotated[
        list[str] | None, typer.Option("--url", help="Of a gateway that is asked; one of each environment.")
    ] = None,
    key_files: Annotated[
        list[Path] | None,
        typer.Option(
            "--key-file",
            help="With a key for the gateways: one for all, or one each, in their order; by default the key is what"
            f" {KEY_VARIABLE} says.",
        ),
    ] = None,
    unasked: Annotated[
        list[str] | None, typer.Option("--unasked", help="An environment that has no gateways to be asked.")
    ] = None,
    folder: Folder = OVERLAYS.parent,
) -> None:
    """Take a version out of the manifests of all environments.

    Refused while one of its environments gives it traffic, which a gateway of each is asked, or names it in the split
    with which a new store begins. The next deploy deletes what it has in the cluster.

    Examples:

      kubectl -n shokado-staging port-forward service/shokado-gateway 3000 &
      kubectl -n shokado-production port-forward service/shokado-gateway 3001:3000 &
      shokado k8s remove-version v3 --url http://127.0.0.1:3000 --url http://127.0.0.1:3001

      shokado k8s remove-version v3 --url http://127.0.0.1:3000 --unasked production
    """
    from shokado.lifecycle.rollout import version_manifests
    from shokado.lifecycle.rollout.gateway_client import GatewayClient

    files: list[Path | None] = [*key_files] if key_files else [None]
    if len(files) not in (1, len(urls or [])):
        raise typer.BadParameter("--key-file is named once, or once for each --url.")
    with plain_errors(), ExitStack() as opened:
        keys = [key_of(file) for file in files]
        gateways = [
            opened.enter_context(GatewayClient(url, None, keys[number % len(keys)], f"{user()} (shokado k8s)"))
            for number, url in enumerate(urls or [])
        ]
        edit = version_manifests.remove(version, gateways, unasked or [], folder)
        for line in edit.files:
            typer.echo(line)
        for environment in edit.environments:
            typer.echo(f"next: shokado deploy --environment {environment}, which deletes what {version} has there")


def _note_what_the_image_lacks(version: str) -> None:
    try:
        settings = load_settings(DEFAULT_FILE)
    except SettingsError:
        return
    if version not in settings.versions:
        typer.echo(f"note: configuration/serving.yaml does not name {version}, so images built of it do not hold it")
