"""Layers: which units an experiment may have, so that others may have the rest.

A unit's position is that of its hash, the first 53 of 64 bits of BLAKE2b(unit) keyed with the hash of the layer's name;
experiments with disjoint parts of a layer share no unit (D. Tang, A. Agarwal, D. O'Brien and M. Meyer, "Overlapping
experiment infrastructure", KDD 2010). No hash by which units are assigned, sampled or counted is kin of it.

Frozen: servers of different releases must agree. `tests/dispatch/test_layer.py` pins it with vectors.
"""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

_USE = b"shokado.layer.v1"
_SHIFT = 64 - 53
"""A float holds 53 bits exactly, so a position is below 1 and lies in exactly one of two parts that touch."""
_SCALE = 2.0**-53


@dataclass(frozen=True, slots=True)
class Layer:
    """The part of a layer that an environment's split is for."""

    name: str
    start: float
    """Positions from here on are inside, ..."""
    end: float
    """... up to here, without it."""
    outside: str | None = None
    """The version that units outside get; None: the one that the split gives them, as where a shadow is compared."""

    def position_of(self, unit: str) -> float:
        """Where in the layer a unit lies, in [0, 1)."""
        hashed = _begun(self.name).copy()
        hashed.update(unit.encode())
        return (int.from_bytes(hashed.digest(), "little") >> _SHIFT) * _SCALE

    def has(self, unit: str) -> bool:
        """Whether a unit is inside."""
        return self.start <= self.position_of(unit) < self.end

    def overlaps(self, other: "Layer") -> bool:
        """Whether some position is inside of both."""
        return self.name == other.name and max(self.start, other.start) < min(self.end, other.end)

    def __str__(self) -> str:
        return f"the part from {self.start:g} to {self.end:g} of the layer {self.name}"


@lru_cache(maxsize=256)
def _begun(name: str) -> "blake2b":
    """The hash of a layer, before the unit."""
    key = blake2b(name.encode(), digest_size=32, person=_USE).digest()
    return blake2b(key=key, digest_size=8, person=_USE)
