"""The receipt of a conversion again: an artefact's files, compared with the framework's scores over chosen rows.

    artefact: whole? -> by its card: scores of its example rows, as the framework gave them at the import
                     -> by the framework: the model out of the registry, asked again, over a file's rows or the card's

The second one runs the model's own code, as an import does, and so in a process of its own.
"""

import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from configuration.settings import EngineChoice
from runners.artefacts.artefact import Artefact
from runners.artefacts.background import read_background
from runners.artefacts.card import Card, FileKind
from runners.artefacts.integrity import DamagedFile
from runners.artefacts.reference import read_reference
from runners.artefacts.scores import tolerance_of
from runners.engines.engine import example_rows, open_engine
from runners.inputs.precision import FLOAT64
from runners.inputs.rows import Rows
from shokado.lifecycle.errors import LifecycleError, VerificationFailed
from shokado.lifecycle.importing import registry
from shokado.lifecycle.importing.registry import Formats
from shokado.lifecycle.importing.stored_artefact import stored_artefact
from shokado.lifecycle.isolation import ProcessLimits, Stored, Work, isolated
from shokado.lifecycle.progress import say, step

if TYPE_CHECKING:
    from shokado.lifecycle.importing.conversion import ModelDescription
    from shokado.lifecycle.importing.registry import LoadedModel

_STORED_NOTHING = "Nothing was stored."
_ENGINES = {FileKind.ONNX: EngineChoice.ONNXRUNTIME, FileKind.UBJ: EngineChoice.XGBOOST}


@dataclass(frozen=True)
class VerifyOrder:
    """Which artefact is verified again, and over what.

    Attributes:
        tag: in the store, such as `customers:v1`.
        rows: a CSV or Parquet file with a column for each feature; None: the card's own rows.
        by_framework: ask the model's framework again; else the scores that the card has of it are what must be.
        formats: which formats the registry's model may have.
    """

    tag: str
    rows: Path | None = None
    by_framework: bool = False
    formats: Formats = Formats.ANY

    @property
    def typed(self) -> str:
        """What somebody types for it."""
        words = ["shokado", "models", "verify", self.tag]
        words += ["--rows", str(self.rows)] if self.rows is not None else []
        words += ["--framework"] if self.by_framework and self.rows is None else []
        words += ["--no-pickle"] if self.formats is Formats.WITHOUT_CODE else []
        return shlex.join(words)


def verify_artefact(order: VerifyOrder, limits: ProcessLimits) -> list[Stored]:
    """Verify an artefact; one line for each of its files.

    Raises `LifecycleError`: it is not there, or damaged; `VerificationFailed`, where it scores otherwise.
    """
    artefact = stored_artefact(order.tag)
    with step(f"{order.tag}: integrity") as current:
        current.outcome = f"{', '.join(_check_whole(artefact))} as the card describes them"
    if not order.by_framework and order.rows is None:
        return list(verify_by_card(artefact))
    registry.require_packages()
    return isolated(Work("shokado.lifecycle.verifying", f"The verification of {order.tag}", order.typed), order, limits)


def _check_whole(artefact: Artefact) -> Iterator[str]:
    """The files of the artefact, all of which are intact. The model files were read when it was looked up."""
    card = artefact.card
    if card.needs_python:
        raise LifecycleError(
            f"{artefact.tag} is scored by another server, and has no files here that could be verified.",
            f"shokado smoke-test --url URL --version {artefact.version}",
        )
    yield from (kind.file_name for kind in card.files)
    try:
        if read_reference(artefact.folder, card) is not None:
            yield "reference.json"
        if read_background(artefact.folder, card) is not None:
            yield "background.json"
    except DamagedFile as error:
        again = f"shokado models import {card.source.uri} --as {artefact.version} --name {card.model} --replace"
        raise LifecycleError(f"{artefact.tag}: {error}.", again) from error


def verify_by_card(artefact: Artefact) -> Iterator[Stored]:
    """Compare each file's scores of the card's examples with those in it. Raises `VerificationFailed`."""
    card = artefact.card
    expected = np.array(card.examples.scores, dtype=np.float64)
    tolerance = tolerance_of(card, 0.0)
    allowed = np.maximum(tolerance, 1e-6 * np.abs(expected))
    for kind in card.files:
        scores = open_engine(artefact.folder, card, _ENGINES[kind]).predict(example_rows(card)).astype(np.float64)
        difference = np.abs(scores - expected) if scores.shape == expected.shape else np.array(np.inf)
        # Asked this way round because a score that is not a number is never within any bound.
        if not (difference <= allowed).all():
            raise VerificationFailed(
                f"{kind.file_name} of {artefact.tag} scores the card's {len(expected)} rows otherwise than the "
                f"framework did, by {difference.max():.3g}, where {float(tolerance.max()):.3g} is allowed."
            )
        yield _told(artefact, kind, len(expected), float(difference.max()), float(tolerance.max()))


def verify_again(order: VerifyOrder) -> Iterator[Stored]:
    """Compare each file with the framework itself, which is asked again. Raises `LifecycleError`."""
    from shokado.lifecycle.importing.framework import Framework
    from shokado.lifecycle.importing.verification import verify_rows

    artefact = stored_artefact(order.tag)
    card = artefact.card
    _check_askable(artefact)
    rows, left_out = _rows(order, artefact)
    if left_out:
        say(f"{left_out:,} rows have a value that the model does not take, and are left out")
    with registry.session() as client, tempfile.TemporaryDirectory() as downloads:
        with step(f"{order.tag}: load {card.source.uri}") as current:
            source = registry.fetch(client, card.source.uri, Path(downloads), order.formats)
            current.outcome = source.framework
        description = _description(source, artefact)
        with step(f"{order.tag}: verify over {len(rows):,} rows"):
            try:
                receipts = verify_rows(Framework(source.model, description), card, artefact.folder, rows)
            except VerificationFailed as error:
                raise VerificationFailed(str(error).replace(_STORED_NOTHING, "").strip()) from error
    for kind, receipt in receipts.items():
        yield _told(artefact, kind, receipt.rows, receipt.max_abs_difference, receipt.tolerance)


def _check_askable(artefact: Artefact) -> None:
    card = artefact.card
    if card.quantized is not None:
        message = f"{artefact.tag} is quantized, and differs from the framework by intent: verify what it was made of."
        raise LifecycleError(message, f"shokado models verify {card.quantized.parent} --framework")
    if not card.source.uri.startswith(("models:/", "runs:/")):
        message = f"{artefact.tag} came from {card.source.uri}, which is in no registry: only its card can be asked."
        raise LifecycleError(message, f"shokado models verify {artefact.tag}")


def _description(source: "LoadedModel", artefact: Artefact) -> "ModelDescription":
    from shokado.lifecycle.importing.conversion import described_as

    description = described_as(source, artefact.card.features)
    if description is None:
        again = f"shokado models import {source.uri} --as {artefact.version} --name {artefact.card.model} --replace"
        raise LifecycleError(f"{source.uri} has other features by now than the card of {artefact.tag} says.", again)
    return description


def _rows(order: VerifyOrder, artefact: Artefact) -> tuple[Rows, int]:
    """The rows, float64 or with texts, and how many were left out that the model does not take."""
    from shokado.lifecycle.importing.reference_rows import open_table, read_sample

    card = artefact.card
    if order.rows is not None:
        wide = _widened(card)
        rows = read_sample(open_table(order.rows, wide), wide).rows
    else:
        parts = [example_rows(card)]
        background = read_background(artefact.folder, card)
        if background is not None:
            parts.append(card.row_format.batch(background.rows))
        rows = np.concatenate(parts)
        rows = rows if rows.dtype == object else rows.astype(np.float64)
    fitting = card.row_format.fitting(rows.astype(card.row_format.dtype))
    if not fitting.any():
        raise LifecycleError(f"No row of {order.rows} has values that {artefact.tag} takes.")
    return rows[fitting], int((~fitting).sum())


def _widened(card: Card) -> Card:
    """The card with numbers of float64: the framework is asked for rows as they are, before any rounding."""
    features = tuple(
        feature.model_copy(update={"precision": FLOAT64.name}) if feature.type in ("float", "integer") else feature
        for feature in card.features
    )
    return card.model_copy(update={"features": features})


def _told(artefact: Artefact, kind: FileKind, rows: int, difference: float, tolerance: float) -> Stored:
    outcome = f"{rows:,} rows, largest difference {difference:.1e}, {tolerance:.1e} is allowed"
    return Stored(f"{artefact.tag} {kind.file_name}", outcome, artefact.card.source.uri)
