"""`shokado stage`, `promote` and `rollback`: a version's way from one environment to the next, and back.

Exit status 0: done; 1: refused, or the version failed and was taken back; 2: wrong usage; 3: too little was seen.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configuration.canary_policy import DEFAULT_FILE as CANARY_FILE
from configuration.canary_policy import load_policy
from configuration.experiment_plan import load_plan
from configuration.settings import SettingsError
from shokado.cli.canary import INCONCLUSIVE_STATUS
from shokado.cli.site_options import opened_site, site_named
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.refusal import plain_errors

if TYPE_CHECKING:
    from shokado.lifecycle.delivery.promotion import OpenSite, Policy
    from shokado.lifecycle.delivery.registry_aliases import RegistryAliases

CanaryPolicyFile = Annotated[Path, typer.Option("--policy", help="The steps of the canary, and what must not happen.")]
PlanFile = Annotated[Path | None, typer.Option("--plan", help="An experiment's plan, in place of the canary's policy.")]
Share = Annotated[
    float, typer.Option("--share", min=0.1, max=99, help="Percent of the traffic for the candidate of a plan.")
]
NoAliases = Annotated[bool, typer.Option("--no-aliases", help="Leave aliases in the MLflow registry as they are.")]
Why = Annotated[str, typer.Option("--why", help="For the history.")]


def promote(
    source: Annotated[str, typer.Option("--from", help="The site whose active version it is.")] = "staging",
    target: Annotated[str, typer.Option("--to", help="The site where it becomes a candidate.")] = "production",
    policy: CanaryPolicyFile = CANARY_FILE,
    plan: PlanFile = None,
    share: Share = 10,
    wait: Annotated[bool, typer.Option("--wait", help="Look until it is active, or was taken back.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also where rows seen lately lack features that the version needs.")
    ] = False,
    no_aliases: NoAliases = False,
) -> None:
    """Bring staging's active version one stage further in production: loaded, candidate, next step, active.

    Its numbers are compared with its card in both environments, and production gets the very same artefact, before it
    has any traffic. By the canary's policy, or an experiment's plan, it becomes the active version; then the alias of
    the environment in the MLflow registry, such as @champion, names it.

    Examples:

      shokado promote

      shokado promote --wait

      shokado promote --from staging --to production --plan configuration/shadow_experiment.yaml
    """
    check_apart(source, target)
    with opened_environments({source: "promote", target: "promote"}) as environments, plain_errors():
        from shokado.lifecycle.delivery.promotion import CandidateStage, Promotion, follow

        chosen = policy_of(environments[target], policy, plan, share, force=force)
        with asked_aliases(no_aliases) as aliases:
            promotion = Promotion(environments[source], environments[target], chosen, typer.echo)
            stage = promotion.advance(wait=wait)
            if aliases is not None:
                for environment in environments.values():
                    follow(environment, aliases, typer.echo)
    if stage is CandidateStage.FAILED:
        raise typer.Exit(1)
    if stage is not CandidateStage.ACTIVE:
        typer.echo("next: shokado promote")
    if stage is CandidateStage.UNDECIDED:
        raise typer.Exit(INCONCLUSIVE_STATUS)


def rollback(
    environment: Annotated[
        str, typer.Option("--environment", help="A site of configuration/sites.yaml.")
    ] = "production",
    why: Why = "by hand",
    no_aliases: NoAliases = False,
) -> None:
    """Go back: a candidate is taken back, or the version that was active before gets all of the traffic.

    What it goes back to is loaded again where need be, and its numbers are compared with its card before it gets any
    traffic. The environment's alias in the MLflow registry is moved back with it.

    Examples:

      shokado rollback --why "complaints from support"

      shokado rollback --environment staging
    """
    with opened_environments({environment: "rollback"}) as environments, plain_errors():
        from shokado.lifecycle.delivery.promotion import follow
        from shokado.lifecycle.delivery.rollback import roll_back

        with asked_aliases(no_aliases) as aliases:
            after = roll_back(environments[environment], why, typer.echo)
            typer.echo(f"{after}; {after.active} is the active version")
            if aliases is not None:
                follow(environments[environment], aliases, typer.echo)


def stage(
    source: Annotated[
        str, typer.Argument(help="models:/churn/3, models:/churn@challenger, or a tag of the server's BentoML store.")
    ],
    environment: Annotated[str, typer.Option("--environment", help="A site of configuration/sites.yaml.")] = "staging",
    label: Annotated[str | None, typer.Option("--as", help="Its name there; by default v and its number.")] = None,
    why: Why = "",
    no_aliases: NoAliases = False,
) -> None:
    """Load a version into staging, compare its numbers with its card, and make it the active version there.

    It gets all of that environment's traffic, and the alias @staging.

    Examples:

      shokado stage models:/churn@challenger

      shokado stage models:/churn/3 --as v3 --why retrained
    """
    with opened_environments({environment: "stage"}) as environments, plain_errors():
        from shokado.lifecycle.delivery.promotion import follow
        from shokado.lifecycle.delivery.staging import activate, exact_source, staged

        with asked_aliases(no_aliases) as aliases:
            version = staged(environments[environment], exact_source(source), label, typer.echo, why)
            typer.echo(activate(environments[environment], version, why))
            if aliases is not None:
                follow(environments[environment], aliases, typer.echo)


def check_apart(source: str, target: str) -> None:
    """Raise `BadParameter` where both are the same site."""
    if source == target:
        raise typer.BadParameter(f"{source} is both where a version comes from and where it goes to.")


def policy_of(environment: "OpenSite", policy: Path, plan: Path | None, share: float, *, force: bool) -> "Policy":
    """What makes a candidate the active version there. Raises `LifecycleError`."""
    from shokado.lifecycle.delivery.candidate_policies import ByCanary, ByExperiment
    from shokado.lifecycle.rollout.canary import Canary

    gateway = environment.gateway
    try:
        if plan is not None:
            return ByExperiment(gateway, load_plan(plan).model_dump(mode="json"), share)
        return ByCanary(gateway, Canary(gateway, load_policy(policy), force=force))
    except SettingsError as error:
        raise LifecycleError(str(error)) from error


@contextmanager
def opened_environments(commands: dict[str, str]) -> Iterator["dict[str, OpenSite]"]:
    """The environments, open, by the names of their sites; each with the command that its history names."""
    with ExitStack() as opened:
        from shokado.lifecycle.delivery.promotion import OpenSite

        found: dict[str, OpenSite] = {}
        for name, command in commands.items():
            with plain_errors():
                site = site_named(name)
            found[name] = OpenSite(name, site, opened.enter_context(opened_site(site, command)))
        yield found


@contextmanager
def asked_aliases(left: bool) -> Iterator["RegistryAliases | None"]:
    """The registry's aliases, asked before anything is changed; None where they are left as they are."""
    if left:
        yield None
        return
    from shokado.lifecycle.delivery.registry_aliases import opened_aliases

    with ExitStack() as opened:
        try:
            aliases: Any = opened.enter_context(opened_aliases())
        except LifecycleError as error:
            message = f"{error} Nothing was changed; without aliases it goes on with --no-aliases."
            raise LifecycleError(message, error.next_command) from error
        yield aliases
