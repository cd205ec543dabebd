"""`shokado canary`: give a version more and more of a gateway's traffic, or take it back.

An image has it as `python -m shokado.cli.canary`.

Exit status 0: done; 1: refused, or the canary failed and was aborted; 2: wrong usage; 3: too little was seen to judge.
"""

import functools
import getpass
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configuration.canary_policy import DEFAULT_FILE, load_policy
from configuration.settings import SettingsError
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.refusal import plain_errors

if TYPE_CHECKING:
    from shokado.lifecycle.rollout.canary import Canary, CanaryStatus
    from shokado.lifecycle.rollout.gateway_client import GatewayClient

KEY_VARIABLE = "GATEWAY_KEY"
INCONCLUSIVE_STATUS = 3
"""An exit code of its own: a pipeline asks again, where 1 is a failure and 2 a mistyped command."""

app = typer.Typer(
    help="Give a version more and more of the traffic, or take it back.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Version = Annotated[str, typer.Argument(help="The version, or an alias of it.")]
Force = Annotated[
    bool,
    typer.Option("--force", help="Give traffic also where rows seen lately lack features that the version needs."),
]


@dataclass(frozen=True)
class Addressed:
    """Options of all commands: which gateway, which of its splits, and as whom."""

    url: Annotated[str, typer.Option("--url", help="Of the gateway.")] = "http://127.0.0.1:3000"
    environment: Annotated[
        str | None,
        typer.Option("--environment", help="Whose split it is; by default the gateway's default environment."),
    ] = None
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", help=f"A file with an admin key; by default the key is what {KEY_VARIABLE} says."),
    ] = None


@dataclass(frozen=True)
class Ruled(Addressed):
    """Options of the commands that follow a policy."""

    policy: Annotated[
        Path,
        typer.Option("--policy", help="The steps, and what must not happen meanwhile."),
    ] = DEFAULT_FILE


@dataclass(frozen=True)
class Judged(Ruled):
    """Options of the commands that look at what was observed."""

    prometheus: Annotated[
        str | None,
        typer.Option(
            "--prometheus", help="Address of a Prometheus that sees all gateways; without it, one is looked at."
        ),
    ] = None
    selector: Annotated[
        str,
        typer.Option("--selector", help='Labels by which Prometheus tells the gateways from all else: namespace="x".'),
    ] = ""


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function whose first parameter, `options`, is a dataclass: each field becomes an option."""
    options, *own = inspect.signature(function).parameters.values()
    # What the dataclass is made with, as typer reads it: annotated, and with defaults.
    fields = inspect.signature(options.annotation).parameters

    @functools.wraps(function)
    def run(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in fields}
        function(options.annotation(**chosen), **given)

    shown = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in (*fields.values(), *own)]
    vars(run)["__signature__"] = inspect.Signature(shown)
    return app.command()(run)


@command
def start(options: Ruled, version: Version, force: Force = False) -> None:
    """Give a version the first step's share of the traffic, and begin the policy's experiment at the gateway.

    Examples:

      shokado canary start v2

      shokado canary start v2 --url https://models.example.com --environment production --key-file admin.key
    """
    with _canary(options, force=force) as canary:
        typer.echo(f"{canary.start(version)}")
        typer.echo("next: shokado canary step")


@command
def step(options: Judged, force: Force = False) -> None:
    """Judge what was seen since the last step: PASS gives more, FAIL takes all back, INCONCLUSIVE changes nothing.

    The verdict of the experiment between the two is part of it: it must have ended well before the canary gets all.

    Examples:

      shokado canary step

      shokado canary step --policy by-accuracy.yaml
    """
    from shokado.lifecycle.rollout.verdict import Verdict

    with _canary(options, force=force) as canary:
        status, after = canary.step()
        _show(status)
        typer.echo(f"{after}")
        match status.judgement.verdict:
            case Verdict.FAIL:
                raise typer.Exit(1)
            case Verdict.INCONCLUSIVE:
                raise typer.Exit(INCONCLUSIVE_STATUS)
        typer.echo(f"next: shokado canary {'promote' if after == status.routing else 'step'}")


@command
def promote(options: Judged, force: Force = False) -> None:
    """Give the canary all of the traffic, and make it the active version, without waiting; refused while it fails.

    Examples:

      shokado canary promote
    """
    with _canary(options, force=force) as canary:
        after = canary.promote()
        typer.echo(f"{after}; {after.active} is the active version")


@command
def abort(options: Addressed, why: Annotated[str, typer.Option("--why", help="For the history.")] = "by hand") -> None:
    """Give all of the traffic back to the active version, and stop the experiment between the two.

    Examples:

      shokado canary abort --why "complaints from support"
    """
    with _canary(options) as canary:
        typer.echo(f"{canary.abort(why)}")


@command
def status(options: Judged) -> None:
    """Show the canary under way and the verdict on it; nothing is changed.

    Examples:

      shokado canary status
    """
    with _canary(options) as canary:
        found = canary.status()
        typer.echo(f"{found.routing}")
        _show(found)


@command
def run(options: Judged, version: Version, force: Force = False) -> None:
    """All of it: start, a step whenever the verdict is PASS, and the promotion; or the abort.

    Ended by Ctrl-C, it leaves the split as it is, and the experiment under way, which takes back what is worse.

    Examples:

      shokado canary run v2

      shokado canary run v2 --environment staging --policy careful.yaml
    """
    from shokado.lifecycle.rollout.verdict import Verdict

    with _canary(options, force=force) as canary:
        match canary.run(version, typer.echo):
            case Verdict.FAIL:
                raise typer.Exit(1)
            case Verdict.INCONCLUSIVE:
                raise typer.Exit(INCONCLUSIVE_STATUS)


@contextmanager
def opened_gateway(url: str, environment: str | None, key_file: Path | None, command: str) -> Iterator["GatewayClient"]:
    """A gateway for a command, which its history names beside the user; what goes wrong is said in plain words."""
    with plain_errors():
        from shokado.lifecycle.rollout.gateway_client import GatewayClient

        with GatewayClient(url, environment, key_of(key_file), f"{user()} (shokado {command})") as gateway:
            yield gateway


@contextmanager
def _canary(options: Addressed, *, force: bool = False) -> Iterator["Canary"]:
    with plain_errors():
        from shokado.lifecycle.rollout.canary import Canary
        from shokado.lifecycle.rollout.prometheus import Prometheus

        try:
            rules = load_policy(options.policy if isinstance(options, Ruled) else DEFAULT_FILE)
        except SettingsError as error:
            raise LifecycleError(str(error)) from error
        with opened_gateway(options.url, options.environment, options.key_file, "canary") as gateway:
            observe = gateway.observed
            if isinstance(options, Judged) and options.prometheus:
                observe = Prometheus(options.prometheus, options.selector).observed
            yield Canary(gateway, rules, observe, force=force)


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


def _show(status: "CanaryStatus") -> None:
    typer.echo(f"{status.judgement.verdict} at {status.routing.percent:g} %, after {status.seconds:.0f} s")
    for finding in status.judgement.findings:
        typer.echo(f"  {finding.verdict:<12}  {finding.text}")


if __name__ == "__main__":
    # In an image, which has no other commands.
    app()
