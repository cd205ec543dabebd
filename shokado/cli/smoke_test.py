"""`shokado smoke-test`: is what a running server serves what it should be? A table, and an exit status.

Exit status 0: all is well; 1: something is not, or nobody answers; 2: wrong usage.
"""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from shokado.cli.site_options import KeyFile, SiteName, Url, chosen_site, opened_site
from shokado.cli.version_tables import show
from shokado.lifecycle.refusal import plain_errors

_COLOURS = {"ok": "green", "failed": "red", "left out": "yellow"}


def smoke_test(
    environment: SiteName = None,
    url: Url = None,
    version: Annotated[
        list[str] | None, typer.Option("--version", help="Whose numbers are compared; by default all. May be repeated.")
    ] = None,
    requests: Annotated[
        int, typer.Option("--requests", min=0, max=100_000, help="Sent to see the split; 0: it is left out.")
    ] = 200,
    key_file: KeyFile = None,
) -> None:
    """Try a running server: health, right numbers of each version, every dialect's example, the split, metrics.

    Numbers are compared with the cards of the model store here, or, where it has none of them, with what the server
    tells itself. Nothing is changed; requests are counted as any others, with units that begin with smoke-test-.

    Examples:

      shokado smoke-test --environment staging

      shokado smoke-test --url http://127.0.0.1:3000 --version v2 --requests 0
    """
    with plain_errors():
        name, site = chosen_site(environment, url, key_file)
    with opened_site(site, "smoke-test") as gateway:
        from shokado.lifecycle.delivery.smoke_test import SmokeOutcome, SmokeTest, SmokeTestOrder

        found = list(SmokeTest(gateway, SmokeTestOrder(tuple(version or ()), requests)).findings())
    table = Table("check", "", "what was seen", box=None)
    for one in found:
        table.add_row(escape(one.what), f"[{_COLOURS[one.outcome]}]{one.outcome}[/]", escape(one.text))
    show(table)
    failed = [one for one in found if one.outcome is SmokeOutcome.FAILED]
    if failed:
        typer.echo(f"{name}: {len(failed)} of {len(found)} checks failed", err=True)
        raise typer.Exit(1)
    left_out = sum(one.outcome is SmokeOutcome.LEFT_OUT for one in found)
    typer.echo(f"{name}: all is well" + (f", {left_out} left out" if left_out else ""))
