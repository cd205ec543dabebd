"""Quantizing: a version of the BentoML model store goes in, one with smaller weights and a receipt comes out.

    parent -> quantize (QuantizationRefused) -> compare -> worth having? (QuantizationRefused) -> card
           -> one rename into the store

Whatever fails, and whenever the process is killed, the store is as it was before.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from runners.artefacts import repository
from runners.artefacts.artefact import Artefact, ArtefactDamaged
from runners.artefacts.background import read_background
from runners.artefacts.card import Card, Examples, FileKind, Verification, write_card
from runners.artefacts.integrity import DamagedFile, describe_file
from runners.artefacts.reference import read_reference, write_reference
from runners.inputs.datatypes import BYTES
from shokado.lifecycle.errors import NothingToQuantize, QuantizationRefused, SourceNotFound, VersionTaken
from shokado.lifecycle.importing import registry
from shokado.lifecycle.importing.background_rows import with_background
from shokado.lifecycle.progress import say, step
from shokado.lifecycle.quantizing.quantize_order import QuantizeOrder

Found = TypeVar("Found")


class QuantizeOutcome(StrEnum):
    """What quantizing did to the store."""

    ALREADY_THERE = "already quantized"
    QUANTIZED = "quantized"
    REPLACED = "replaced"


@dataclass(frozen=True)
class Quantized:
    """The artefact, and whether it was there before."""

    artefact: Artefact
    outcome: QuantizeOutcome


def quantize_version(order: QuantizeOrder) -> Quantized:
    """Carry out the order.

    Raises:
        SourceNotFound: the store has no such version, or only a damaged one.
        ReferenceRefused: the file of rows cannot be used.
        QuantizationRefused: there is nothing to quantize, or it is not worth having.
        VersionTaken: something else is there under that label, and is to stay.
    """
    registry.require_packages()
    parent = _parent(order)
    with repository.staging() as stage:
        there = _there(order, parent)
        if there is not None and not order.replace:
            return Quantized(there, QuantizeOutcome.ALREADY_THERE)
        replaced = repository.folder_of(order.model, order.version).is_dir()
        artefact = _quantize(order, parent, stage)
        return Quantized(artefact, QuantizeOutcome.REPLACED if replaced else QuantizeOutcome.QUANTIZED)


def _parent(order: QuantizeOrder) -> Artefact:
    """The version to quantize, if that is a network of numbers."""
    model, _, version = order.tag.partition(":")
    try:
        parent = repository.look_up(model, version)
    except ArtefactDamaged as error:
        raise SourceNotFound(f"{error}.", "shokado models list") from error
    if parent is None:
        raise SourceNotFound(f"The store has no {order.tag}.", f"shokado models list {shlex.quote(model)}")
    card = parent.card
    if card.quantized is not None:
        raise QuantizationRefused(
            f"{order.tag} is quantized already, from {card.quantized.parent}: quantize that one.",
            order.command(tag=card.quantized.parent),
        )
    if card.input_datatype == BYTES:
        raise _refused(order, "it takes a text, and what is large of such a model is its vocabulary, not its weights")
    if card.needs_python:
        raise _refused(order, "it is scored by another server, which has its weights")
    if card.takes_float64:
        raise _refused(order, "its rows are float64, as its numbers have more digits than float32, and weights few")
    if FileKind.ONNX not in card.files:
        raise _refused(order, "it has XGBoost's own file alone, and that is trees, which have no weights to quantize")
    return parent


def _refused(order: QuantizeOrder, reason: str) -> QuantizationRefused:
    return QuantizationRefused(f"{order.tag} cannot be quantized: {reason}.", f"shokado models list {order.model}")


def _there(order: QuantizeOrder, parent: Artefact) -> Artefact | None:
    """What the order would make, if it is there. Raises `VersionTaken` where another one is."""
    try:
        artefact = repository.look_up(order.model, order.version)
    except ArtefactDamaged as error:
        say(f"{error}; it is quantized again")
        return None
    if artefact is None or order.replace:
        return None
    receipt = artefact.card.quantized
    if receipt and (receipt.parent_digest, artefact.card.quantization) == (parent.digest, order.method):
        return artefact
    raise VersionTaken(
        f"{artefact.tag} is another version, {artefact.card.source.uri}: choose another label, or add --replace.",
        order.command(version="<label>"),
    )


def _quantize(order: QuantizeOrder, parent: Artefact, stage: Path) -> Artefact:
    from shokado.lifecycle.quantizing.calibration_rows import reference_rows
    from shokado.lifecycle.quantizing.comparison import compare, objections
    from shokado.lifecycle.quantizing.weights import quantize

    prepared = stage / "prepared"
    prepared.mkdir()
    rows = reference_rows(parent, order.rows)
    path = prepared / FileKind.ONNX.file_name
    with step(f"{order.new_tag}: quantize {order.tag}") as current:
        try:
            quantize(order.method, parent.folder / path.name, path, rows.scales)
        except NothingToQuantize as error:
            raise _refused(order, str(error)) from error
        current.outcome = f"{order.method}, {path.stat().st_size / 1024:,.0f} KiB"
    with step(f"{order.new_tag}: compare") as current:
        made = Artefact(order.version, order.new_tag, prepared, _unproven(order, parent.card, path))
        comparison = compare(parent, made, rows, order.limits)
        receipt = comparison.receipt
        current.outcome = f"{receipt.rows:,} rows"
    against = objections(comparison, order.limits, parent.card.task)
    if against and not order.force:
        raise QuantizationRefused(
            f"{order.new_tag} is not worth having. {' '.join(against)} Nothing was stored.",
            order.command(more=" --force"),
        )
    for objection in against:
        say(objection)
    verified = Verification(
        rows=receipt.rows,
        max_abs_difference=receipt.max_abs_difference,
        tolerance=comparison.tolerance,
        tolerances=comparison.tolerances,
    )
    with step(f"{order.new_tag}: store"):
        card = made.card.model_copy(
            update={
                "quantized": receipt,
                "verification": {FileKind.ONNX: verified},
                "examples": Examples(rows=parent.card.examples.rows, scores=comparison.examples.tolist()),
            }
        )
        write_card(_with_rows(_with_reference(card, parent, prepared), parent, prepared), prepared)
        return repository.put(prepared, stage, repository.labels_of(parent))


def _with_reference(card: Card, parent: Artefact, folder: Path) -> Card:
    """The card with the parent's reference: the same rows, and scores that agree."""
    reference = _of_parent(read_reference, parent, "there is no reference")
    described = write_reference(reference, folder) if reference is not None else None
    return card.model_copy(update={"reference": described})


def _with_rows(card: Card, parent: Artefact, folder: Path) -> Card:
    """The card with the parent's background."""
    background = _of_parent(read_background, parent, "there are no rows to explain scores by")
    return with_background(card, background, folder)


def _of_parent(read: Callable[[Path, Card], Found | None], parent: Artefact, without: str) -> Found | None:
    """What the parent has beside its card; None, which is said, where that is damaged."""
    try:
        return read(parent.folder, parent.card)
    except DamagedFile as error:
        say(f"{error}; {without}")
        return None


def _unproven(order: QuantizeOrder, parent: Card, path: Path) -> Card:
    """The card of what was just made: no receipt yet, and no metrics, which were measured with the parent."""
    return parent.model_copy(
        update={
            "version": order.version,
            "files": {FileKind.ONNX: describe_file(path)},
            "quantization": order.method.value,
            "metrics": {},
        }
    )
