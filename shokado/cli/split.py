"""`shokado split`: what a change of a gateway's traffic split would do, before it is made.

Exit status 0: done; 1: refused; 2: wrong usage.
"""

import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from shokado.cli.canary import KEY_VARIABLE, opened_gateway
from shokado.cli.version_tables import show
from shokado.lifecycle.errors import LifecycleError

if TYPE_CHECKING:
    from shokado.client.answers import Preview, RecentPreview
    from shokado.lifecycle.rollout.gateway_client import GatewayClient

STANDARD_INPUT = Path("-")
DRAWN = "A unit does not decide here: each request is drawn by the shares."

app = typer.Typer(help="Look at changes of the traffic split.", no_args_is_help=True, rich_markup_mode="rich")


class StrategyName(StrEnum):
    """How versions are assigned."""

    RANDOM = "random"
    HASH = "hash"
    WEIGHTED = "weighted"


@app.callback()
def split() -> None:
    """Look at changes of the traffic split."""


def _weights(text: str) -> dict[str, float]:
    """Weights by version, of `v1=50,v2=50`."""
    found: dict[str, float] = {}
    for part in text.split(","):
        version, separator, weight = (word.strip() for word in part.partition("="))
        try:
            number = float(weight)
        except ValueError:
            number = -1.0
        if not (version and separator) or not 0 <= number < float("inf"):
            raise typer.BadParameter(f"{part.strip()!r} is no weight such as v1=50")
        if version in found:
            raise typer.BadParameter(f"{version} has two weights")
        found[version] = number
    return found


@app.command()
def preview(  # noqa: PLR0913, PLR0917  # each is an option
    weights: Annotated[
        dict[str, float] | None,
        typer.Option(parser=_weights, metavar="V1=50,V2=50", help="All versions that are to have traffic."),
    ] = None,
    strategy: Annotated[StrategyName | None, typer.Option(help="Another strategy.")] = None,
    salt: Annotated[str | None, typer.Option(help="Another one deals all units out anew, under hash.")] = None,
    active: Annotated[str | None, typer.Option(help="Another active version.")] = None,
    enabled: Annotated[bool | None, typer.Option("--on/--off", help="Switch the split on or off.")] = None,
    units: Annotated[
        Path | None, typer.Option(help="A file of units, one a line, as X-Unit-ID names them; - reads what comes in.")
    ] = None,
    recent: Annotated[
        bool, typer.Option("--recent", help="Look at the requests of the last minutes; needs an admin key.")
    ] = False,
    examples: Annotated[int, typer.Option(min=0, help="How many units are named of each way of moving.")] = 5,
    url: Annotated[str, typer.Option("--url", help="Of the gateway.")] = "http://127.0.0.1:3000",
    environment: Annotated[
        str | None, typer.Option("--environment", help="Whose split it is; by default the gateway's default one.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", help=f"A file with a key; by default it is what {KEY_VARIABLE} says.")
    ] = None,
) -> None:
    """Tell how many would move from where to where for a change of the split. Nothing is changed.

    Without --units or --recent, a thousand made-up units are looked at.

    Examples:

      shokado split preview --weights v1=50,v2=50

      shokado split preview --weights v1=50,v2=50 --units users.txt

      cut -d, -f1 users.csv | shokado split preview --weights v1=0,v2=100 --units - --examples 20

      shokado split preview --weights v1=50,v2=50 --recent --url https://models.example.com --key-file admin.key

      shokado split preview --strategy hash --salt autumn --environment staging
    """
    named = {"weights": weights, "strategy": strategy, "salt": salt, "active": active, "enabled": enabled}
    change = {name: value for name, value in named.items() if value is not None}
    if not change:
        raise typer.BadParameter("say what to change: --weights, --strategy, --salt, --active, --on or --off")
    if recent and units is not None:
        raise typer.BadParameter("--units looks at a file, and --recent at requests: give one of both")
    with opened_gateway(url, environment, key_file, "split") as gateway:
        if recent:
            _show_recent(gateway.preview_recent(change))
        else:
            _show_units(*_previewed(gateway, change, units, examples))


def _previewed(
    gateway: "GatewayClient", change: Mapping[str, Any], file: Path | None, examples: int
) -> tuple["Preview", str]:
    """What is told of the units of a file, and what they are called."""
    from shokado.lifecycle.rollout.unit_moves import preview_of, read_units

    if file is None:
        return preview_of(gateway, change, None, examples), "made-up units"
    if file == STANDARD_INPUT:
        return preview_of(gateway, change, read_units(sys.stdin, "standard input"), examples), "units"
    try:
        # A spreadsheet may have written a mark at the beginning.
        with file.open(encoding="utf-8-sig") as lines:
            units = read_units(lines, str(file))
    except OSError as error:
        raise LifecycleError(f"{file} cannot be read: {error.strerror or error}.") from error
    return preview_of(gateway, change, units, examples), "units"


def _show_units(found: "Preview", called: str) -> None:
    if found.moved is None or found.stay is None:
        typer.echo(f"{found.environment}: {DRAWN}")
        _show_shares("share", found.shares_before, found.shares_after)
        return
    share = found.moved / found.units
    typer.echo(
        f"{found.environment}: {found.moved:,} of {found.units:,} {called} ({share:.2%}) would get another version"
    )
    if found.moves:
        table = Table("from", "to", "units", "share", "such as", box=None)
        for move in found.moves:
            named = escape(", ".join(move.examples)) + (", .." if len(move.examples) < move.units else "")
            table.add_row(move.before, move.after, f"{move.units:,}", f"{move.share:.2%}", named)
        show(table)
    stay = ", ".join(f"{number:,} with {version}" for version, number in found.stay.items())
    typer.echo(f"stay: {stay or 'none'}")
    _show_shares("share", found.shares_before, found.shares_after)
    typer.echo(f"Nothing was changed; compared with generation {found.generation}.")


def _show_recent(found: "RecentPreview") -> None:
    if not found.sampled:
        typer.echo(f"{found.environment}: nobody has asked in the last minutes")
        return
    if found.moved is None:
        typer.echo(f"{found.environment}: {DRAWN}")
    else:
        low, high = found.moved.low, found.moved.high
        typer.echo(
            f"{found.environment}: {found.moved.value:.2%} of the requests ({low:.2%} to {high:.2%}) would have got "
            "another version"
        )
    if found.moves:
        table = Table("from", "to", "requests", "units", box=None)
        for move in found.moves:
            table.add_row(move.before, move.after, f"{move.share:.2%}", f"{move.units:,}")
        show(table)
    _show_shares("traffic", found.traffic_before, found.traffic_after)
    facts = [
        f"{found.requests:,} requests within {found.seconds:.0f} s",
        f"{found.sampled:,} of {found.units:,} units were looked at",
        f"{found.pinned:.2%} of them name a version and stay" if found.pinned else "",
        "another salt deals all units out anew: this is an example" if found.dealt_anew else "",
    ]
    typer.echo("; ".join(fact for fact in facts if fact))
    typer.echo(f"Nothing was changed; compared with generation {found.generation}.")


def _show_shares(what: str, before: Mapping[str, float], after: Mapping[str, float]) -> None:
    table = Table("version", f"{what} now", "then", box=None)
    for version in sorted(before.keys() | after.keys()):
        table.add_row(version, f"{before.get(version, 0.0):.2%}", f"{after.get(version, 0.0):.2%}")
    show(table)
