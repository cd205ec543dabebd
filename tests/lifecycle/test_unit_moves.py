"""Previews of many units, made of several answers."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from shokado.client.answers import Move, Preview
from shokado.lifecycle.errors import LifecycleError, Overtaken
from shokado.lifecycle.rollout.unit_moves import BYTES_A_QUESTION, UNITS_A_QUESTION, preview_of, read_units

CHANGE = {"weights": {"v1": 1, "v2": 1}}


class Scripted:
    """A gateway whose every third unit moves, and whose routing is changed as often as is wanted."""

    def __init__(self, *, restless: bool = False, decided: bool = True) -> None:
        self.asked: list[Sequence[str] | None] = []
        self.restless, self.decided = restless, decided

    def preview(self, change: Mapping[str, Any], units: Sequence[str] | None, max_examples: int) -> Preview:
        assert change == CHANGE
        self.asked.append(units)
        moving = [unit for unit in units or () if int(unit.split("-")[1]) % 3 == 0]
        total = len(units or ())
        move = Move("v1", "v2", len(moving), len(moving) / max(total, 1), moving[:max_examples])
        return Preview(
            environment="production",
            generation=len(self.asked) if self.restless else 7,
            shares_before={"v1": 1.0},
            shares_after={"v1": 0.5, "v2": 0.5},
            units=total,
            made_up=units is None,
            moved=len(moving) if self.decided else None,
            moves=(move,) if moving and self.decided else (),
            stay={"v1": total - len(moving)} if self.decided else None,
        )


def asked_of(gateway: Any, units: Sequence[str] | None, max_examples: int = 3) -> Preview:
    return preview_of(gateway, CHANGE, units, max_examples)


def test_pieces_are_added_up() -> None:
    gateway, units = Scripted(), [f"u-{number}" for number in range(3000)]
    found = asked_of(gateway, units)
    assert [len(piece or ()) for piece in gateway.asked] == [900, 900, 900, 300]
    assert [unit for piece in gateway.asked for unit in piece or ()] == units
    assert (found.moved, found.units, found.stay) == (1000, 3000, {"v1": 2000})
    assert found.moves == (Move("v1", "v2", 1000, 1 / 3, ("u-0", "u-3", "u-6")),)


def test_units_that_are_long_make_short_pieces() -> None:
    gateway = Scripted()
    asked_of(gateway, ["\N{PILE OF POO}" * 200 + f"-{number}" for number in range(UNITS_A_QUESTION)])
    assert len(gateway.asked) > 1
    assert all(sum(12 * len(unit) for unit in piece or ()) < 1.1 * BYTES_A_QUESTION for piece in gateway.asked)


def test_made_up_units_are_the_servers() -> None:
    gateway = Scripted()
    assert asked_of(gateway, None).made_up
    assert gateway.asked == [None]


def test_where_requests_are_drawn_nobody_in_particular_moves() -> None:
    found = asked_of(Scripted(decided=False), [f"u-{number}" for number in range(1000)])
    assert (found.moved, found.stay, found.moves) == (None, None, ())


def test_a_routing_that_changes_meanwhile_is_an_error_and_no_wrong_number() -> None:
    with pytest.raises(Overtaken, match="changed the routing"):
        asked_of(Scripted(restless=True), [f"u-{number}" for number in range(1000)])


def test_units_are_read_once_each_in_their_order() -> None:
    assert read_units(["b\n", " a \r\n", "\n", "b"], "users.txt") == ["b", "a"]
    with pytest.raises(LifecycleError, match=r"users\.txt, line 2: .*, and this one 300"):
        read_units(["a", "x" * 300], "users.txt")
    with pytest.raises(LifecycleError, match="no units"):
        read_units(["  \n"], "users.txt")
