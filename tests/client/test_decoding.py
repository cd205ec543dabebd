"""JSON into dataclasses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from shokado.client.decoding import NotOfThisKind, decode


@dataclass(frozen=True)
class Part:
    name: str
    size: int = 1


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    by_name: Mapping[str, Part]
    share: float
    label: int | str
    scores: Sequence[float]
    at: datetime
    any: Any
    first: Part | None
    known: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)


CONTENT: dict[str, Any] = {
    "parts": [{"name": "a"}, {"name": "b", "size": 2}], "by_name": {"c": {"name": "c"}}, "share": 1, "label": "x",
    "scores": [0.5, [1]], "at": "2026-01-01T00:00:00+00:00", "any": {"free": 1}, "first": None, "newer": "field",
}  # fmt: skip


def test_everything_has_its_kind() -> None:
    assert decode(Whole, CONTENT) == Whole(
        (Part("a"), Part("b", 2)), {"c": Part("c")}, 1, "x", [0.5, [1]],  # type: ignore[list-item]
        datetime(2026, 1, 1, tzinfo=UTC), {"free": 1}, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": {}}, r"Whole\.parts is"),
        ({"parts": [{"size": 1}]}, r"Whole\.parts\[0\] has no name"),
        ({"parts": [[]]}, r"Whole\.parts\[0\] is"),
        ({"by_name": []}, r"Whole\.by_name is"),
        ({"by_name": {"c": {"name": 1}}}, r"Whole\.by_name\.c\.name is '1'"),
        ({"share": "1"}, r"Whole\.share is '1'"),
        ({"share": True}, r"Whole\.share is 'True'"),
        ({"label": 0.5}, r"Whole\.label is"),
        ({"scores": "text"}, r"Whole\.scores is"),
        ({"at": 7}, r"Whole\.at is"),
        ({"at": "now"}, r"Whole\.at is 'now'"),
        ({"first": {"name": None}}, r"Whole\.first\.name is 'None'"),
        ({"known": 1}, r"Whole\.known is '1'"),
        ({"counts": {"a": 0.5}}, r"Whole\.counts\.a is"),
    ],
)
def test_what_is_of_another_kind_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(NotOfThisKind, match=message):
        decode(Whole, CONTENT | change)


@pytest.mark.parametrize("content", [None, [], "text", 1])
def test_what_is_no_object_is_named(content: Any) -> None:
    with pytest.raises(NotOfThisKind, match="Whole is"):
        decode(Whole, content)
