"""Assigning: which version scores a row, and why, as a server says it of a request with the row's unit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runners.inputs.faults import InputFault
from shokado.dispatch.assignment import assign
from shokado.dispatch.reason import PINNED, Assignment, assignment_of
from shokado.lifecycle.batch.batch_plan import BatchPlan, PlannedSplit, RowBlock
from shokado.lifecycle.batch.packing import is_text
from shokado.lifecycle.batch.table_slice import TableSlice

MAX_UNIT_CHARACTERS = 256
"""As many as a server takes."""


@dataclass(frozen=True, eq=False)
class AssignedRows:
    """The rows of a slice by what they got, and why the others can get nothing; each by its position."""

    groups: Mapping[Assignment, NDArray[np.int64]]
    faults: Mapping[int, InputFault]


@dataclass(frozen=True)
class Assigner:
    """Assigns the rows of a block; the same ones whoever does, and however often."""

    plan: BatchPlan
    block: RowBlock

    def assigned(self, part: TableSlice) -> AssignedRows:
        """What the rows of a slice get, but for those that are broken."""
        if self.plan.split is None:
            positions = np.setdiff1d(np.arange(part.rows), list(part.broken), assume_unique=True)
            return AssignedRows({assignment_of(self.plan.versions[0].version, PINNED): positions}, {})
        groups: dict[Assignment, list[int]] = {}
        faults: dict[int, InputFault] = {}
        for row, one in enumerate(self._each(part, self.plan.split)):
            if row in part.broken:
                continue
            if isinstance(one, InputFault):
                faults[row] = one
            else:
                groups.setdefault(one, []).append(row)
        return AssignedRows({one: np.array(rows, dtype=np.int64) for one, rows in groups.items()}, faults)

    def _each(self, part: TableSlice, split: PlannedSplit) -> list[Assignment | InputFault]:
        routing = split.routing
        if not split.needs_unit:
            return [assign(routing, number) for number in self._numbers(part)]
        assert split.unit is not None
        units = part.columns[split.unit].to_pylist()
        return [self._of_unit(routing, unit, part.first_row + row) for row, unit in enumerate(units)]

    def _numbers(self, part: TableSlice) -> list[float]:
        """A number in [0, 1) for each row, drawn by its place in the input and the plan's seed alone."""
        assert self.plan.split is not None
        generator = np.random.Philox(key=self.plan.split.seed, counter=[0, 0, 0, self.block.file])
        # A step of its counter makes four numbers.
        generator.advance(part.first_row // 4)
        drawn = np.random.Generator(generator).random(part.first_row % 4 + part.rows)
        return drawn[part.first_row % 4 :].tolist()  # type: ignore[no-any-return]

    def _of_unit(self, routing: Any, unit: str | int | None, row: int) -> Assignment | InputFault:
        assert self.plan.split is not None
        text, column = "" if unit is None else str(unit), self.plan.split.unit
        if not text:
            message = f"row {row}: {column!r} has no unit, and the split is by units"
            return InputFault("missing_unit", message, row, column)
        if len(text) > MAX_UNIT_CHARACTERS:
            message = f"row {row}: the unit has {len(text)} characters; at most {MAX_UNIT_CHARACTERS} are allowed"
            return InputFault("unit_too_long", message, row, column)
        return assign(routing, 0.0, text)


def why_no_units(kind: Any) -> str | None:
    """Why values of an Arrow type cannot be units; None where they can."""
    from pyarrow import types

    if is_text(kind) or types.is_integer(kind):
        return None
    return f"it is of {kind}; units are texts or whole numbers, as X-Unit-ID has them"
