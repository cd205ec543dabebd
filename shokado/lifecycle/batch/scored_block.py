"""A block is scored: its rows go in, a part comes out, and beside it the rows that have no score, with the reason.

    slice -> versions of its rows -> of each version: packed rows -> scores -> part
                    `-------------------- faults --------'-----------> rejected

Every row that goes in comes out once, in one of the two.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runners.artefacts.card import Card
from runners.artefacts.scores import Scores
from runners.inputs.faults import InputFault
from shokado.dispatch.reason import Assignment
from shokado.lifecycle.batch import part_schema
from shokado.lifecycle.batch.assigning import AssignedRows, Assigner
from shokado.lifecycle.batch.batch_plan import BatchPlan, RowBlock
from shokado.lifecycle.batch.input_tables import header_of, slices_of
from shokado.lifecycle.batch.locations import Location
from shokado.lifecycle.batch.opened_version import OpenedVersion
from shokado.lifecycle.batch.packing import pack
from shokado.lifecycle.batch.part_files import BlockDone, PartWriter
from shokado.lifecycle.batch.table_slice import TableSlice


def score_block(
    plan: BatchPlan, block: RowBlock, versions: Mapping[str, OpenedVersion], source: Location, output: Location
) -> BlockDone:
    """Score a block of the source and write its part below the output. Raises `BatchRefused`."""
    file = plan.files[block.file]
    types = header_of(source, file).types
    features = [name for opened in versions.values() for name in opened.row_format.feature_names]
    units = [plan.split.unit] if plan.split is not None and plan.split.unit is not None else []
    columns = list(dict.fromkeys([*features, *units, *plan.keep]))
    kept = {name: types[name] for name in plan.keep}
    card = next(iter(versions.values())).card
    schemas = part_schema.scored_schema(card, kept), part_schema.rejected_schema(kept)
    assigner = Assigner(plan, block)
    with PartWriter(output, plan.id, block, schemas) as writer:
        for part in slices_of(source, file, block, columns):
            _SliceScorer(part, file.name, plan.keep, assigner.assigned(part)).score(versions, writer)
    return writer.done


@dataclass(frozen=True, eq=False)
class _SliceScorer:
    """Scores a slice, of which each row is assigned."""

    part: TableSlice
    file: str
    keep: Sequence[str]
    assigned: AssignedRows

    def score(self, versions: Mapping[str, OpenedVersion], writer: PartWriter) -> None:
        """Write what becomes of each row, in the order of the input."""
        import pyarrow

        faults = {**self.assigned.faults, **self._broken()}
        tables, counts = [], Counter[str]()
        for assignment, positions in self.assigned.groups.items():
            opened = versions[assignment.version]
            taken, scores, failed = self._scored(opened, positions)
            faults |= failed
            if len(taken):
                tables.append(self._scored_table(opened.card, assignment, taken, scores))
                counts[assignment.version] += len(taken)
        if tables:
            table = pyarrow.concat_tables(tables)
            writer.write(table if len(tables) == 1 else table.sort_by(part_schema.ROW), counts)
        if faults:
            writer.reject(self._rejected_table(faults), Counter(fault.code for fault in faults.values()))

    def _broken(self) -> Mapping[int, InputFault]:
        """The faults of rows that could not be read."""
        first_row = self.part.first_row
        return {
            row: InputFault("malformed", f"row {first_row + row} cannot be read: {why}", first_row + row)
            for row, why in self.part.broken.items()
        }

    def _scored(
        self, opened: OpenedVersion, positions: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], Scores, dict[int, InputFault]]:
        """The positions of rows that the version scores, their scores, and the faults of all others by position."""
        packed = pack(self.part, opened.row_format, positions)
        faults = dict(packed.faults)
        if packed.batch is None:
            return packed.positions, np.zeros(0, np.float32), faults
        scores, failures = opened.score(packed.batch)
        for at, why in failures.items():
            row = int(packed.positions[at])
            number = self.part.first_row + row
            message = f"row {number} has no finite score of {opened.card.version}, as others have: {why}"
            faults[row] = InputFault("no_score", message, number)
        is_scored = np.ones(len(scores), dtype=bool)
        is_scored[list(failures)] = False
        return packed.positions[is_scored], scores[is_scored], faults

    def _scored_table(self, card: Card, assignment: Assignment, positions: NDArray[np.int64], scores: Scores) -> Any:
        import pyarrow

        columns = self._named(positions) | {
            part_schema.VERSION: pyarrow.repeat(assignment.version, len(positions)),
            part_schema.REASON: pyarrow.repeat(assignment.reason.value, len(positions)),
            **part_schema.score_arrays(card, scores),
        }
        kept = {name: self.part.columns[name].type for name in self.keep}
        return pyarrow.table(columns, schema=part_schema.scored_schema(card, kept))

    def _rejected_table(self, faults: Mapping[int, InputFault]) -> Any:
        import pyarrow

        rows = sorted(faults)
        given = {
            row: assignment.version
            for assignment, positions in self.assigned.groups.items()
            for row in positions.tolist()
            if row in faults
        }
        columns = self._named(np.array(rows, dtype=np.int64)) | {
            part_schema.VERSION: [given.get(row) for row in rows],
            part_schema.CODE: [faults[row].code for row in rows],
            part_schema.FEATURE: [faults[row].feature for row in rows],
            part_schema.WHAT: [faults[row].message for row in rows],
        }
        kept = {name: self.part.columns[name].type for name in self.keep}
        return pyarrow.table(columns, schema=part_schema.rejected_schema(kept))

    def _named(self, positions: NDArray[np.int64]) -> dict[str, Any]:
        """Which rows these are, and what is carried over of them."""
        import pyarrow

        taken = {name: self.part.columns[name].take(positions) for name in self.keep}
        kept = {name: values.cast(part_schema.kept_type(values.type)) for name, values in taken.items()}
        return {
            part_schema.FILE: pyarrow.repeat(self.file, len(positions)),
            part_schema.ROW: self.part.first_row + positions,
            **kept,
        }
