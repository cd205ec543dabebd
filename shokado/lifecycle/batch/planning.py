"""Planning: an order goes in, a plan comes out that the tables and versions allow; nothing is scored or written yet.

What all rows would be refused for, such as a column that is not there, is refused here, and not row by row.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from configuration.settings import EngineChoice
from runners.artefacts import repository
from runners.artefacts.artefact import Artefact, ArtefactDamaged, ArtefactError, check_alike
from shokado.client.answers import Split
from shokado.lifecycle.batch.assigning import why_no_units
from shokado.lifecycle.batch.batch_plan import (
    FORMAT,
    BatchPlan,
    InputFile,
    PlannedSplit,
    PlannedVersion,
    differences,
)
from shokado.lifecycle.batch.input_tables import cut_into_blocks, find_files, header_of
from shokado.lifecycle.batch.locations import Location
from shokado.lifecycle.batch.opened_version import chosen_engine
from shokado.lifecycle.batch.packing import why_unfit
from shokado.lifecycle.batch.part_schema import kept_type, taken_names
from shokado.lifecycle.errors import BatchRefused
from shokado.lifecycle.progress import step

BLOCK_ROWS = 100_000
_SHOWN = 10
"""Names that a message has."""


@dataclass(frozen=True)
class BatchOrder:
    """What somebody wants.

    Attributes:
        version: which scores all rows; None: the split says.
        split: as a server tells it; None with a version, or where a batch that has one goes on.
        unit: the column of units, where the split is by units.
        keep: columns that are carried over.
        block_rows: rows of a part, about; None: as the plan that is there has it.
    """

    model: str
    version: str | None
    split: Split | None = None
    unit: str | None = None
    keep: tuple[str, ...] = ()
    engine: EngineChoice = EngineChoice.AUTO
    block_rows: int | None = None
    max_text_characters: int = 100_000


@dataclass(frozen=True, eq=False)
class Planned:
    """A plan, and what of this machine it was made by.

    Attributes:
        ignored: columns that are neither taken by a version nor carried over.
    """

    plan: BatchPlan
    artefacts: Mapping[str, Artefact]
    ignored: tuple[str, ...] = field(default=())


def new_plan(order: BatchOrder, source: Location) -> Planned:
    """Plan a batch. Raises `BatchRefused`."""
    artefacts = _artefacts(order.model, _versions_of(order))
    files = find_files(source)
    split = _planned_split(order)
    plan = BatchPlan(
        FORMAT,
        order.model,
        source.path,
        files,
        [
            PlannedVersion(one.version, one.tag, one.digest, chosen_engine(one, order.engine))
            for one in artefacts.values()
        ],
        split,
        list(order.keep),
        order.block_rows or BLOCK_ROWS,
        order.max_text_characters,
        [],
    )
    ignored = _check_columns(plan, artefacts, source)
    with step("read the input") as reading:
        blocks = list(cut_into_blocks(source, files, plan.block_rows))
        plan = msgspec.structs.replace(plan, blocks=blocks)
        reading.outcome = f"{plan.rows:,} rows of {_counted(len(files), 'file')}, in {_counted(len(blocks), 'block')}"
    if not blocks:
        raise BatchRefused(f"{source.name} has no rows.")
    return Planned(plan, artefacts, ignored)


def same_plan(plan: BatchPlan, order: BatchOrder, source: Location) -> Planned:
    """Go on by a plan that was made before, with its split and blocks.

    Raises `BatchRefused` where the input, a version or an option is not what it was.
    """
    if (order.version is None) != (plan.split is not None):
        was = "with a split" if plan.split is not None else f"by {plan.versions[0].version} alone"
        raise _another_batch([f"its rows were scored {was}"])
    versions = [order.version] if order.version is not None else [one.version for one in plan.versions]
    artefacts = _artefacts(order.model, versions)
    wanted = BatchPlan(
        plan.format,
        order.model,
        source.path,
        find_files(source),
        [PlannedVersion(one.version, one.tag, one.digest, "") for one in artefacts.values()],
        None if plan.split is None else _with_unit(plan.split, order.unit),
        list(order.keep),
        order.block_rows or plan.block_rows,
        order.max_text_characters,
        plan.blocks,
    )
    found = list(differences(plan, wanted))
    if order.engine is not EngineChoice.AUTO:
        others = [one for one in plan.versions if one.engine != order.engine.value]
        found += [f"{one.version} was scored by {one.engine}, not {order.engine.value}" for one in others]
    if found:
        raise _another_batch(found)
    return Planned(plan, artefacts)


def _another_batch(reasons: Sequence[str]) -> BatchRefused:
    words = "; ".join(reasons)
    return BatchRefused(f"The output is of another batch: {words}. Name another folder, or ask for the same again.")


def _with_unit(split: PlannedSplit, unit: str | None) -> PlannedSplit:
    return msgspec.structs.replace(split, unit=unit if split.needs_unit else split.unit)


def _versions_of(order: BatchOrder) -> list[str]:
    if order.version is not None:
        return [order.version]
    assert order.split is not None, "a plan that is made anew has a version or a split"
    return PlannedSplit.of(order.split, order.unit, 0).answering


def _planned_split(order: BatchOrder) -> PlannedSplit | None:
    if order.split is None:
        return None
    split = PlannedSplit.of(order.split, order.unit, secrets.randbits(63))
    if split.needs_unit and order.unit is None:
        raise BatchRefused(
            f"The split of {split.environment} is by units: say which column has them.",
            "shokado batch run .. --unit ID",
        )
    if not split.needs_unit and order.unit is not None:
        raise BatchRefused(f"The split of {split.environment} is not by units: leave out --unit.")
    return split


def _artefacts(model: str, versions: Sequence[str]) -> dict[str, Artefact]:
    """The versions in the model store, whose files are those of their cards. Raises `BatchRefused`."""
    found = {}
    for version in versions:
        try:
            artefact = repository.look_up(model, version)
        except ArtefactDamaged as error:
            raise BatchRefused(
                f"{error}.", f"shokado models import models:/{model}/.. --as {version} --replace"
            ) from None
        if artefact is None:
            raise BatchRefused(f"There is no {model}:{version} in the model store.", f"shokado models list {model}")
        found[version] = artefact
    try:
        check_alike(found.values())
    except ArtefactError as error:
        raise BatchRefused(f"{error}.") from error
    return found


# The columns of the input.


def _check_columns(plan: BatchPlan, artefacts: Mapping[str, Artefact], source: Location) -> tuple[str, ...]:
    """The columns that nothing is done with, by name. Raises `BatchRefused` where one lacks, or is of another kind."""
    card = next(iter(artefacts.values())).card
    if len(set(plan.keep)) < len(plan.keep):
        raise BatchRefused("--keep names a column twice.")
    clash = next((name for name in plan.keep if name in taken_names(card)), None)
    if clash is not None:
        raise BatchRefused(f"The column {clash!r} cannot be kept: parts have a column of that name.")
    kept: dict[str, Any] = {}
    unused: dict[str, None] = {}
    for file in plan.files:
        types = header_of(source, file).types
        why = next(_faults_of(file, plan, artefacts, types), None)
        if why is not None:
            raise BatchRefused(f"{file.name}: {why}.")
        for name in plan.keep:
            if kept.setdefault(name, kept_type(types[name])) != kept_type(types[name]):
                raise BatchRefused(
                    f"{file.name}: {name!r} is of {types[name]}, and of {kept[name]} before. Leave it out of --keep."
                )
        unused |= dict.fromkeys(_unused(plan, artefacts, types))
    return tuple(unused)


def _faults_of(
    file: InputFile, plan: BatchPlan, artefacts: Mapping[str, Artefact], types: Mapping[str, Any]
) -> Iterator[str]:
    """What is wrong with the columns of a file, in words."""
    shown = ", ".join(list(types)[:_SHOWN]) + (", .." if len(types) > _SHOWN else "")
    unit = plan.split.unit if plan.split is not None else None
    for name in [*plan.keep, *([unit] if unit is not None else [])]:
        if name not in types:
            yield f"there is no column {name!r}; there are {shown}"
    if unit is not None and (why := why_no_units(types[unit])) is not None:
        yield f"{unit!r} cannot be the unit: {why}"
    for version, artefact in artefacts.items():
        columns = artefact.card.row_format.schema.columns
        if not any(column.name in types for column in columns):
            names = ",".join(artefact.card.feature_names[:_SHOWN])
            yield f"no column is a feature of {version}, which takes {names}; there are {shown}"
        for column in columns:
            if column.name not in types:
                yield f"the column {column.name!r} is missing, which {version} takes; there are {shown}"
            elif not (file.is_csv or column.name in file.constants):
                why = why_unfit(column, types[column.name])
                if why is not None:
                    yield f"{column.name!r} cannot be scored by {version}: {why}"


def _unused(plan: BatchPlan, artefacts: Mapping[str, Artefact], types: Mapping[str, Any]) -> list[str]:
    used = {*plan.keep, *(name for artefact in artefacts.values() for name in artefact.card.feature_names)}
    if plan.split is not None and plan.split.unit is not None:
        used.add(plan.split.unit)
    return [name for name in types if name not in used]


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
