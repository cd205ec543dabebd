"""The plan of a batch: what is read, by which versions it is scored, and the blocks that each become one part.

It is made once, before anything is scored, and written beside the parts. Whoever goes on with a batch has the same
blocks, and so knows by the names of parts what is done.
"""

import hashlib
from collections.abc import Iterator

import msgspec

from configuration.settings import Strategy
from shokado.client.answers import Split
from shokado.dispatch.layer import Layer
from shokado.dispatch.state import Environment
from shokado.lifecycle.batch.locations import Location
from shokado.lifecycle.errors import BatchRefused

FORMAT = 1
FOLDER = "_shokado"
PLAN_FILE = f"{FOLDER}/plan.json"
SUMMARY_FILE = f"{FOLDER}/summary.json"
LOCK_FILE = f"{FOLDER}/lock"
REJECTED = "_rejected"
"""The folder of rows without scores, which readers of the parts leave alone."""


class InputFile(msgspec.Struct, frozen=True):
    """A table, and what tells whether it is still the same."""

    path: str
    name: str
    """Its path below the input's address, as the output has it."""
    size_bytes: int
    mark: str
    constants: dict[str, str | None] = {}
    """Columns that the folders in its path say: `region=eu/..`."""

    @property
    def is_csv(self) -> bool:
        return self.name.lower().endswith(".csv")


class RowBlock(msgspec.Struct, frozen=True):
    """Rows of one file that become one part."""

    file: int
    """Position of the file in the plan."""
    first_row: int
    """How many rows of the file stand before it."""
    rows: int
    start: int
    stop: int
    """The bytes of a CSV file, or the row groups of a Parquet file, from `start` up to `stop` without it."""

    @property
    def part(self) -> str:
        """The name of its part, in the order of the input."""
        return f"part-{self.file:05d}-{self.first_row:012d}.parquet"


class PlannedVersion(msgspec.Struct, frozen=True):
    """A version of the model store."""

    version: str
    tag: str
    digest: str
    engine: str
    """The one that scores all its rows, so that who goes on computes the same."""


class PlannedSplit(msgspec.Struct, frozen=True):
    """The split of an environment, as it was when the batch was planned."""

    environment: str
    generation: int
    active: str
    weights: dict[str, float]
    strategy: Strategy
    enabled: bool
    salt: str
    layer: Layer | None
    unit: str | None
    """The column that has the units; None where no version sticks to one."""
    seed: int
    """What the numbers are made of by which rows are drawn, under other strategies than `hash`."""

    @classmethod
    def of(cls, split: Split, unit: str | None, seed: int) -> "PlannedSplit":
        """The split that a server tells."""
        part = split.layer
        layer = (
            None if part is None else Layer(part["name"], float(part["from"]), float(part["to"]), part.get("outside"))
        )
        return cls(
            split.environment,
            split.generation,
            split.active,
            {version: float(weight) for version, weight in split.weights.items()},
            Strategy(split.strategy),
            split.enabled,
            split.salt,
            layer,
            unit,
            seed,
        )

    @property
    def routing(self) -> Environment:
        """What assigns versions, as a server has it."""
        return Environment(
            self.environment, self.active, self.weights, self.strategy, self.enabled, self.salt, layer=self.layer
        )

    @property
    def answering(self) -> list[str]:
        """The versions that some row may get, by name."""
        return sorted(self.routing.traffic)

    @property
    def needs_unit(self) -> bool:
        """Whether a unit decides."""
        return self.enabled and self.strategy is Strategy.HASH


class BatchPlan(msgspec.Struct, frozen=True):
    """All that parts depend on."""

    format: int
    model: str
    input: str
    files: list[InputFile]
    versions: list[PlannedVersion]
    split: PlannedSplit | None
    """None: the only version scores all rows."""
    keep: list[str]
    """Columns that are carried over."""
    block_rows: int
    max_text_characters: int
    blocks: list[RowBlock]

    @property
    def id(self) -> str:
        """Equal for plans by which the same is computed."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()[:16]

    @property
    def rows(self) -> int:
        return sum(block.rows for block in self.blocks)

    def where(self, block: RowBlock) -> str:
        """The block in words."""
        last = block.first_row + block.rows - 1
        return f"{self.files[block.file].name}, rows {block.first_row} to {last}"


def read_plan(location: Location) -> BatchPlan | None:
    """The plan of a folder; None where there is none. Raises `BatchRefused`."""
    try:
        content = location.read(location.at(PLAN_FILE))
    except FileNotFoundError:
        return None
    try:
        found = msgspec.json.decode(content, type=BatchPlan)
    except msgspec.DecodeError as error:
        raise BatchRefused(f"{location.name}/{PLAN_FILE} is no plan: {error}. Name another folder.") from error
    if found.format != FORMAT:
        raise BatchRefused(f"{location.name}/{PLAN_FILE} is of another release of shokado. Name another folder.")
    return found


def write_plan(location: Location, plan: BatchPlan) -> None:
    """Raises `BatchRefused`."""
    location.write(location.at(PLAN_FILE), msgspec.json.format(msgspec.json.encode(plan), indent=1))


def differences(plan: BatchPlan, wanted: BatchPlan) -> Iterator[str]:
    """In what a plan is not what is wanted now, whose blocks and seed are not looked at: in words for people."""
    if plan.model != wanted.model:
        yield f"it was of the model {plan.model}, not {wanted.model}"
    if plan.input != wanted.input:
        yield f"its input was {plan.input}, not {wanted.input}"
    else:
        yield from _changed_files(plan.files, wanted.files)
    yield from _other_versions(plan, wanted)
    for name in ("keep", "block_rows", "max_text_characters"):
        if getattr(plan, name) != getattr(wanted, name):
            yield f"--{name.replace('_', '-')} was {getattr(plan, name)}, not {getattr(wanted, name)}"


def _other_versions(plan: BatchPlan, wanted: BatchPlan) -> Iterator[str]:
    before, after = ({one.version: one.digest for one in each.versions} for each in (plan, wanted))
    for version in sorted(before.keys() | after.keys()):
        if version not in after:
            yield f"{version} was to score, and is not now"
        elif version not in before:
            yield f"{version} is to score, and was not then"
        elif before[version] != after[version]:
            yield f"{version} is another import than it was"
    if plan.split is not None and wanted.split is not None and plan.split.unit != wanted.split.unit:
        yield f"its units were of the column {plan.split.unit}, not {wanted.split.unit}"


def _changed_files(before: list[InputFile], after: list[InputFile]) -> Iterator[str]:
    """The first file that is not what it was."""
    then, now = ({file.name: file for file in files} for files in (before, after))
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            what = "is gone" if name not in now else "is new" if name not in then else "has changed"
            yield f"the input's file {name} {what}"
            return
