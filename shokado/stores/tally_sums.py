"""Sums of tallies over a window that ends now, read again and again: what has not changed is not read again.

    marks of all minutes --(those of a block are as before)--> the block's sums, as they are kept
                          `--(one is another)--> tallies of its minutes, read and added up

A window of a day has some ten thousand tallies for each version, of which only those of the last minute change.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from shokado.stores.store import BUCKET_S, Store, Tally, minute_of

BLOCK_S = 10 * BUCKET_S
"""Minutes that are added up once: of a day there are 145 sums, and ten minutes are read when one of them changes."""
KEPT_LENGTHS = 4
"""Lengths of pieces that are remembered: a dashboard asks for three."""


@dataclass(frozen=True, slots=True)
class _Block:
    marks: Mapping[int, str | None]
    """By minute: those of the tallies that were added up."""
    sums: Mapping[Tally, float]

    def is_of(self, marks: Mapping[int, str | None]) -> bool:
        return None not in marks.values() and marks == self.marks


class TallySums:
    """Keeps what it was asked for last. For one thread, that of the store, and for windows of one length."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._blocks = _Blocks(store, BLOCK_S)
        self._pieces: OrderedDict[int, _Blocks] = OrderedDict()
        """By their length."""

    def since(self, at: float) -> dict[tuple[int, Tally], float]:
        """The sums of all tallies from `at` on, in Unix seconds, as if the minute of `at` had them all.

        They are those that `Store.tallies` would add up to. Raises `StoreUnavailable`.
        """
        sums = _added_up(self._blocks.since(at).values())
        return {(minute_of(at), tally): value for tally, value in sums.items()}

    def pieces_since(self, begin: int, length_s: int) -> dict[tuple[int, Tally], float]:
        """The sums of each piece of time of that length from `begin` on, as if its first minute had them all.

        Both are in seconds; the length is of whole minutes, and `begin` a multiple of it. Raises `StoreUnavailable`.
        """
        blocks = self._pieces.setdefault(length_s, _Blocks(self._store, length_s))
        self._pieces.move_to_end(length_s)
        while len(self._pieces) > KEPT_LENGTHS:
            self._pieces.popitem(last=False)
        found = blocks.since(begin)
        return {(number * length_s, tally): value for number, sums in found.items() for tally, value in sums.items()}


class _Blocks:
    """The sums of blocks of minutes, as they were when they were asked for last."""

    def __init__(self, store: Store, length_s: int) -> None:
        self._store = store
        self._length_s = length_s
        self._kept: dict[int, _Block] = {}

    def since(self, at: float) -> dict[int, Mapping[Tally, float]]:
        """Those of the minute of `at` and all later ones, by the number of the block, ascending."""
        wanted: defaultdict[int, dict[int, str | None]] = defaultdict(dict)
        for minute, mark in self._store.tally_marks(at).items():
            wanted[minute // self._length_s][minute] = mark
        kept = {number: self._kept[number] for number in wanted.keys() & self._kept.keys()}
        kept = {number: block for number, block in kept.items() if block.is_of(wanted[number])}
        self._kept = kept | self._read({number: minutes for number, minutes in wanted.items() if number not in kept})
        return {number: self._kept[number].sums for number in sorted(wanted)}

    def _read(self, wanted: Mapping[int, Collection[int]]) -> dict[int, _Block]:
        """The blocks of these minutes, as they are now."""
        found = self._store.tallies_of([minute for minutes in wanted.values() for minute in minutes]) if wanted else {}
        blocks = {}
        for number, minutes in wanted.items():
            read = {minute: found[minute] for minute in minutes if minute in found}
            marks = {minute: one.mark for minute, one in read.items()}
            blocks[number] = _Block(marks, _added_up(one.counts for one in read.values()))
        return blocks


def _added_up(parts: Iterable[Mapping[Tally, float]]) -> dict[Tally, float]:
    sums: defaultdict[Tally, float] = defaultdict(float)
    for part in parts:
        for tally, value in part.items():
            sums[tally] += value
    return dict(sums)
