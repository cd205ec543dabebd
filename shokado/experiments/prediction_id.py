"""Prediction ids: what feedback needs to know about a prediction, carried by the client instead of stored here.

An id is `head + facts + scores + tag`, which answers show as URL-safe base64 without padding. Head and facts say which
version answered in which environment, when, and under which generation; the scores are those of the first rows; the tag
is 12 bytes of BLAKE2b keyed with a secret that all workers share, so an id that was not made by one of them is
recognised. All numbers are little-endian.

What a split made while an experiment runs has another format, with 8 bytes of the unit's hash between facts and scores.
Where figures are told apart by segments, the format is one more: a digest and the number of features follow the names,
and a byte for each feature of each of the first rows stands before the scores (see `row_levels`).
"""

import itertools
import secrets
import struct
import time
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from runners.artefacts.scores import outcomes_of, outcomes_per_row
from shokado.dispatch.reason import SPLIT, STICKY
from shokado.experiments.row_levels import DIGEST_BYTES, RowLevels, SealedLevels
from shokado.stores.evidence import UNIT_BYTES

if TYPE_CHECKING:
    from runners.artefacts.card import Card
    from shokado.dispatch.request import Origin, Prediction

MAX_CARRIED_ROWS = 32
"""How many rows' scores an id carries, at four bytes each, so that it stays short; fewer where a row has several.
Rewards count for all rows."""
MAX_CHARACTERS = 640
"""More than an id has, whose longest one is some 430 bytes: what is longer is not decoded."""
_FORMAT = 1
"""The first byte of an id, so that another format can follow."""
_WITH_UNIT = 2
"""The same for an id that says the unit."""
_WITH_LEVELS = 4
"""Added to either for an id that says the levels of its rows."""
_FORMATS = (_FORMAT, _WITH_UNIT, _FORMAT | _WITH_LEVELS, _WITH_UNIT | _WITH_LEVELS)
_HEAD = struct.Struct("<BBBI")
"""Format; lengths of the version's and the environment's name, which follow; generation."""
_LEVELS = struct.Struct(f"<{DIGEST_BYTES}sB")
"""What levels mean; how many a row has."""
_FACTS = struct.Struct("<IQI")
"""Unix time; the prediction's own number; rows. The scores follow."""
_MAX_REMEMBERED_BEGINNINGS = 256
"""Versions, environments and generations whose beginnings are kept: few are in use at a time."""
_TAG_BYTES = 12
"""Length of the seal: 96 bits, which nobody guesses within the time that an id lives."""
_USE = b"shokado.id.v1"
_BY_SPLIT = (SPLIT, STICKY)
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_STANDARD = str.maketrans("-_", "+/")


class IdFault(StrEnum):
    """What is wrong with an id."""

    MALFORMED = "malformed"
    FORGED = "forged"
    EXPIRED = "expired"


class BadPredictionId(Exception):
    """An id that feedback cannot be joined by."""

    def __init__(self, fault: IdFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Provenance:
    """The prediction that an id stands for."""

    key: str
    """The prediction's own key, which no other one has."""
    version: str
    environment: str
    generation: int
    at: float
    """When it was made, in Unix seconds."""
    row_count: int
    outcomes: tuple[float, ...]
    """The outcomes of the first rows, one after the other; see `runners.artefacts.scores.outcomes_of`."""
    unit: bytes = b""
    """The hash of whom the split gave this version, where an experiment ran; empty for all else."""
    levels: SealedLevels | None = None
    """The levels of the first rows, where figures are told apart by them."""


def carried_rows(card: "Card") -> int:
    """How many rows of a request the id carries the outcomes of."""
    return MAX_CARRIED_ROWS // outcomes_per_row(card)


class PredictionIds:
    """Makes and reads ids. All workers that know the same secrets (32 bytes each) read each other's."""

    def __init__(
        self,
        secret: bytes,
        max_age_s: float,
        clock: Callable[[], float] = time.time,
        levels: Callable[["Card"], RowLevels | None] = lambda _: None,
    ) -> None:
        """`levels` gives what finds the levels of a version's rows, where figures are told apart by them."""
        self._levels = levels
        self._max_age_s = max_age_s
        self._clock = clock
        # From so large a range that no two processes get near each other.
        self._numbers = itertools.count(secrets.randbits(63))
        self.use([secret])

    def use(self, known: Sequence[bytes]) -> None:
        """Make ids by the first secret from now on, and read those of all."""
        self._seals = tuple(blake2b(key=secret, digest_size=_TAG_BYTES, person=_USE) for secret in known)
        self._keyed = self._seals[0]
        self._beginnings: dict[tuple[int, Origin], tuple[bytes, blake2b, RowLevels | None]] = {}

    def make(self, prediction: "Prediction") -> str:
        """The id of a prediction that has its scores."""
        origin = prediction.origin
        stage, unit, kind = origin.stage, b"", _FORMAT
        if stage is not None and prediction.reason in _BY_SPLIT:
            unit, kind = stage.unit_bytes(prediction.unit), _WITH_UNIT
        head, keyed, levels = self._beginnings.get((kind, origin)) or self._begin(kind, origin)
        if levels is not None:
            unit += levels.codes(prediction.rows, min(prediction.row_count, MAX_CARRIED_ROWS))
        scores = prediction.scores
        assert scores is not None
        if prediction.row_count > 1 or scores.ndim > 1:
            scores = outcomes_of(origin.card, scores[: carried_rows(origin.card)])
        facts = _FACTS.pack(int(self._clock()), next(self._numbers), prediction.row_count) + unit + scores.tobytes()
        keyed = keyed.copy()
        keyed.update(facts)
        return b2a_base64(head + facts + keyed.digest()).translate(_URL_SAFE, b"=\n").decode()

    def read(self, text: str) -> Provenance:
        """What an id says, in base64 of either alphabet, padded or not. Raises `BadPredictionId`."""
        content = _decoded(text)
        payload, tag = content[:-_TAG_BYTES], content[-_TAG_BYTES:]
        if not any(secrets.compare_digest(_tag(seal, payload), tag) for seal in self._seals):
            raise BadPredictionId(IdFault.FORGED, "the id was not made by this service")
        found = _said(payload)
        age_s = self._clock() - found.at
        # One that lies ahead was made here as well, before a clock was set back.
        if abs(age_s) > self._max_age_s:
            message = f"the prediction is {age_s / 3600:.1f} hours old; at most {self._max_age_s / 3600:g} are allowed"
            raise BadPredictionId(IdFault.EXPIRED, message)
        return found

    def _begin(self, kind: int, origin: "Origin") -> tuple[bytes, blake2b, RowLevels | None]:
        """What all ids of this format and origin begin with, the hash of that, and what finds the levels of rows."""
        if len(self._beginnings) >= _MAX_REMEMBERED_BEGINNINGS:
            self._beginnings.clear()
        version, environment = origin.version.encode(), origin.environment.encode()
        lengths = len(version), len(environment)
        levels = self._levels(origin.card)
        said = kind if levels is None else kind | _WITH_LEVELS
        head = _HEAD.pack(said, *lengths, origin.generation & 0xFFFFFFFF) + version + environment
        if levels is not None:
            head += _LEVELS.pack(levels.digest, len(levels.features))
        keyed = self._keyed.copy()
        keyed.update(head)
        self._beginnings[kind, origin] = begun = head, keyed, levels
        return begun


def read_own(text: str) -> Provenance:
    """What an id says that was made by this process: neither its seal nor its age is looked at."""
    return _said(_decoded(text)[:-_TAG_BYTES])


def _said(payload: bytes) -> Provenance:
    """What an id says, without its seal."""
    kind, version_length, environment_length, generation = _HEAD.unpack_from(payload)
    names_end = _HEAD.size + version_length + environment_length
    names = payload[_HEAD.size : names_end].decode()
    digest, per_row = _LEVELS.unpack_from(payload, names_end) if kind & _WITH_LEVELS else (b"", 0)
    facts_at = names_end + (_LEVELS.size if per_row else 0)
    at, number, row_count = _FACTS.unpack_from(payload, facts_at)
    unit_at = facts_at + _FACTS.size
    codes_at = unit_at + (UNIT_BYTES if kind & _WITH_UNIT else 0)
    scores_at = codes_at + per_row * min(row_count, MAX_CARRIED_ROWS)
    return Provenance(
        key=f"{number:016x}{at:08x}",
        version=names[:version_length],
        environment=names[version_length:],
        generation=generation,
        at=float(at),
        row_count=row_count,
        outcomes=tuple(np.frombuffer(payload, dtype="<f4", offset=scores_at).tolist()),
        unit=payload[unit_at:codes_at],
        levels=SealedLevels(digest, per_row, payload[codes_at:scores_at]) if per_row else None,
    )


def _tag(seal: blake2b, payload: bytes) -> bytes:
    keyed = seal.copy()
    keyed.update(payload)
    return keyed.digest()


def _decoded(text: str) -> bytes:
    if len(text) > MAX_CHARACTERS:
        raise _malformed()
    try:
        content = a2b_base64(text.translate(_STANDARD) + "=" * (-len(text) % 4), strict_mode=True)
    except ValueError:
        raise _malformed() from None
    if len(content) < _HEAD.size + _FACTS.size + _TAG_BYTES or content[0] not in _FORMATS:
        raise _malformed()
    return content


def _malformed() -> BadPredictionId:
    """A new error each time: a frame that keeps its own exception is a cycle."""
    return BadPredictionId(IdFault.MALFORMED, "this is no prediction id")
