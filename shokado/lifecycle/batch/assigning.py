"""Assigning: which version scores a row, and why, as a server says it of a request with the row's unit."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from runners.inputs.faults import InputFault
from shokado.dispatch.assignment import assign
from shokado.dispatch.reason import PINNED, Assignment, assignment_of
from shokado.lifecycle.batch.batch_plan import BatchPlan, RowBlock
from shokado.lifecycle.batch.packing import is_text
from shokado.lifecycle.batch.table_slice import TableSlice

MAX_UNIT_CHARACTERS = 256
"""As many as a server takes."""


@dataclass(frozen=True)
class Assigner:
    """Assigns the rows of a block; the same ones whoever does, and however often."""

    plan: BatchPlan
    block: RowBlock

    def assigned(self, part: TableSlice) -> list[Assignment | InputFault]:
        """What each row of a slice gets, or why it can get none."""
        split = self.plan.split
        if split is None:
            return [assignment_of(self.plan.versions[0].version, PINNED)] * part.rows
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
