"""`shokado keys`: make, list and revoke the keys of a server. A server that runs heeds it within a second or two."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from access.keys import KeyFileError, Role, add_key, read_keys, revoke_key
from configuration.settings import SettingsError, load_settings

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_FILE = "var/keys.yaml"

app = typer.Typer(help="Make, list and revoke keys.", no_args_is_help=True, rich_markup_mode="rich")

KeysFile = Annotated[
    Path | None,
    typer.Option("--file", help=f"The keys file; by default access.keys_file as it is set, else {DEFAULT_FILE}."),
]


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Print an expected error instead of a traceback, and leave with status 1."""
    try:
        yield
    except (KeyFileError, SettingsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


def _configured() -> Path | None:
    named = load_settings().access.keys_file
    return ROOT / named if named else None


@app.command()
def create(
    name: Annotated[str, typer.Option("--name", help="Names the key in histories and metrics.")],
    role: Annotated[Role, typer.Option("--role", help="predict, or admin: that and every change.")],
    file: KeysFile = None,
) -> None:
    """Make a key and show it: this once, as the file keeps its digest only.

    The key alone goes to standard output.

    Examples:

      shokado keys create --name ci --role predict

      shokado keys create --name me --role admin --file /etc/shokado/keys.yaml
    """
    with _plain_errors():
        configured = None if file is not None else _configured()
        path = file or configured or ROOT / DEFAULT_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        secret = add_key(path, name, role)
        typer.echo(f"Key {name} ({role}) is in {path}. It is shown this once:", err=True)
        typer.echo(secret)
        if file is None and configured is None:
            typer.echo(f"next: SHOKADO_ACCESS__KEYS_FILE={DEFAULT_FILE} bentoml serve", err=True)


@app.command("list")
def list_(file: KeysFile = None) -> None:
    """Show the names and roles of the keys.

    Examples:

      shokado keys list
    """
    with _plain_errors():
        path = file or _configured() or ROOT / DEFAULT_FILE
        for key in read_keys(path).keys:
            typer.echo(f"{key.name}  {key.role}  sha256:{key.sha256[:8]}")


@app.command()
def revoke(name: Annotated[str, typer.Argument(help="The key's name.")], file: KeysFile = None) -> None:
    """Take a key out of the file.

    Examples:

      shokado keys revoke ci
    """
    with _plain_errors():
        path = file or _configured() or ROOT / DEFAULT_FILE
        revoke_key(path, name)
        typer.echo(f"Key {name} is revoked.")
