"""The union: how rows are read where versions side by side take different features.

    request --UnionRows--> OpenRows --(the version is known)--> packed_for --> rows as the version's own format has them

What no version knows is refused at once. All else waits for the version, which reads what it takes by its own format:
its columns, its levels, what may be missing there. So a version answers as it does alone, and what a row lacks is told
of the version that needs it.

Rows without names (lists, packed rows, a matrix) have the features of the first version that is configured, in its
order, as long as the server runs; only versions with the same ones are given them. Where a request names the version,
they are in the order of that one.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import Any

import msgspec

from configuration.settings import LimitSettings
from runners.inputs.columns import Category, Column, Number
from runners.inputs.faults import InputFault
from runners.inputs.formats import row_format_of
from runners.inputs.matrix import LARGE_BYTES
from runners.inputs.precision import FLOAT32, FLOAT64, Precision
from runners.inputs.rows import RequestRows, RowFormat, RowReader
from runners.inputs.schema import ROWS, Feature, Schema
from runners.inputs.typed import TypedRow
from runners.inputs.wording import kind_of


class RowForm(StrEnum):
    """How rows say which value is which feature's."""

    NAMED = "named"
    LISTS = "lists"
    """Lists of values of JSON, which spell levels out."""
    PACKED = "packed"
    """Numbers alone, where a level is its position."""
    BARE = "bare"
    """The same, and nothing says in which precision they are: in that of whoever reads them."""


class OpenRows(msgspec.Struct, frozen=True, eq=False):
    """The rows of a request whose version is not known yet."""

    union: "UnionRows"
    form: RowForm
    count: int
    """How many rows there are; of packed ones, as the first version has them."""
    lacking: Mapping[str, int]
    """In how many rows a feature is missing that not every version takes, by its name."""
    read: Callable[[RowFormat], tuple[RequestRows, int]]
    """Packs the rows, and counts them, by a version's own format. Raises `InputFault`."""
    doubt: str | None = None
    """Why packed rows may be another version's than those of the first one."""

    def packed_for(self, version: str, *, pinned: bool) -> tuple[RequestRows, int]:
        """The rows as the version takes them, and how many they are; `pinned` where the request names the version.

        Raises `InputFault` that names the version.
        """
        union = self.union
        if not pinned and self.doubt is not None:
            raise InputFault("names_needed", self.doubt, beside={"version": version})
        if not pinned and not union.reads(version, self.form):
            first = ", ".join(union.first.feature_names)
            message = (
                f"version {version} takes other features, or packs them otherwise, than rows without names have here "
                f"({first}); send rows by name, or name the version"
            )
            raise InputFault("names_needed", message, beside={"version": version})
        try:
            return self.read(union.formats[version])
        except InputFault as fault:
            message, beside = f"version {version}: {fault.message}", {**fault.beside, "version": version}
            raise InputFault(fault.code, message, fault.row, fault.feature, beside) from None


class UnionRows(RowReader):
    """Reads rows for versions of which each takes features of its own."""

    row_type = TypedRow
    row_description = "A row is an object by name, of which each version takes its own features."
    takes_bytes = True
    large_bytes = LARGE_BYTES

    def __init__(
        self, first: Sequence[Feature], versions: Mapping[str, Sequence[Feature]], limits: LimitSettings
    ) -> None:
        """`first` are the features of rows without names, and `versions` those of each version.

        Raises `ValueError` for features that do not go together.
        """
        truths = {feature.name for features in versions.values() for feature in features if feature.type == "boolean"}
        self.formats: Mapping[str, RowFormat] = {
            version: row_format_of([_with_truths(feature, truths) for feature in features], limits)
            for version, features in versions.items()
        }
        self.first = row_format_of(first, limits)
        """The format of rows without names."""
        self._columns_of: dict[str, list[Column]] = {}
        for row_format in self.formats.values():
            for column in row_format.schema.columns:
                self._columns_of.setdefault(column.name, []).append(column)
        names = sorted(self._columns_of, key=_in_order_of(self.first.feature_names))
        columns = tuple(self._columns_of[name][0] for name in names)
        is_wide = any(one.schema.precision is FLOAT64 for one in self.formats.values())
        datatype = (FLOAT64 if is_wide else FLOAT32).datatype
        schema = Schema(columns, datatype, (ROWS, len(columns)), is_typed=True, precision=self.first.schema.precision)
        super().__init__(schema, limits.max_rows)
        self.max_text_characters = max(one.max_text_characters for one in self.formats.values())
        self.takers: Mapping[str, tuple[str, ...]] = {
            name: tuple(version for version, one in self.formats.items() if name in one.feature_names) for name in names
        }
        """The versions that take each feature."""
        self.optional = frozenset(name for name, takers in self.takers.items() if len(takers) < len(self.formats))
        """The features that not every version takes."""
        differences = "; ".join(f"{name}: {', '.join(self.takers[name])}" for name in names if name in self.optional)
        self.note = f"{self.row_description}{' Not every version takes ' * bool(differences)}{differences}"
        self._names = frozenset(names)
        self._never_listed = self.optional.difference(self.first.feature_names)
        self._readers = {
            RowForm.NAMED: frozenset(self.formats),
            RowForm.LISTS: self._versions_like(lambda schema: schema.names),
            RowForm.PACKED: self._versions_like(_meaning),
            RowForm.BARE: self._versions_like(lambda schema: (schema.datatype, _meaning(schema))),
        }

    @property
    def in_words(self) -> str:
        return f"rows by name, of {len(self.feature_names)} features, of which each version takes its own"

    def reads(self, version: str, form: RowForm) -> bool:
        """Whether a version can be given rows of this form that were sent for no version in particular."""
        return version in self._readers[form]

    def opened(
        self,
        read: Callable[[RowFormat], tuple[RequestRows, int]],
        form: RowForm,
        count: int,
        lacking: Mapping[str, int] | None = None,
        doubt: str | None = None,
    ) -> OpenRows:
        """Rows that `read` packs for a version; without names they lack what the first version does not take."""
        if lacking is None:
            lacking = dict.fromkeys(self._never_listed, count)
        return OpenRows(self, form, count, lacking, read, doubt)

    def filled(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row by name that every version takes: this one, with some value for each feature that it lacks."""
        lacking = (column for column in self.schema.columns if column.name not in row)
        return {**row, **{column.name: _some_value(column) for column in lacking}}

    def pack(self, rows: Sequence[Any]) -> OpenRows:
        return self.pack_values(rows)

    def pack_values(self, rows: Sequence[Any]) -> OpenRows:
        """Keep lists and objects of any values. Raises `InputFault` for names that no version knows."""
        self._check_count(len(rows))
        names, optional = self._names, self.optional
        form, lacking = RowForm.NAMED, Counter[str]()
        for index, row in enumerate(rows):
            if not isinstance(row, dict):
                form = RowForm.LISTS
                lacking.update(self._never_listed)
                continue
            given = row.keys()
            if not given <= names:
                raise self._fault_of_names(index, row) or self.explain(rows)
            if not given >= optional:
                lacking.update(optional - given)
        return self.opened(partial(_read_cells if _has_cells(rows) else _read_values, rows), form, len(rows), lacking)

    def pack_json(self, rows: bytes) -> tuple[OpenRows, int] | None:
        found = self.first.pack_json(rows)
        if found is None:
            return None

        def read(own: RowFormat) -> tuple[RequestRows, int]:
            if own.reads_like(self.first):
                return found
            return own.pack_json(rows) or _read_values(msgspec.json.decode(rows), own)

        return self.opened(read, RowForm.LISTS, found[1]), found[1]

    def cell_reader(self, names: Sequence[str]) -> Callable[[Sequence[str]], list[Any]]:  # noqa: ARG002
        """Keeps the cells: what one says depends on the version's levels."""
        return lambda cells: [_Cell(cell) for cell in cells]

    def pack_bytes(
        self, body: bytes | memoryview, sent_as: Precision | None = None, columns: int | None = None
    ) -> tuple[OpenRows, int]:
        count = len(body) // _row_bytes(self.first, sent_as)
        form = RowForm.BARE if sent_as is None else RowForm.PACKED
        doubt = self._doubt(len(body), sent_as, columns)
        return self.opened(lambda own: own.pack_bytes(body, sent_as, columns), form, count, doubt=doubt), count

    def _doubt(self, size: int, sent_as: Precision | None, columns: int | None) -> str | None:
        """Why so many bytes may be rows of another version as well as of the first one: they divide by either's.

        All others stay clear, so that loading a version of another width does not refuse everybody's packed rows.
        """
        usual = _row_bytes(self.first, sent_as)
        if not size or size % usual or columns not in (None, len(self.first.feature_names)):
            return None
        for version, own in self.formats.items():
            row_bytes, width = _row_bytes(own, sent_as), len(own.feature_names)
            if row_bytes != usual and size % row_bytes == 0 and columns in (None, width):
                return (
                    f"{size} bytes are rows of {usual} bytes, and as well of {row_bytes}, as version {version} takes "
                    f"them; say columns={len(self.first.feature_names)} and dtype={self.first.schema.precision.name} "
                    "behind the content type, send rows by name, or name the version"
                )
        return None

    def check_finite(self, rows: RequestRows) -> None:
        """Nothing yet: which numbers may be missing depends on the version."""

    def _versions_like(self, of: Callable[[Schema], Any]) -> frozenset[str]:
        """The versions whose schema has the same of what is asked for as the first one's."""
        first = of(self.first.schema)
        return frozenset(version for version, own in self.formats.items() if of(own.schema) == first)

    def _fault(self, index: int, row: Any) -> InputFault | None:
        """What is wrong with a row whatever the version."""
        if isinstance(row, dict):
            return self._fault_of_names(index, row) or next(
                (fault for name, value in row.items() if (fault := self._fault_of_value(index, name, value))), None
            )
        if isinstance(row, list):
            bad = next((value for value in row if isinstance(value, list | dict)), None)
            message = f"row {index}: {kind_of(bad)} where a value belongs"
            return None if bad is None else InputFault("wrong_type", message, index)
        return self._fault_of_bare(index, row)

    def _fault_of_names(self, index: int, row: dict[str, Any]) -> InputFault | None:
        """Only a name that no version knows: what is lacking depends on the version."""
        return None if row.keys() <= self._names else super()._fault_of_names(index, row)

    def _fault_of_value(self, index: int, name: str, value: Any) -> InputFault | None:
        """The fault of a value that no version takes."""
        faults = [column.fault(index, value) for column in self._columns_of[name]]
        return faults[0] if all(faults) else None


def format_of_versions(
    first: Sequence[Feature], versions: Mapping[str, Sequence[Feature]], limits: LimitSettings
) -> RowReader:
    """How requests for versions of these features are read: as one format where all agree with `first`, else a union.

    `first` are the features of rows without names; they stay the same however versions come and go.
    """
    common = row_format_of(first, limits)
    if all(row_format_of(features, limits).reads_like(common) for features in versions.values()):
        return common
    return UnionRows(first, versions, limits)


def why_contradicting(one: Iterable[Feature], other: Iterable[Feature]) -> str | None:
    """Why versions of these features cannot be side by side, if that is so."""
    known = {feature.name: feature for feature in one}
    theirs_by_name = {feature.name: feature for feature in other}
    shared = [(mine, theirs_by_name[name]) for name, mine in known.items() if name in theirs_by_name]
    if not shared:
        return "they have no feature in common"
    for mine, theirs in shared:
        if _kind(mine) != _kind(theirs):
            return f"the feature {mine.name!r} is {_kind(mine)} in one and {_kind(theirs)} in the other"
    alone = [len(features) == 1 for features in (known, theirs_by_name) if "a text" in map(_kind, features.values())]
    return "one of them takes a text alone" if len(set(alone)) > 1 else None


def _row_bytes(row_format: RowFormat, sent_as: Precision | None) -> int:
    """Bytes of a packed row of the format, in that precision or its own."""
    return (sent_as or row_format.schema.precision).dtype.itemsize * len(row_format.feature_names)


def _some_value(column: Column) -> Any:
    return column.spell(0) if isinstance(column, Number | Category) else ""


class _Cell(str):
    """A cell of a table, which is no value yet."""

    __slots__ = ()


def _has_cells(rows: Sequence[Any]) -> bool:
    return isinstance(rows[0], dict) and type(next(iter(rows[0].values()), None)) is _Cell


def _read_values(rows: Sequence[Any], own: RowFormat) -> tuple[RequestRows, int]:
    """Values of JSON; of objects only what the format has."""
    names = frozenset(own.feature_names)
    taken = [_part_of(row, names) if isinstance(row, dict) else row for row in rows]
    return own.pack_values(taken), len(taken)


def _read_cells(rows: Sequence[dict[str, str]], own: RowFormat) -> tuple[RequestRows, int]:
    names = own.feature_names
    if not rows[0].keys() >= set(names):
        raise own.explain([_part_of(row, frozenset(names)) for row in rows[:1]])
    read = own.cell_reader(names)
    packed = own.pack_values([read([str(row[name]) for name in names]) for row in rows])
    own.check_finite(packed)
    return packed, len(rows)


def _meaning(schema: Schema) -> list[tuple[str, tuple[str, ...]]]:
    """What packed numbers mean: the columns in their order, and their levels in theirs."""
    return [(each.name, each.levels if isinstance(each, Category) else ()) for each in schema.columns]


def _part_of(row: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return row if row.keys() <= names else {name: value for name, value in row.items() if name in names}


def _with_truths(feature: Feature, truths: set[str]) -> Feature:
    """The feature; a number is sent as a truth value, too, where some version takes it as one."""
    is_number = feature.name in truths and feature.type in ("float", "integer")
    return feature.model_copy(update={"type": "boolean"}) if is_number else feature


def _kind(feature: Feature) -> str:
    if feature.type == "text":
        return "a text"
    return "a category" if feature.levels else "a number"


def _in_order_of(first: Sequence[str]) -> Callable[[str], int]:
    """The key that sorts these names first, and leaves all others as they are."""
    positions = {name: position for position, name in enumerate(first)}
    return lambda name: positions.get(name, len(positions))
