"""`shokado watch`: what an alias of the registry comes to name goes to staging, and becomes a candidate in production.

Exit status 0: nothing new, or taken; 1: refused; 2: wrong usage; 3: with --once, under way.
"""

import re
import time
from pathlib import Path
from typing import Annotated

import typer

from configuration.canary_policy import DEFAULT_FILE as CANARY_FILE
from shokado.cli.canary import INCONCLUSIVE_STATUS
from shokado.cli.promote import (
    CanaryPolicyFile,
    NoAliases,
    PlanFile,
    Share,
    check_apart,
    opened_environments,
    policy_of,
)
from shokado.lifecycle.refusal import plain_errors


def watch(
    address: Annotated[str, typer.Argument(help="models:/<name>@<alias>, or models:/<name>/latest.")],
    source: Annotated[str, typer.Option("--from", help="The site where it is tried.")] = "staging",
    target: Annotated[str, typer.Option("--to", help="The site where it becomes a candidate.")] = "production",
    policy: CanaryPolicyFile = CANARY_FILE,
    plan: PlanFile = None,
    share: Share = 10,
    every: Annotated[float, typer.Option("--every", min=0.1, help="Seconds between two looks at the registry.")] = 30,
    once: Annotated[bool, typer.Option("--once", help="Look once, and wait for nothing, as a cron job would.")] = False,
    journal: Annotated[
        Path | None, typer.Option("--journal", help="What became of versions; by default below var/watch/.")
    ] = None,
    no_aliases: NoAliases = False,
) -> None:
    """Watch the registry: a new version is tried in staging, and becomes a candidate in production by policy.

    It is loaded into staging, its numbers are compared with its card, it gets that environment's traffic, and a smoke
    test; production gets the very same artefact, and the canary's policy, or an experiment's plan, decides. What was
    taken or refused is noted in the journal and left alone from then on; a watch that was killed goes on where it was.

    Examples:

      shokado watch models:/churn@challenger

      shokado watch models:/churn@challenger --once --journal /var/lib/shokado/churn.json
    """
    check_apart(source, target)
    with opened_environments({source: "watch", target: "watch"}) as environments, plain_errors():
        from shokado.lifecycle.delivery.registry_aliases import RegistryAliases
        from shokado.lifecycle.importing import registry
        from shokado.lifecycle.watching.registry_watch import RegistryWatch
        from shokado.lifecycle.watching.watch_journal import WatchStage, opened_journal

        registry.check_address(address)
        named = re.sub(r"[^A-Za-z0-9._-]+", "-", address.removeprefix("models:/"))
        path = journal or Path("var", "watch", f"{named}.json")
        chosen = policy_of(environments[target], policy, plan, share, force=False)
        with opened_journal(path) as noted, registry.session() as client:
            watching = RegistryWatch(
                lambda: registry.resolve(client, address),
                environments[source],
                environments[target],
                chosen,
                noted,
                None if no_aliases else RegistryAliases(client),
                typer.echo,
                waits=not once,
            )
            while not once:
                watching.look()
                time.sleep(every)
            entry = watching.look()
            if entry is None:
                if watching.in_the_way:
                    raise typer.Exit(INCONCLUSIVE_STATUS)
                typer.echo(f"nothing new at {address}")
            elif entry.stage is WatchStage.REFUSED:
                raise typer.Exit(1)
            elif not entry.stage.is_settled:
                raise typer.Exit(INCONCLUSIVE_STATUS)
