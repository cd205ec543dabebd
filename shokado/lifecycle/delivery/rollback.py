"""Rollback: an environment goes back to the version that was active before, in one change; or its candidate does.

candidate under way -> it is taken back -> the active version has all of the traffic, as before
else                -> the version before, ready, with right numbers -> active, with all of the traffic
"""

from collections.abc import Sequence

from shokado.client import operations
from shokado.lifecycle.delivery.promotion import OpenSite, Say
from shokado.lifecycle.delivery.wanted_version import require_right_numbers
from shokado.lifecycle.errors import DeliveryRefused
from shokado.lifecycle.rollout.gateway_client import Routing


def roll_back(environment: OpenSite, why: str, say: Say) -> Routing:
    """Take back the last thing that was done. Raises `LifecycleError`."""
    gateway = environment.gateway
    routing = gateway.routing()
    if (candidate := _shadow_under_way(environment, routing)) is not None:
        _stop_experiment(environment, why)
        say(f"{candidate} taken back in {environment.name}, whose shadow it was")
        return gateway.change(routing, {"shadow": None}, f"rollback: shadow {candidate} taken back: {why}")
    shares = routing.shares if routing.enabled else {}
    others = [name for name, share in shares.items() if name != routing.active and share > 0]
    if others:
        _stop_experiment(environment, why)
        weights = {routing.active: 100} | dict.fromkeys(others, 0)
        say(f"{', '.join(others)} taken back in {environment.name}")
        return gateway.change(routing, {"weights": weights}, f"rollback: {', '.join(others)} taken back: {why}")
    before = version_before(gateway.active_versions(routing.environment))
    if before is None:
        raise DeliveryRefused(
            f"{routing.active} is the first version that was active in {environment.name}: there is none to go back to."
        )
    listed = {one.version: one for one in gateway.ask(operations.versions()).versions}
    if before not in listed:
        raise DeliveryRefused(
            f"{before} was active in {environment.name} before, and is not known there any more.",
            f"shokado stage models:/.. --environment {environment.name} --as {before}",
        )
    version = listed[before]
    if version.state == "unloaded":
        say(f"load {before} again at {gateway.url}")
        version = gateway.ask(operations.load(before, why=f"rollback: {why}")).version
    require_right_numbers(gateway, version, environment.name)
    _stop_experiment(environment, why)
    change = {"weights": {routing.active: 0, before: 100}, "active": before}
    return gateway.change(routing, change, f"rollback from {routing.active} to {before}: {why}")


def version_before(actives: Sequence[str]) -> str | None:
    """The version to go back to, of those that were active, the oldest first; None where there is none.

    To come back to a version forgets what came after it, so that going back twice goes two versions back.
    """
    way: list[str] = []
    for version in actives:
        if version in way:
            del way[way.index(version) + 1 :]
        else:
            way.append(version)
    return way[-2] if len(way) > 1 else None


def _shadow_under_way(environment: OpenSite, routing: Routing) -> str | None:
    """The shadow that an experiment under way compares; None without one."""
    last = environment.gateway.last_experiment(routing.environment) if routing.shadow is not None else None
    return routing.shadow if last is not None and last.running and routing.shadow in last.candidates else None


def _stop_experiment(environment: OpenSite, why: str) -> None:
    """The one under way could move the split again."""
    gateway = environment.gateway
    last = gateway.last_experiment(gateway.routing().environment)
    if last is not None and last.running:
        gateway.stop_experiment(last.id, f"rollback: {why}")
