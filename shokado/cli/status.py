"""`shokado status`: all environments on one screen.

Exit status 0: all were seen; 1: one does not answer; 2: wrong usage.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from configuration.sites import EnvironmentSite
from shokado.cli.site_options import KeyFile, Url, chosen_site, opened_site, sites
from shokado.cli.version_tables import show
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.refusal import plain_errors

if TYPE_CHECKING:
    from shokado.lifecycle.delivery.environment_status import EnvironmentStatus, VersionInEnvironment, WorkloadStatus


def status(
    environments: Annotated[
        list[str] | None, typer.Argument(help="Sites of configuration/sites.yaml; by default all of them.")
    ] = None,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Show all environments: versions, shares, the last minute's traffic, drift, the verdict, pods and autoscaling.

    Pods are shown of a site with a namespace, by kubectl; traffic is what the server that answers has seen. Drift needs
    an admin key.

    Examples:

      shokado status

      shokado status production

      shokado status --url http://127.0.0.1:3000
    """
    with plain_errors():
        if url is not None:
            chosen = [chosen_site(next(iter(environments or ()), None), url, key_file)]
        else:
            chosen = [chosen_site(name, None, key_file) for name in environments or sites()]
    # Reports of one site must not wait for another that is away.
    unseen = [name for name, site in chosen if not _shown(name, site)]
    if unseen:
        raise typer.Exit(1)


def _shown(name: str, site: EnvironmentSite) -> bool:
    """Show an environment, or what is in the way; whether it was seen."""
    from shokado.lifecycle.delivery.environment_status import environment_status

    console = Console(highlight=False)
    try:
        with opened_site(site, "status") as gateway:
            try:
                found = environment_status(gateway, site)
            except LifecycleError as error:
                text = f"[bold]{escape(name)}[/]  {escape(site.url)}  [red]not seen:[/] {escape(str(error))}"
                console.print(text, soft_wrap=True)
                return False
    except typer.Exit:
        return False
    _show(console, name, site, found)
    return True


def _show(console: Console, name: str, site: EnvironmentSite, found: "EnvironmentStatus") -> None:
    split = found.split
    machines = len({worker.machine for worker in found.workers})
    told = f"{split.active} is active, generation {split.generation}, {split.strategy}"
    told += "" if split.enabled else ", without a split"
    told += f", {len(found.workers)} workers on {machines} machine{'s' * (machines != 1)}" if found.workers else ""
    console.print(f"[bold]{escape(name)}[/]  {escape(site.url)}  {escape(told)}", soft_wrap=True)
    if found.experiment is not None:
        one = found.experiment
        state = one.verdict if one.running else f"{one.verdict}, ended {one.ended_at:%Y-%m-%d %H:%M}"
        text = f"experiment {one.id} of {', '.join(one.candidates)} against {one.control}: {state}"
        console.print(f"  {escape(text)}{escape(f'; {one.reason}' if one.reason else '')}", soft_wrap=True)
    table = Table("version", "", "share", "state", "requests/s", "errors", "p99 ms", "drift", "source", box=None)
    for version in found.versions:
        table.add_row(*(escape(cell) for cell in _cells(version)))
    show(table)
    if found.workloads:
        show(_workload_table(found.workloads))
    for reason in found.untold:
        console.print(f"  not told: {escape(reason)}", soft_wrap=True)


def _cells(one: "VersionInEnvironment") -> list[str]:
    roles = [role for role, has in (("active", one.is_active), ("shadow", one.is_shadow)) if has]
    recent = one.recent
    p99 = recent.latency_ms.p99 if recent is not None else None
    return [
        one.version.version,
        ", ".join(roles),
        f"{100 * one.share:g} %" if one.share else "",
        one.version.state,
        f"{recent.request_rate_per_s:.1f}" if recent is not None else "",
        f"{recent.error_rate:.2%}" if recent is not None and recent.error_rate is not None else "",
        f"{p99:.1f}" if p99 is not None else "",
        one.drift or "",
        one.version.source.uri if one.version.source is not None else "",
    ]


def _workload_table(workloads: Sequence["WorkloadStatus"]) -> Table:
    table = Table("workload", "pods ready", "autoscaling", box=None)
    for one in workloads:
        table.add_row(escape(one.name), f"{one.ready} of {one.wanted}", escape(one.scaling))
    return table
