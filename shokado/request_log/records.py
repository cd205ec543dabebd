"""Records: what a segment is made of, as MessagePack arrays.

Requests that were answered together are one record: what they share stands in it once, their rows and scores are joined
as they are packed, and it is encoded by one call. A version's card comes before the first of its requests, once in each
segment, so that a segment can be read alone.
"""

from collections.abc import Mapping, Sequence

import msgspec

DEALT = frozenset(("SPLIT", "STICKY"))
"""The reasons of requests that were dealt out by the shares, of all that `shokado.dispatch.reason.Reason` has."""
CARD_TAG = b"\xa4card"
"""How MessagePack begins a card, after its head: of a block that begins with one, more is not read to know it."""
_LIST_HEAD = b"\xdd"
"""How MessagePack begins a list; its length follows as four bytes, big-endian."""


class LoggedCard(msgspec.Struct, frozen=True, array_like=True, tag="card"):
    """What the requests of one version are read by."""

    number: int
    """What requests of this segment call it."""
    card: bytes
    """The JSON of a `runners.artefacts.card.Card`."""
    masked: tuple[str, ...] = ()
    """The features whose values were taken out of the rows."""


class LoggedRequest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A request that was answered: what it shares with no other one."""

    request_id: str
    prediction_id: str
    unit: str
    reason: str
    """Why its version answered; see `shokado.dispatch.reason.Reason`."""
    latency_s: float
    row_count: int


class LoggedRequests(msgspec.Struct, frozen=True, array_like=True, tag="requests", gc=False):
    """Requests that one version answered about at once, with all of their rows."""

    card: int
    at: float
    """When they were answered, in Unix seconds."""
    environment: str
    generation: int
    requests: Sequence[LoggedRequest]
    rows: bytes
    """All rows, one request after the other, as the version's row format sends them (`to_wire`)."""
    scores: bytes
    """Packed float32, of shape (rows,) or (rows, scores of a row)."""
    hashes: dict[str, list[str | None]] = {}
    """What stands for each row's value of a feature that is hashed, by its name; None where it is missing."""
    shares: Mapping[str, float] = {}
    """Parts of the traffic, by version, of the environment in that generation; without versions where a release before
    this field has written it.
    """

    def propensity(self, request: LoggedRequest, version: str) -> float | None:
        """The chance with which that version was given one of these requests; None where none was dealt out or known.

        Each request of a `random` or `weighted` split is dealt out by itself. Those of a `hash` split are by their
        unit: it is the chance with which the unit was given the version, with all of its requests.
        """
        return self.shares.get(version, 0.0) if self.shares and request.reason in DEALT else None


class LoggedFeedback(msgspec.Struct, frozen=True, array_like=True, tag="feedback", gc=False):
    """What somebody said of a row afterwards, and was counted."""

    at: float
    prediction_id: str
    index: int
    """The row's position in its request."""
    label: str | None
    """As JSON; None: there is none."""
    reward: float | None


Record = LoggedCard | LoggedRequests | LoggedFeedback


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Record).decode
decode_list = msgspec.msgpack.Decoder(list[Record]).decode


def encoded_list(records: Sequence[bytes]) -> bytes:
    """The list of records that are encoded, each by itself; joining a megabyte or more leaves the interpreter free."""
    return b"".join((_LIST_HEAD, len(records).to_bytes(4, "big"), *records))
