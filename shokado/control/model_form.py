"""The form of a model: what a page must know to ask it for a prediction. In: cards. Out: features and examples."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from runners.artefacts.card import Card, Task
from runners.artefacts.integrity import DamagedFile
from runners.artefacts.reference import Numbers, read_reference
from runners.inputs.rows import RowReader
from runners.inputs.schema import Feature
from shokado.dialects.native import Native
from shokado.dialects.single import Single, first_example
from shokado.worker.parts import WorkerParts

MAX_LEVELS_TOLD = 200
"""Levels of a category that a form can offer; any other one may still be typed."""
MIN_BINS = 8
"""Bins of a reference from which on a range is told: the outermost ones, which are left out, then are few values."""


class FormFeature(BaseModel):
    """What a form asks for: a feature, with what is known of its values."""

    name: str
    type: str
    nullable: bool
    description: str
    levels: list[str] = Field(description=f"The first {MAX_LEVELS_TOLD} levels of a category.")
    other: bool = Field(description="Whether other levels are taken than those, or there are more.")
    range: tuple[float, float] | None = Field(
        description="Between these lie most values that a version was made of; null where that is not known."
    )
    versions: list[str] | None = Field(description="The versions that take it; null where all do.")


class ModelForm(BaseModel):
    """What the model takes and gives, for a form that asks it."""

    task: Task
    classes: list[int | str]
    outputs: list[str]
    takes: str = Field(description="A row in words.")
    features: list[FormFeature]
    path: str = Field(description="Route that takes rows as below.")
    instance: Any = Field(description="An example: a row by name, or a text.")
    single_path: str = Field(description="Route that takes one row.")
    single_body: dict[str, Any] = Field(description="An example of its body.")


def form_of(parts: WorkerParts) -> ModelForm | None:
    """What a form needs to know of the model. None where no version is known yet."""
    artefacts = parts.fleet.artefacts
    card = next((artefact.card for artefact in artefacts.values()), None)
    if card is None:
        return None
    read = parts.dispatcher.row_format or card.row_format
    single = first_example(card, read)
    return ModelForm(
        task=card.task,
        classes=list(card.classes),
        outputs=list(card.outputs),
        takes=read.in_words,
        features=_features(parts, read),
        path=Native.path,
        instance=single.get("features", next(iter(single.values()))),
        single_path=Single.path,
        single_body=single,
    )


def _features(parts: WorkerParts, read: RowReader) -> list[FormFeature]:
    """Every feature of any version, in the order of rows, with what the references say of its values."""
    described: dict[str, Feature] = {}
    takers: dict[str, list[str]] = {}
    ranges: dict[str, tuple[float, float]] = {}
    artefacts = parts.fleet.artefacts
    for version, artefact in artefacts.items():
        for feature in artefact.card.features:
            described.setdefault(feature.name, feature)
            takers.setdefault(feature.name, []).append(version)
        for name, (low, high) in _ranges(artefact.folder, artefact.card).items():
            known = ranges.get(name, (low, high))
            ranges[name] = min(low, known[0]), max(high, known[1])
    order = {name: position for position, name in enumerate(read.feature_names)}
    return [
        FormFeature(
            name=name,
            type=feature.type,
            nullable=feature.nullable,
            description=feature.description,
            levels=list(feature.levels[:MAX_LEVELS_TOLD]),
            other=feature.other or len(feature.levels) > MAX_LEVELS_TOLD,
            range=ranges.get(name),
            versions=takers[name] if len(takers[name]) < len(artefacts) else None,
        )
        for name, feature in sorted(described.items(), key=lambda item: order.get(item[0], len(order)))
    ]


def _ranges(folder: Path, card: Card) -> dict[str, tuple[float, float]]:
    """The ranges of the features that are numbers, as far as the version has a reference that can be read.

    The lowest and the highest value stay untold: each is somebody's.
    """
    try:
        reference = read_reference(folder, card)
    except (DamagedFile, OSError):
        return {}
    found = reference.features.items() if reference is not None else ()
    bins = {name: distribution.bins for name, distribution in found}
    return {
        name: (numbers.bounds[0], numbers.bounds[-2])
        for name, numbers in bins.items()
        if isinstance(numbers, Numbers) and numbers.of == "values" and len(numbers.bounds) >= MIN_BINS
    }
