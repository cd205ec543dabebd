"""Logged calls: requests of the log that can be put to a candidate, and how many cannot, and why.

log --(window, version)--> requests --(replayable?)--> sample of units -> logged calls --> with their labels
                                          `--> left out, by reason
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import accumulate
from typing import Any

from numpy.typing import NDArray

from runners.artefacts.card import Card
from runners.inputs.rows import Rows
from shokado.lifecycle.replaying.replay_order import ReplayOrder
from shokado.request_log.logged_rows import feedback_in, requests_in, unpacked
from shokado.request_log.records import LoggedRequest, LoggedRequests
from shokado.request_log.segments import Folder

REPLAY_PREFIX = "shokado-replay-"
"""What the ids of replayed requests begin with, so that a log which has them does not have them replayed again."""


@dataclass(frozen=True, eq=False)
class LoggedOrigin:
    """What calls of one import, recorded under the same settings, are read by.

    Attributes:
        masked: features whose values are not in the log.
        hashed: those of them whose hashes are.
    """

    card: Card
    masked: frozenset[str]
    hashed: frozenset[str]


@dataclass(frozen=True, eq=False, slots=True)
class LoggedCall:
    """A request as it was answered.

    Attributes:
        at: when, in Unix seconds.
        unit: whose it is; its own id where the log has no unit.
        latency_ms: as its server had measured.
        batch: its rows, (rows, features).
        scores: float32, (rows,) or (rows, scores of a row).
        hashes: what stands for the values of hashed features, a list for each.
    """

    origin: LoggedOrigin
    at: float
    request_id: str
    prediction_id: str
    unit: str
    latency_ms: float
    batch: Rows
    scores: NDArray[Any]
    hashes: Mapping[str, list[str | None]]

    @property
    def version(self) -> str:
        """The label of the version that answered."""
        return self.origin.card.version


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a request cannot be replayed; `setting` is what would have to be another one for it to be."""

    reason: str
    setting: str = ""


Obstacles = Callable[[LoggedCall], Obstacle | None]
"""What stands in the way of a call; None: nothing."""


@dataclass
class LeftOut:
    """Requests and rows that cannot be replayed."""

    requests: Counter[Obstacle] = field(default_factory=Counter)
    rows: Counter[Obstacle] = field(default_factory=Counter)

    def add(self, obstacle: Obstacle, rows: int) -> None:
        self.requests[obstacle] += 1
        self.rows[obstacle] += rows


@dataclass
class LoggedSample:
    """What is replayed, oldest first.

    Attributes:
        share: which part of the units were drawn.
        of_rows: how many rows could have been replayed.
    """

    calls: list[LoggedCall]
    share: float
    of_rows: int
    left_out: LeftOut


def sample_of(folder: Folder, order: ReplayOrder, obstacles: Obstacles) -> LoggedSample:
    """About `most_rows` rows of the requests that can be replayed; all of a unit, or none. The same ones each time.

    Raises `SegmentDamaged`, and `OSError`.
    """
    left_out, of_rows = LeftOut(), 0
    for call in calls_in(folder, order):
        obstacle = obstacles(call)
        if obstacle is None:
            of_rows += len(call.batch)
        else:
            left_out.add(obstacle, len(call.batch))
    share = min(1.0, order.most_rows / max(of_rows, 1))
    drawn = (call for call in calls_in(folder, order) if is_drawn(call.unit, share) and obstacles(call) is None)
    return LoggedSample(sorted(map(_alone, drawn), key=lambda call: call.at), share, of_rows, left_out)


def is_drawn(unit: str, share: float) -> bool:
    """Whether a unit is one of such a share of all."""
    number = int.from_bytes(blake2b(unit.encode(), digest_size=8, person=b"shokado.replay").digest(), "big")
    return number < share * 2.0**64


def models_in(folder: Folder, order: ReplayOrder) -> list[str]:
    """The models that the requests of the window and the version were asked of, by name.

    Raises `SegmentDamaged`, and `OSError`.
    """
    return sorted({call.origin.card.model for call in calls_in(folder, order)})


def calls_in(folder: Folder, order: ReplayOrder) -> Iterator[LoggedCall]:
    """The requests of the window and the version. Raises `SegmentDamaged`, and `OSError`."""
    origins: dict[tuple[bytes, frozenset[str], frozenset[str]], LoggedOrigin] = {}
    for logged, record in requests_in(folder, order.since, order.until):
        key = logged.card, frozenset(logged.masked), frozenset(record.hashes)
        if key not in origins:
            origins[key] = LoggedOrigin(Card.model_validate_json(logged.card), *key[1:])
        if order.version in (None, origins[key].card.version):
            yield from _calls_of(record, origins[key])


def labels_of_calls(folder: Folder, calls: Iterable[LoggedCall]) -> dict[tuple[str, int], Any]:
    """The labels that came for rows of these calls, as values of JSON, by prediction id and index."""
    wanted = {call.prediction_id for call in calls}
    return {
        (said.prediction_id, said.index): json.loads(said.label)
        for said in feedback_in(folder)
        if said.label is not None and said.prediction_id in wanted
    }


def _calls_of(record: LoggedRequests, origin: LoggedOrigin) -> Iterator[LoggedCall]:
    batch, scores = unpacked(origin.card, record)
    starts = accumulate((request.row_count for request in record.requests), initial=0)
    for request, start in zip(record.requests, starts, strict=False):
        rows = slice(start, start + request.row_count)
        hashes = {name: found[rows] for name, found in record.hashes.items()}
        yield _call(record, request, origin, batch[rows], scores[rows], hashes)


def _call(
    record: LoggedRequests,
    request: LoggedRequest,
    origin: LoggedOrigin,
    batch: Rows,
    scores: NDArray[Any],
    hashes: Mapping[str, list[str | None]],
) -> LoggedCall:
    return LoggedCall(
        origin=origin,
        at=record.at,
        request_id=request.request_id,
        prediction_id=request.prediction_id,
        unit=request.unit or request.request_id,
        latency_ms=request.latency_s * 1000,
        batch=batch,
        scores=scores,
        hashes=hashes,
    )


def _alone(call: LoggedCall) -> LoggedCall:
    """The call without the record that it came in, which views of it would keep in memory."""
    return LoggedCall(
        call.origin, call.at, call.request_id, call.prediction_id, call.unit, call.latency_ms,
        call.batch.copy(), call.scores.copy(), call.hashes,
    )  # fmt: skip
