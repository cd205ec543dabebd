"""The reference of a version is made: rows go in, the histograms of `reference.json` come out.

    --reference FILE | logged data set | training part of an example data set | input example
        -> rows as a server packs them -> scores of the verified file -> histograms (ReferenceRefused)

Unless somebody named a file, the first of them that can be read is taken, and an import goes on without any.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from configuration.settings import EngineChoice
from runners.artefacts import repository
from runners.artefacts.artefact import Artefact
from runners.artefacts.background import Background
from runners.artefacts.card import Card, FileKind, write_card
from runners.artefacts.reference import (
    MAX_BINS,
    DataOrigin,
    Distribution,
    Levels,
    Numbers,
    OriginKind,
    ReferenceProfile,
    lengths_of,
    write_reference,
)
from runners.artefacts.scores import PROBABILITY_BOUNDS, Scores
from runners.engines.engine import open_engine
from runners.inputs.rows import Rows
from runners.inputs.schema import Feature
from shokado.lifecycle import datasets
from shokado.lifecycle.errors import LifecycleError, ReferenceRefused
from shokado.lifecycle.importing.background_rows import drawn_background, with_background
from shokado.lifecycle.importing.logged_data import logged_file
from shokado.lifecycle.importing.reference_rows import SampledRows, Table, open_table, read_sample, table_of
from shokado.lifecycle.importing.registry import LoadedModel
from shokado.lifecycle.importing.stored_artefact import stored_artefact
from shokado.lifecycle.progress import step

if TYPE_CHECKING:
    from mlflow import MlflowClient

SCORED_ROWS = 4096
"""How many rows are scored at a time."""
TRUTHS = Numbers(lowest=0, bounds=(0, 1))
PROBABILITIES = Numbers(lowest=0, bounds=PROBABILITY_BOUNDS)


@dataclass(frozen=True)
class Made:
    """A reference, and what there is to say of how it was made; None where there are no rows to make it of.

    `background` are some of the rows.
    """

    reference: ReferenceProfile | None
    said: str
    background: Background | None = None


def reference_of_file(path: Path, card: Card, folder: Path) -> Made:
    """The reference by the rows of a CSV or Parquet file. Raises `ReferenceRefused`.

    `folder` holds the card's model files.
    """
    return _made(OriginKind.FILE, open_table(path, card), card, folder)


def reference_of_import(
    client: "MlflowClient | None", source: LoadedModel, dataset: str | None, card: Card, folder: Path
) -> Made:
    """The reference by what the registry has of the model's rows; `dataset` is the one that it says it learned from."""
    refusals: list[str] = []
    for kind, find in _sources(client, source, dataset, card):
        try:
            table = find()
            if table is not None:
                made = _made(kind, table, card, folder)
                return replace(made, said="; ".join([made.said, *refusals]))
        except ReferenceRefused as error:
            refusals.append(str(error))
    return Made(None, "; ".join(["none", *refusals]))


def _sources(
    client: "MlflowClient | None", source: LoadedModel, dataset: str | None, card: Card
) -> Iterator[tuple[OriginKind, Callable[[], Table | None]]]:
    """Where rows may be, the best ones first; each gives None where there are none."""

    def logged() -> Table | None:
        path = None if client is None else logged_file(client, source.run_id)
        return None if path is None else open_table(path, card)

    def training() -> Table | None:
        known = dataset in datasets.NAMES
        return table_of(str(dataset), datasets.load(str(dataset)).train.rows, card) if known else None

    def example() -> Table | None:
        return None if source.example is None else table_of(f"the input example of {source.uri}", source.example, card)

    yield OriginKind.LOGGED_DATA_SET, logged
    yield OriginKind.TRAINING_PART, training
    yield OriginKind.INPUT_EXAMPLE, example


def replace_reference(tag: str, path: Path, *, keep_rows: bool = True) -> Artefact:
    """Give an artefact of the store the reference of a file's rows, in place of one that it may have.

    Some of the rows become its background, unless none may be kept: then it has none afterwards.

    The whole artefact is put in the place of the old one, which stays if anything fails. Raises `LifecycleError`.
    """
    artefact = stored_artefact(tag)
    if artefact.card.needs_python:
        raise ReferenceRefused(f"{tag} is scored by another server, and its scores are part of a reference.")
    with step(f"{tag}: reference") as current:
        made = reference_of_file(path, artefact.card, artefact.folder)
        current.outcome = made.said
    assert made.reference is not None
    with repository.staging() as stage:
        there = stored_artefact(tag)
        if there.digest != artefact.digest:
            raise LifecycleError(f"{tag} was replaced in the meantime; its reference is as it was.")
        prepared = stage / "prepared"
        shutil.copytree(there.folder, prepared)
        card = there.card.model_copy(update={"reference": write_reference(made.reference, prepared)})
        card = with_background(card, made.background if keep_rows else None, prepared)
        write_card(card, prepared)
        repository.exchange(prepared, there.folder, stage)
    return Artefact(artefact.version, tag, artefact.folder, card)


# From rows to histograms.


def _made(kind: OriginKind, table: Table, card: Card, folder: Path) -> Made:
    sample = read_sample(table, card)
    reference = _reference(DataOrigin(kind=kind, name=table.name, rows=sample.of), sample, card, folder)
    taken = sample.rows[card.row_format.fitting(sample.rows)]
    background = drawn_background(taken, card, reference.origin, reference.made_at)
    return Made(reference, _said(reference, sample), background)


def _said(reference: ReferenceProfile, sample: SampledRows) -> str:
    said = f"{reference.rows:,} rows"
    if reference.rows < sample.of:
        said += f", drawn from {sample.of:,}"
    said += f", {reference.origin.kind}: {reference.origin.name}"
    if left := reference.rows - reference.scored_rows:
        said += f"; {left:,} of them have a missing or infinite value, and no scores"
    return said + (f"; ignored: {', '.join(sample.ignored)}" if sample.ignored else "")


def _reference(origin: DataOrigin, sample: SampledRows, card: Card, folder: Path) -> ReferenceProfile:
    rows = sample.rows
    columns = {feature.name: column_of(rows[:, at], feature) for at, feature in enumerate(card.features)}
    features = {
        feature.name: Distribution.of(bins_of(origin.name, feature, columns[feature.name]), columns[feature.name])
        for feature in card.features
    }
    scored = rows[card.row_format.fitting(rows)]
    if not len(scored):
        raise ReferenceRefused(f"No row of {origin.name} can be scored: each has a value that the model does not take.")
    return ReferenceProfile(
        origin=origin,
        made_at=datetime.now(UTC).replace(microsecond=0),
        rows=len(rows),
        scored_rows=len(scored),
        features=features,
        scores=tuple(_score_histograms(card, _scores(card, folder, scored))),
    )


def column_of(values: NDArray[Any], feature: Feature) -> NDArray[Any]:
    """A column of packed rows, (rows,): numbers that stand beside texts as numbers."""
    return values if feature.type == "text" or values.dtype != object else values.astype(np.float64)


def bins_of(table: str, feature: Feature, column: NDArray[Any]) -> Numbers | Levels:
    """The bins of a feature by a column of the reference, (rows,). Raises `ReferenceRefused` where it has no value."""
    values = lengths_of(column) if feature.type == "text" else column
    finite = values[np.isfinite(values)]
    if not len(finite):
        raise ReferenceRefused(f"No row of {table} has a value of the feature {feature.name!r}.")
    match feature.type:
        case "boolean":
            return TRUTHS
        case "category":
            known = finite[finite < len(feature.levels)] if feature.levels else finite
            return most_frequent(known if len(known) else finite)
        case _:
            return quantiles(finite, "characters" if feature.type == "text" else "values")


def quantiles(values: NDArray[Any], of: Any = "values") -> Numbers:
    """Bins with about equally many of the values, which are finite, (rows,), at least one. None of them is empty.

    Each bound is one of the values, so that a value which is there often gets a bin of its own.
    """
    shares = np.linspace(0, 1, MAX_BINS + 1)[1:]
    bounds = np.unique(np.quantile(values, shares, method="inverted_cdf"))
    return Numbers(of=of, lowest=float(values.min()), bounds=tuple(bounds.tolist()))


def most_frequent(values: NDArray[Any]) -> Levels:
    """The levels that are there most often; of finite values, (rows,), at least one."""
    levels, counts = np.unique(values, return_counts=True)
    kept = np.sort(np.argsort(-counts, kind="stable")[:MAX_BINS])
    return Levels(levels=tuple(levels[kept].tolist()))


def _scores(card: Card, folder: Path, rows: Rows) -> Scores:
    """What the verified file answers, in the engine that is faster for many rows."""
    choice = EngineChoice.XGBOOST if FileKind.UBJ in card.files else EngineChoice.ONNXRUNTIME
    engine = open_engine(folder, card, choice)
    return np.concatenate(
        [engine.predict(rows[start : start + SCORED_ROWS]) for start in range(0, len(rows), SCORED_ROWS)]
    )


def _score_histograms(card: Card, scores: Scores) -> Iterator[Distribution]:
    for column in scores.reshape(len(scores), -1).T:
        if card.task.has_probabilities:
            yield Distribution.of(PROBABILITIES, column)
            continue
        finite = column[np.isfinite(column)]
        if not len(finite):
            raise ReferenceRefused("No row has a score that is a number.")
        yield Distribution.of(quantiles(finite), column)
