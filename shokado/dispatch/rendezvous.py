"""Weighted rendezvous hashing: which version a unit sticks to.

A unit's hash u is the first 64 bits of BLAKE2b(unit), keyed with the salt's own hash. Each version turns it into a
number h in (0, 1) of its own by multiply-shift, h = ((a * u + b) mod 2^128) / 2^128 with a and b drawn from
BLAKE2b(version): this is strongly universal for 64-bit u (Dietzfelbinger, "Universal hashing and k-wise independent
random variables via integer arithmetic without primes", STACS 1996), and faster than a hash per version. The version
with the largest ln(h) / weight gets the unit (Schindelhauer and Schomaker, "Weighted distributed hash tables", SPAA
2005), so versions get units in proportion to their weights, and raising one version's weight moves units to it and
never between the others.

Frozen: another formula would move users. `tests/dispatch/test_rendezvous.py` pins it with vectors.
"""

from collections.abc import Callable, Mapping
from hashlib import blake2b
from math import inf, log

_USE = b"shokado.unit.v1"
_BITS = 52
"""Bits of h: with the half that keeps it above 0 and below 1, what a float holds exactly."""
_MODULUS = (1 << 128) - 1
_SHIFT = 128 - _BITS
_SCALE = 2.0**-_BITS
_HALF = _SCALE / 2


_Lot = tuple[int, int, float, str]
"""A version's lot: a, b, 1 / weight, and its name."""


class Rendezvous:
    """Assigns units to versions of positive weight. Immutable, and the same in every process."""

    __slots__ = ("_key", "_lots", "version_of")

    def __init__(self, salt: str, weights: Mapping[str, float]) -> None:
        self._key = blake2b(salt.encode(), digest_size=32, person=_USE).digest()
        self._lots: tuple[_Lot, ...] = tuple(
            (*_multiplier(version), 1 / weight, version) for version, weight in weights.items() if weight > 0
        )
        self.version_of = _choosing(self._key, self._lots)
        """The version that a unit sticks to."""

    def number_of(self, unit: str) -> int:
        """The unit's hash u: all that versions' scores are made of."""
        return int.from_bytes(blake2b(unit.encode(), digest_size=8, key=self._key, person=_USE).digest(), "little")

    def version_of_number(self, number: int) -> str:
        """The version that a unit of this hash sticks to."""
        scores = self._scores(number)
        return max(scores, key=scores.__getitem__)

    def scores_of(self, unit: str) -> dict[str, float]:
        """Each version's score, below 0; the largest has the unit."""
        return self._scores(self.number_of(unit))

    def _scores(self, number: int) -> dict[str, float]:
        return {
            version: log(((a * number + b & _MODULUS) >> _SHIFT) * _SCALE + _HALF) * inverse_weight
            for a, b, inverse_weight, version in self._lots
        }


def _choosing(key: bytes, lots: tuple[_Lot, ...]) -> Callable[[str], str]:
    """The version of a unit, as a function: what it needs lies in its own cells, which is faster than a method."""
    begun = blake2b(key=key, digest_size=8, person=_USE)

    def version_of(unit: str) -> str:
        hashed = begun.copy()
        hashed.update(unit.encode())
        number = int.from_bytes(hashed.digest(), "little")
        best = -inf
        chosen = ""
        for a, b, inverse_weight, version in lots:
            score = log(((a * number + b & _MODULUS) >> _SHIFT) * _SCALE + _HALF) * inverse_weight
            if score > best:
                best, chosen = score, version
        return chosen

    return version_of


def _multiplier(version: str) -> tuple[int, int]:
    digest = blake2b(version.encode(), digest_size=32, person=_USE).digest()
    return int.from_bytes(digest[:16], "little"), int.from_bytes(digest[16:], "little")
