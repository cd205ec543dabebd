"""Staging: a version of the registry, or of a server's store, is loaded into an environment, tried, and made active."""

from shokado.client import operations
from shokado.client.answers import Version
from shokado.lifecycle.delivery.promotion import OpenSite, Say
from shokado.lifecycle.delivery.registry_aliases import registered_of
from shokado.lifecycle.delivery.wanted_version import WantedVersion, bring, require_right_numbers
from shokado.lifecycle.errors import DeliveryRefused
from shokado.lifecycle.importing import registry


def exact_source(source: str) -> str:
    """An address of the registry as the exact one that it means now; a tag as it is. Raises `LifecycleError`."""
    if not source.startswith(("models:/", "runs:/")):
        return source
    registry.check_address(source)
    if registry.is_exact(source):
        return source
    with registry.session() as client:
        return registry.resolve(client, source)


def staged(environment: OpenSite, source: str, label: str | None, say: Say, why: str) -> Version:
    """The version, ready in the environment, with right numbers. Raises `LifecycleError`.

    `source` is an exact address, a tag of the server's store, or a version that the server has.
    """
    gateway = environment.gateway
    listed = {one.version: one for one in gateway.ask(operations.versions()).versions}
    if source in listed:
        require_right_numbers(gateway, listed[source], environment.name)
        return listed[source]
    if registered_of(source) is not None:
        label = label or registry.label_of(source)
    elif ":" in source and "/" not in source:
        label = label or source.partition(":")[2]
    if label is None:
        message = f"{source} is no version of {environment.name}, which has {', '.join(listed)}."
        raise DeliveryRefused(message, f"shokado stage models:/<name>/<number> --environment {environment.name}")
    version = bring(gateway, WantedVersion(source, label), say, why)
    require_right_numbers(gateway, version, environment.name)
    return version


def activate(environment: OpenSite, version: Version, why: str) -> str:
    """Give the version all of the environment's traffic; what the routing is then. Raises `LifecycleError`."""
    gateway, name = environment.gateway, version.version
    routing = gateway.routing()
    if routing.active == name and set(routing.shares) == {name}:
        return f"{name} is active in {environment.name} already"
    weights = dict.fromkeys([*routing.shares, routing.active], 0.0) | {name: 100.0}
    after = gateway.change(routing, {"weights": weights, "active": name}, why or f"{name} is tried")
    return f"{name} is active in {environment.name}: {after}"
