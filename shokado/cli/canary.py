"""`shokado canary`: give a version more and more of a gateway's traffic, or take it back.

An image has it as `python -m shokado.cli.canary`.

Exit status 0: done; 1: refused, or the canary failed and was aborted; 2: wrong usage; 3: too little was seen to judge.
"""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configuration.canary import DEFAULT_FILE, load_policy
from configuration.settings import SettingsError
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.refusal import plain_errors

if TYPE_CHECKING:
    from shokado.lifecycle.rollout.canary import Canary, Status

KEY_VARIABLE = "GATEWAY_KEY"
INCONCLUSIVE_STATUS = 3

app = typer.Typer(
    help="Give a version more and more of the traffic, or take it back.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Version = Annotated[str, typer.Argument(help="The version, or an alias of it.")]
Url = Annotated[str, typer.Option("--url", help="Of the gateway.")]
Environment = Annotated[
    str | None, typer.Option("--environment", help="Whose split it is; by default the gateway's default environment.")
]
KeyFile = Annotated[
    Path | None,
    typer.Option("--key-file", help=f"A file with an admin key; by default the key is what {KEY_VARIABLE} says."),
]
PolicyFile = Annotated[Path, typer.Option("--policy", help="The steps, and what must not happen meanwhile.")]
Prometheus = Annotated[
    str | None,
    typer.Option("--prometheus", help="Address of a Prometheus that sees all gateways; without it, one is looked at."),
]
Selector = Annotated[
    str,
    typer.Option("--selector", help='Labels by which Prometheus tells the gateways from all else: namespace="x".'),
]

DEFAULT_URL = "http://127.0.0.1:3000"


@app.command()
def start(
    version: Version,
    url: Url = DEFAULT_URL,
    environment: Environment = None,
    key_file: KeyFile = None,
    policy: PolicyFile = DEFAULT_FILE,
) -> None:
    """Give a version the first step's share of the traffic.

    Examples:

      shokado canary start v2

      shokado canary start v2 --url https://models.example.com --environment production --key-file admin.key
    """
    with _canary(url, environment, key_file, policy) as canary:
        typer.echo(f"{canary.start(version)}")
        typer.echo("next: shokado canary step")


@app.command()
def step(
    url: Url = DEFAULT_URL,
    environment: Environment = None,
    key_file: KeyFile = None,
    policy: PolicyFile = DEFAULT_FILE,
    prometheus: Prometheus = None,
    selector: Selector = "",
) -> None:
    """Judge what was seen since the last step: PASS gives more, FAIL takes all back, INCONCLUSIVE changes nothing.

    Examples:

      shokado canary step
    """
    from shokado.lifecycle.rollout.verdict import Verdict

    with _canary(url, environment, key_file, policy, prometheus, selector) as canary:
        status, after = canary.step()
        _show(status)
        typer.echo(f"{after}")
        match status.judgement.verdict:
            case Verdict.FAIL:
                raise typer.Exit(1)
            case Verdict.INCONCLUSIVE:
                raise typer.Exit(INCONCLUSIVE_STATUS)
        typer.echo(f"next: shokado canary {'promote' if after == status.routing else 'step'}")


@app.command()
def promote(
    url: Url = DEFAULT_URL,
    environment: Environment = None,
    key_file: KeyFile = None,
    policy: PolicyFile = DEFAULT_FILE,
    prometheus: Prometheus = None,
    selector: Selector = "",
) -> None:
    """Give the canary all of the traffic, and make it the active version; refused while it fails.

    Examples:

      shokado canary promote
    """
    with _canary(url, environment, key_file, policy, prometheus, selector) as canary:
        after = canary.promote()
        typer.echo(f"{after}; {after.active} is the active version")


@app.command()
def abort(
    url: Url = DEFAULT_URL,
    environment: Environment = None,
    key_file: KeyFile = None,
    why: Annotated[str, typer.Option("--why", help="For the history.")] = "by hand",
) -> None:
    """Give all of the traffic back to the active version.

    Examples:

      shokado canary abort --why "complaints from support"
    """
    with _canary(url, environment, key_file) as canary:
        typer.echo(f"{canary.abort(why)}")


@app.command()
def status(
    url: Url = DEFAULT_URL,
    environment: Environment = None,
    key_file: KeyFile = None,
    policy: PolicyFile = DEFAULT_FILE,
    prometheus: Prometheus = None,
    selector: Selector = "",
) -> None:
    """Show the canary under way and the verdict on it; nothing is changed.

    Examples:

      shokado canary status
    """
    with _canary(url, environment, key_file, policy, prometheus, selector) as canary:
        found = canary.status()
        typer.echo(f"{found.routing}")
        _show(found)


@app.command()
def run(
    version: Version,
    url: Url = DEFAULT_URL,
    environment: Environment = None,
    key_file: KeyFile = None,
    policy: PolicyFile = DEFAULT_FILE,
    prometheus: Prometheus = None,
    selector: Selector = "",
) -> None:
    """All of it: start, a step whenever the verdict is PASS, and the promotion; or the abort.

    Ended by Ctrl-C, it leaves the split as it is.

    Examples:

      shokado canary run v2

      shokado canary run v2 --environment staging --policy careful.yaml
    """
    from shokado.lifecycle.rollout.verdict import Verdict

    with _canary(url, environment, key_file, policy, prometheus, selector) as canary:
        match canary.run(version, typer.echo):
            case Verdict.FAIL:
                raise typer.Exit(1)
            case Verdict.INCONCLUSIVE:
                raise typer.Exit(INCONCLUSIVE_STATUS)


@contextmanager
def _canary(
    url: str,
    environment: str | None,
    key_file: Path | None,
    policy: Path = DEFAULT_FILE,
    prometheus: str | None = None,
    selector: str = "",
) -> Iterator["Canary"]:
    with plain_errors():
        from shokado.lifecycle.rollout.canary import Canary
        from shokado.lifecycle.rollout.gateway import Gateway
        from shokado.lifecycle.rollout.prometheus import Prometheus

        try:
            rules = load_policy(policy)
        except SettingsError as error:
            raise LifecycleError(str(error)) from error
        with Gateway(url, environment, key_of(key_file), f"{user()} (shokado canary)") as gateway:
            observe = Prometheus(prometheus, selector).observed if prometheus else gateway.observed
            yield Canary(gateway, rules, observe)


def key_of(file: Path | None) -> str | None:
    try:
        key = os.environ.get(KEY_VARIABLE, "") if file is None else file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise LifecycleError(f"{file}: no key can be read: {error}") from error
    # What cannot be a header would be shown by the error about it.
    if not (key.isascii() and key.isprintable()) or (file is not None and not key):
        raise LifecycleError(f"{file or KEY_VARIABLE} does not hold one key.")
    return key or None


def user() -> str:
    """Who types this, for the history; a container may have no names for its users."""
    try:
        return getpass.getuser()[:40]
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _show(status: "Status") -> None:
    typer.echo(f"{status.judgement.verdict} at {status.routing.percent:g} %, after {status.seconds:.0f} s")
    for finding in status.judgement.findings:
        typer.echo(f"  {finding.verdict:<12}  {finding.text}")


if __name__ == "__main__":
    # In an image, which has no other commands.
    app()
