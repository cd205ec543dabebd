"""Bringing: the addresses of an order go in, an artefact for each is in the model store afterwards.

What is there already under an exact address is found without opening the registry, so that the second start is at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runners.artefacts import repository
from runners.artefacts.artefact import Artefact, ArtefactError, check_alike
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.importing import names, registry
from shokado.lifecycle.importing.version import (
    Imported,
    ImportOrder,
    ImportOutcome,
    WhenTaken,
    already_there,
    import_from,
)
from shokado.lifecycle.isolation import ProcessLimits, Work, isolated
from shokado.lifecycle.serving.order import ServeOrder

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Brought:
    """A version that can be served.

    Attributes:
        address: as it was typed.
        aliases: what requests may call it beside its label: the alias in the address, as the settings spell one.
    """

    address: str
    imported: Imported

    @property
    def artefact(self) -> Artefact:
        return self.imported.artefact

    @property
    def aliases(self) -> tuple[str, ...]:
        alias = registry.alias_of(self.address)
        return (names.fitting_name(alias),) if alias is not None else ()


def bring_isolated(order: ServeOrder, limits: ProcessLimits) -> list[Brought]:
    """`bring` in a process of its own, which is not started where nothing is missing.

    Raises `LifecycleError`: as `bring` does, and as `isolated` does.
    """
    if all(_found(order, address) for address in order.addresses):
        return bring(order)
    registry.require_packages()
    work = Work("shokado.lifecycle.serving", f"The import of {', '.join(order.addresses)}", order.command())
    stored = isolated(work, order, limits)
    return [Brought(address, Imported.of(one)) for address, one in zip(order.addresses, stored, strict=True)]


def bring(order: ServeOrder) -> list[Brought]:
    """Import what is missing; nothing is imported before all addresses are known to mean something.

    A label is the registry's number with a `v` before it. One that has another source gets a number behind it.

    Returns:
        The versions in the order of their addresses.

    Raises:
        LifecycleError: as for `import_version`; two addresses mean the same version; versions differ in what they take
            or give.
    """
    found = {address: _found(order, address) for address in order.addresses}
    if not all(found.values()):
        # As for `import_version`: one process at a time opens the registry.
        with repository.exclusive("registry"), registry.session() as client:
            found = _import(client, order, found)
    brought = [Brought(address, imported) for address, imported in found.items() if imported]
    for one in brought:
        if one.artefact.card.needs_python:
            raise LifecycleError(
                f"{one.artefact.tag} is in another server, MLflow's: write a serving.yaml that gives it `placement: "
                "remote` and says where, and serve that.",
                "shokado serve --config serving.yaml",
            )
    try:
        check_alike([one.artefact for one in brought])
    except ArtefactError as error:
        raise LifecycleError(f"{error}.") from error
    return brought


def _found(order: ServeOrder, address: str) -> Imported | None:
    artefact = already_there(_import_order(order, address)) if registry.is_exact(address) else None
    return Imported(artefact, ImportOutcome.ALREADY_THERE) if artefact else None


def _import(
    client: "MlflowClient", order: ServeOrder, found: Mapping[str, Imported | None]
) -> dict[str, Imported | None]:
    exact = {address: address if there else registry.resolve(client, address) for address, there in found.items()}
    addresses: dict[str, str] = {}
    for address, uri in exact.items():
        if addresses.setdefault(uri, address) != address:
            raise LifecycleError(f"{addresses[uri]} and {address} are both {uri} now: name each version once.")
    return {address: found[address] or import_from(client, _import_order(order, uri)) for address, uri in exact.items()}


def _import_order(order: ServeOrder, uri: str) -> ImportOrder:
    return ImportOrder(uri, registry.label_of(uri), order.name, WhenTaken.BESIDE, formats=order.formats)
