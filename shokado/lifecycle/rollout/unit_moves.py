"""Who would move of many units: a change of the split and a file go in, one preview comes out.

A server looks at some hundred units in one question. So a file is asked about piece by piece, all of them against the
same generation of the routing.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from shokado.client.answers import Move, Preview
from shokado.lifecycle.errors import LifecycleError, Overtaken
from shokado.lifecycle.rollout.gateway_client import GatewayClient

MAX_UNIT_CHARACTERS = 256
"""The longest unit that a server takes."""
UNITS_A_QUESTION = 900
"""A server takes at most 1,000 values in a question, and some are the change itself."""
BYTES_A_QUESTION = 2**19
"""Half of the bytes that a server takes in a question."""


def read_units(lines: Iterable[str], name: str) -> list[str]:
    """The units of a file, one a line, each once, in their order. `name` is the file's, for errors.

    Raises `LifecycleError` for a line that is too long to be one, and where there is none.
    """
    units: dict[str, None] = {}
    try:
        for number, line in enumerate(lines, 1):
            unit = line.strip()
            if len(unit) > MAX_UNIT_CHARACTERS:
                message = f"{name}, line {number}: a unit has at most {MAX_UNIT_CHARACTERS} characters"
                raise LifecycleError(f"{message}, and this one {len(unit)}.")
            if unit:
                units[unit] = None
    except (OSError, UnicodeError) as error:
        raise LifecycleError(f"{name} cannot be read: {error}.") from error
    if not units:
        raise LifecycleError(f"{name} has no units; write one a line.")
    return list(units)


def preview_of(
    gateway: GatewayClient, change: Mapping[str, Any], units: Sequence[str] | None, max_examples: int
) -> Preview:
    """Which of the units would get another version; None: of a thousand made-up ones.

    Raises `Overtaken` where the routing was changed meanwhile, and what the gateway client raises.
    """
    if units is None:
        return gateway.preview(change, None, max_examples)
    pieces: list[Preview] = []
    for piece in _pieces(units):
        pieces.append(gateway.preview(change, piece, max_examples))
        if pieces[-1].generation != pieces[0].generation:
            message = "Somebody else has changed the routing while units were looked at; nothing was changed by this."
            raise Overtaken(message, "shokado split preview")
    return _together(pieces, max_examples)


def _pieces(units: Iterable[str]) -> Iterator[list[str]]:
    piece: list[str] = []
    size = 0
    for unit in units:
        bytes_of_it = len(json.dumps(unit)) + 2
        if piece and (len(piece) == UNITS_A_QUESTION or size + bytes_of_it > BYTES_A_QUESTION):
            yield piece
            piece, size = [], 0
        piece.append(unit)
        size += bytes_of_it
    yield piece


def _together(pieces: Sequence[Preview], max_examples: int) -> Preview:
    first, units = pieces[0], sum(piece.units for piece in pieces)
    counts: Counter[tuple[str, str]] = Counter()
    examples: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    stay: Counter[str] = Counter()
    for piece in pieces:
        stay.update(piece.stay or {})
        for move in piece.moves:
            counts[move.before, move.after] += move.units
            examples[move.before, move.after] += move.examples
    moves = tuple(
        Move(*way, count, count / units, tuple(examples[way][:max_examples])) for way, count in counts.most_common()
    )
    return Preview(
        environment=first.environment,
        generation=first.generation,
        shares_before=first.shares_before,
        shares_after=first.shares_after,
        units=units,
        made_up=first.made_up,
        moved=None if first.moved is None else counts.total(),
        moves=moves,
        stay=None if first.stay is None else dict(sorted(stay.items())),
    )
