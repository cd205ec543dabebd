"""Bringing: the addresses of an order go in, an artefact for each is in the model store afterwards.

What is there already under an exact address is found without opening the registry, so that the second start is at once.
"""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runners.artefacts import repository
from runners.artefacts.artefact import Artefact, ArtefactError, check_alike
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.importing import names, onnx_files, registry
from shokado.lifecycle.importing.onnx_files import OnnxFile
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
            or give; rows of one are kept from an earlier import, and are not to be.
    """
    found = {address: _found(order, address) for address in order.addresses}
    if not all(found.values()):
        # As for `import_version`: one process at a time opens the registry.
        with repository.exclusive("registry"), _session(order) as client:
            found = _import(client, order, found)
    brought = [Brought(address, imported) for address, imported in found.items() if imported]
    by_tag: dict[str, str] = {}
    for one in brought:
        if (first := by_tag.setdefault(one.artefact.tag, one.address)) != one.address:
            raise LifecycleError(f"{first} and {one.address} are both {one.artefact.tag}: name each version once.")
    for one in brought:
        if one.artefact.card.needs_python:
            raise LifecycleError(
                f"{one.artefact.tag} is scored by another server: write a serving.yaml that gives it `placement: "
                "remote` and says where, and serve that.",
                "shokado serve --config serving.yaml",
            )
    for one in brought if not order.keep_rows else ():
        _refuse_rows(one)
    try:
        check_alike([one.artefact for one in brought])
    except ArtefactError as error:
        raise LifecycleError(f"{error}.") from error
    return brought


@contextmanager
def _session(order: ServeOrder) -> Iterator["MlflowClient | None"]:
    """A client of the registry, if an address is of one."""
    if all(map(onnx_files.is_named, order.addresses)):
        registry.require_packages()
        yield None
    else:
        with registry.session() as client:
            yield client


def _found(order: ServeOrder, address: str) -> Imported | None:
    if (artefact := _stored(order, address)) is None and _is_exact(address):
        artefact = already_there(_import_order(order, address))
    return Imported(artefact, ImportOutcome.ALREADY_THERE) if artefact else None


def _stored(order: ServeOrder, address: str) -> Artefact | None:
    """The version of the store that the address is the tag of."""
    try:
        artefact = onnx_files.imported_before(address)
    except ArtefactError as error:
        raise LifecycleError(f"{error}.") from error
    if artefact is not None and artefact.card.model != order.name:
        raise LifecycleError(f"{address} is a version of {artefact.card.model}, and not of {order.name}.")
    return artefact


def _is_exact(address: str) -> bool:
    return onnx_files.is_named(address) or registry.is_exact(address)


def _import(
    client: "MlflowClient | None", order: ServeOrder, found: Mapping[str, Imported | None]
) -> dict[str, Imported | None]:
    exact = {
        address: address
        if there or client is None or onnx_files.is_named(address)
        else registry.resolve(client, address)
        for address, there in found.items()
    }
    addresses: dict[str, str] = {}
    for address, uri in exact.items():
        if addresses.setdefault(uri, address) != address:
            raise LifecycleError(f"{addresses[uri]} and {address} are both {uri} now: name each version once.")
    return {address: found[address] or import_from(client, _import_order(order, uri)) for address, uri in exact.items()}


def _import_order(order: ServeOrder, uri: str) -> ImportOrder:
    file = OnnxFile(uri) if onnx_files.is_named(uri) else None
    address, label = (uri, registry.label_of(uri)) if file is None else (file.uri, file.label)
    return ImportOrder(
        address, label, order.name, WhenTaken.BESIDE, formats=order.formats, file=file, keep_rows=order.keep_rows
    )


def _refuse_rows(brought: Brought) -> None:
    """Raise `LifecycleError` where an earlier import has kept rows."""
    artefact = brought.artefact
    if artefact.card.background is None:
        return
    address = artefact.card.source.uri if brought.address == artefact.tag else brought.address
    names_of_it = ["--name", artefact.card.model, "--as", artefact.version]
    raise LifecycleError(
        f"{artefact.tag} was imported before, and keeps rows of its data. Import it again without them.",
        shlex.join(["shokado", "models", "import", address, *names_of_it, "--no-rows", "--replace"]),
    )
