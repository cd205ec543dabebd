"""JSON into frozen dataclasses, by their annotations; with what the standard library has.

Fields that a dataclass does not have are left out, so that an older client understands a newer server. A field that is
missing and has no default, or whose value is of another kind, raises `NotOfThisKind`, which says where.
"""

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

Kind = TypeVar("Kind")
_Read = Callable[[Any, str], Any]
"""A value, and where it stands, into what it is read as."""


class NotOfThisKind(ValueError):
    """The message says where, and what stands there."""


def decode(kind: type[Kind], content: Any) -> Kind:
    """The value of that kind which `content`, as `json.loads` gives it, stands for."""
    read: _Read = _reader_of(cast("Any", kind))
    return cast("Kind", read(content, kind.__name__))


@cache
def _reader_of(kind: Any) -> _Read:
    if kind is Any:
        return lambda value, _: value
    if is_dataclass(kind):
        return _dataclass_reader(cast("type", kind))
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _union_reader(parts)
    if origin is tuple:
        return _tuple_reader(_reader_of(parts[0]))
    if origin is Mapping:
        return _mapping_reader(_reader_of(parts[1]))
    if origin is Sequence:
        # As it is: thousands of scores are not looked at one by one.
        return _checking_reader((list,))
    if kind is datetime:
        return _read_datetime
    # Whole numbers are written without a point by some.
    return _checking_reader((int, float) if kind is float else (kind,))


def _dataclass_reader(kind: type) -> _Read:
    hints = get_type_hints(kind)
    readers = [(field.name, _reader_of(hints[field.name])) for field in fields(kind)]
    required = {field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING}

    def read(value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise _wrong(value, where)
        if not required <= value.keys():
            raise NotOfThisKind(f"{where} has no {min(required - value.keys())}")
        return kind(**{name: read(value[name], f"{where}.{name}") for name, read in readers if name in value})

    return read


def _union_reader(parts: Sequence[Any]) -> _Read:
    """A reader of one of several plain kinds, or of one or None."""
    others = [part for part in parts if part is not type(None)]
    if len(others) > 1:
        return _checking_reader(tuple(parts))
    inner = _reader_of(others[0])
    return lambda value, where: None if value is None else inner(value, where)


def _tuple_reader(inner: _Read) -> _Read:
    def read(value: Any, where: str) -> Any:
        if not isinstance(value, list):
            raise _wrong(value, where)
        return tuple(inner(item, f"{where}[{index}]") for index, item in enumerate(value))

    return read


def _mapping_reader(inner: _Read) -> _Read:
    def read(value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise _wrong(value, where)
        return {name: inner(item, f"{where}.{name}") for name, item in value.items()}

    return read


def _checking_reader(kinds: tuple[type, ...]) -> _Read:
    def read(value: Any, where: str) -> Any:
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise _wrong(value, where)
        return value

    return read


def _read_datetime(value: Any, where: str) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _wrong(value, where) from None


def _wrong(value: Any, where: str) -> NotOfThisKind:
    return NotOfThisKind(f"{where} is {str(value)[:100]!r}")
