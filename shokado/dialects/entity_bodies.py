"""Bodies that name entities, beside or instead of values of their rows.

    {"entities": [{"customer_id": 17}, ..]}                              a row for each
    {"entities": {"customer_id": 17}, "instances": [{"amount": 5}, ..]}  the entity of every row
    {"entities": {"customer_id": 17}, "features": {"amount": 5}}         where a body has one row

`read` finds the entities; what was looked up of them is put into the rows, where these have no value of their own, and
the whole is a body as its dialect knows it. What is missing is left out of its row, so that only a version that takes
the feature refuses the row; `EntityBody.blamed` says then of whom it was looked up.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from configuration.feature_settings import EntityType, FeatureSettings, FeatureValue, WhenMissing
from runners.inputs.faults import InputFault, too_many_rows
from runners.inputs.rows import RowReader
from runners.inputs.union import UnionRows
from runners.inputs.wording import is_unicode, kind_of, legible
from shokado.dialects.head import MAX_UNIT_CHARACTERS
from shokado.dialects.json_text import LONG_BYTES, exceeds
from shokado.dialects.problem import Problem, invalid
from shokado.features.entity_features import Entity, EntityFeatures, Lack

ENTITIES = "entities"
_MARK = b'"entities"'
_BESIDE = 1024
"""Values, and lists, that a body may have beside its rows and entities."""
_MAX_INTEGER = 2**63
"""Feast's integers have 64 bits."""
_MOST_SHOWN = 60
"""Characters of an entity's value that a message repeats."""

Row = dict[str, Any]
LackObserver = Callable[[str, Lack, bool], None]
"""Is told of a feature that a row has no value of, why, and whether it was given a default."""
KnownNames = Callable[[tuple[str, ...]], frozenset[str] | None]
"""Gives the features that there are for entities of these names; None where that is not known."""


class EntityBody:
    """A body that names entities."""

    def __init__(
        self, content: dict[str, Any], field: str, rows: Sequence[Row], entities: Sequence[Entity], *, has_one_row: bool
    ) -> None:
        """`field` has the rows in `content`, or the one row; there are as many rows as entities."""
        self.entities = entities
        self._content = content
        self._field = field
        self._has_one_row = has_one_row
        self._rows = rows
        self._looked_up: Sequence[Mapping[str, FeatureValue | Lack | None]] = [{}] * len(rows)
        """What came of the lookup, of each row, by the names of features that it had no value of."""

    def unit_of(self, name: str | None) -> str:
        """The value that all rows have of this entity, as what sticky assignment sticks to; else nothing."""
        values = {entity.get(name) for entity in self.entities} if name is not None else ()
        text = str(*values) if len(values) == 1 and None not in values else ""
        return text if len(text) <= MAX_UNIT_CHARACTERS else ""

    def filled(
        self,
        found: Sequence[EntityFeatures | None],
        known: KnownNames,
        filling: "Filling",
        now: float,
        lacks: LackObserver = lambda *_: None,
    ) -> bytes:
        """The body with what was found of each row's entity; `known` says which features the transformer has.

        `now` is in Unix seconds. `lacks` is told what was missing.
        """
        rows, looked_up = [], []
        for row, entity, features in zip(self._rows, self.entities, found, strict=True):
            values = None if features is None else features.values_at(now)
            names = known(tuple(entity))
            taken = filling.lacking_in(row, values, names)
            looked_up.append(taken)
            rows.append({**filling.values_of(taken, names, lacks), **row})
        self._looked_up = looked_up
        content = {name: value for name, value in self._content.items() if name != ENTITIES}
        content[self._field] = rows[0] if self._has_one_row else rows
        return _encoded(content)

    def blamed(self, problem: Problem) -> Problem:
        """The problem as it is, or 424 where a feature is at fault that was to be looked up."""
        row, name = problem.detail.get("row"), str(problem.detail.get("feature"))
        if not isinstance(row, int) or not 0 <= row < len(self._rows) or name not in self._looked_up[row]:
            return problem
        value = self._looked_up[row][name]
        entity = {key: _shown(said) for key, said in self.entities[row].items()}
        whose = ", ".join(f"{key}={said}" for key, said in entity.items())
        detail = {**problem.detail, "entity": entity}
        if value is Lack.UNAVAILABLE:
            message = f"row {row}: the feature {name!r} of {whose} could not be looked up in time"
            return Problem("features_unavailable", message, detail)
        if value is Lack.STALE:
            message = f"row {row}: what the feature store has as {name!r} of {whose} is older than it may be"
            return Problem("feature_missing", message, detail)
        if value is None or isinstance(value, Lack):
            message = f"row {row}: the feature store has no {name!r} of {whose}"
            return Problem("feature_missing", message, detail)
        message = f"row {row}: what was looked up as {name!r} of {whose} is not taken: {problem.message}"
        return Problem("feature_unfit", message, detail)


class Filling:
    """What becomes of features that rows lack, as it is configured and as versions take them."""

    def __init__(self, settings: FeatureSettings, row_format: RowReader) -> None:
        formats = row_format.formats.values() if isinstance(row_format, UnionRows) else (row_format,)
        columns = [column for one in formats for column in one.schema.columns]
        self._settings = settings
        self._names = [column.name for column in row_format.schema.columns]
        self._nullable = frozenset(column.name for column in columns if getattr(column, "nullable", False))

    def lacking_in(
        self, row: Row, values: Mapping[str, FeatureValue | Lack | None] | None, known: frozenset[str] | None
    ) -> dict[str, FeatureValue | Lack | None]:
        """What the lookup says of each feature that the row lacks; `values` None: it failed."""
        lacking = [name for name in self._names if name not in row]
        if values is not None:
            return {name: values[name] for name in lacking if name in values} | {
                name: Lack.MISSING for name in lacking if name not in values and known is not None and name in known
            }
        return {name: Lack.UNAVAILABLE for name in lacking if known is None or name in known}

    def values_of(
        self, looked_up: Mapping[str, FeatureValue | Lack | None], known: frozenset[str] | None, lacks: LackObserver
    ) -> Row:
        """The values that a row is given; `lacks` is told what was missing, and whether there was a default."""
        row: Row = {}
        for name, value in looked_up.items():
            if isinstance(value, Lack) or (value is None and name not in self._nullable):
                lack = value or Lack.MISSING
                row.update(self._instead(name, lack, known))
                lacks(name, lack, name in row)
            else:
                row[name] = value
        return row

    def _instead(self, name: str, lack: Lack, known: frozenset[str] | None) -> Row:
        """The feature's default, where there is one and the policy is to take it.

        While nobody knows what the transformer has, null may stand for what the client has forgotten, and stands for
        nothing.
        """
        settings = self._settings
        policy = settings.when_unavailable if lack is Lack.UNAVAILABLE else settings.when_missing
        if policy is WhenMissing.REFUSE:
            return {}
        if name in settings.defaults:
            return {name: settings.defaults[name]}
        return {name: None} if name in self._nullable and known is not None else {}


class EntityReader:
    """Finds the entities in bodies of one dialect."""

    def __init__(self, settings: FeatureSettings, field: str, max_text_characters: int) -> None:
        """`field` is where the dialect's bodies have their rows: `instances`, or `features` for one row."""
        self._types = settings.entities
        self._field = field
        self._has_one_row = field == "features"
        self._max_text_characters = max_text_characters

    def read(self, body: bytes, row_format: RowReader) -> EntityBody | None:
        """The body, if it names entities; None where it names none, or cannot be read, which its dialect explains.

        Raises `Problem` and `InputFault`.
        """
        if _MARK not in body:
            return None
        self._refuse_excess(body, row_format)
        try:
            content = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if not isinstance(content, dict) or ENTITIES not in content:
            return None
        given = content[ENTITIES]
        if self._has_one_row:
            rows, entities = [content.get(self._field, {})], [given]
            if not isinstance(given, dict):
                message = f"the field {ENTITIES!r} is {kind_of(given)}; an object of the entity's names belongs there"
                raise invalid("wrong_type", message, field=ENTITIES)
        else:
            rows, entities = self._paired(content, given)
        if len(rows) > row_format.max_rows:
            raise too_many_rows(len(rows), row_format.max_rows)
        for index, row in enumerate(rows):
            if not isinstance(row, dict):
                message = f"row {index} is {kind_of(row)}; beside {ENTITIES!r} a row is an object by name"
                raise InputFault("names_needed", message, index)
        checked = [self._checked(index, entity) for index, entity in enumerate(entities)]
        return EntityBody(content, self._field, rows, checked, has_one_row=self._has_one_row)

    def _paired(self, content: dict[str, Any], given: Any) -> tuple[list[Any], list[Any]]:
        """Rows, and the entity of each."""
        if not isinstance(given, list | dict):
            wanted = "an object, or a list of one for each row, belongs there"
            message = f"the field {ENTITIES!r} is {kind_of(given)}; {wanted}"
            raise invalid("wrong_type", message, field=ENTITIES)
        rows = content.get(self._field)
        if self._field in content and not isinstance(rows, list):
            message = f"the field {self._field!r} is {kind_of(rows)}; a list of rows belongs there"
            raise invalid("wrong_type", message, field=self._field)
        if isinstance(given, dict):
            rows = [{}] if rows is None else rows
            return rows, [given] * len(rows)
        rows = [{} for _ in given] if rows is None else rows
        if len(rows) != len(given):
            message = f"there are {len(given)} entities for {len(rows)} rows; name one for each, or one object for all"
            raise invalid("wrong_shape", message, field=ENTITIES)
        return rows, given

    def _checked(self, index: int, entity: Any) -> Entity:
        """The entity with its names in the configured order. Raises `Problem` and `InputFault`."""
        if not isinstance(entity, dict) or not entity:
            message = f"row {index}: the entity is {kind_of(entity)}; an object belongs here that has {self._known}"
            raise invalid("wrong_type", message, index, field=ENTITIES)
        for name in entity:
            if name not in self._types:
                shown = legible(name)
                message = f"row {index}: {shown!r} is no entity here; known are {', '.join(self._types)}"
                raise invalid("unknown_entity", message, index, entity=shown)
        named = ((name, kind) for name, kind in self._types.items() if name in entity)
        return {name: self._value(index, name, kind, entity[name]) for name, kind in named}

    def _value(self, index: int, name: str, kind: EntityType, value: Any) -> FeatureValue:
        match kind:
            case EntityType.INTEGER if type(value) is int and -_MAX_INTEGER <= value < _MAX_INTEGER:
                return value
            case EntityType.NUMBER if _is_number(value):
                return float(value)
            case EntityType.BOOLEAN if type(value) is bool:
                return value
            case EntityType.TEXT if type(value) is str and is_unicode(value):
                if len(value) > self._max_text_characters:
                    limit = self._max_text_characters
                    message = f"row {index}: the text {name!r} has {len(value)} characters; at most {limit} are allowed"
                    raise InputFault("text_too_long", message, index, beside={"entity": name, "limit": limit})
                return value
        article = "an" if kind is EntityType.INTEGER else "a"
        beside = " of at most 64 bits" if kind is EntityType.INTEGER and type(value) is int else ""
        message = f"row {index}: the entity {name!r} is {kind_of(value)}; {article} {kind}{beside} belongs here"
        raise invalid("wrong_type", message, index, entity=name)

    @property
    def _known(self) -> str:
        return " or ".join(self._types)

    def _refuse_excess(self, body: bytes, row_format: RowReader) -> None:
        """Raise `Problem` (413) for a body that has more values than all rows and entities that are allowed."""
        if len(body) < LONG_BYTES:
            return
        rows = 1 if self._has_one_row else row_format.max_rows
        width = len(row_format.feature_names) + len(self._types)
        if exceeds(body, rows * (width + 2) + _BESIDE, 2 * rows + _BESIDE):
            message = f"the body has more values than {rows} rows of {width}, which are allowed in one request"
            raise Problem("too_many_rows", message, {"limit": rows})


def _is_number(value: Any) -> bool:
    return math.isfinite(value) if type(value) is float else type(value) is int and abs(value) < _MAX_INTEGER


def _shown(value: Any) -> Any:
    """As much of an entity's value as an answer repeats."""
    return f"{value[:_MOST_SHOWN]}.." if isinstance(value, str) and len(value) > _MOST_SHOWN else value


def _encoded(content: Any) -> bytes:
    """JSON; numbers of more than 64 bits are the standard library's to write."""
    try:
        return msgspec.json.encode(content)
    except OverflowError:
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
