"""Rows of requests: what a job carries, and how those of a batch become the array that an engine takes.

A model takes numbers or one text. Rows of numbers are packed float32 bytes (little-endian, row after row), which join
into a batch with one copy; rows of a text are a list of one string each.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runners.artefacts.card import Card

Rows = NDArray[Any]
"""A batch: float32 of shape (n, features), or strings (dtype object) of shape (n, 1) for a model that takes a text."""
RequestRows = bytes | memoryview | list[str]
"""The rows of one request, or a part of them."""
Join = Callable[[Sequence[Any], int], Rows]
"""(parts of requests, how many rows they are) to their batch. All parts are of the kind that the model takes."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[str]).decode


def join_of(card: Card) -> Join:
    """How rows of the card's model become a batch."""
    return join_texts if card.takes_text else join_numbers(len(card.features))


def join_numbers(features: int) -> Join:
    """A join of packed rows of so many features."""

    def join(parts: Sequence[bytes | memoryview], rows: int) -> Rows:
        packed = parts[0] if len(parts) == 1 else b"".join(parts)
        return np.frombuffer(packed, dtype=np.float32).reshape(rows, features)

    return join


def join_texts(parts: Sequence[list[str]], rows: int) -> Rows:
    """The batch of lists of texts."""
    batch = np.empty((rows, 1), dtype=object)
    batch[:, 0] = parts[0] if len(parts) == 1 else list(chain.from_iterable(parts))
    return batch


def joined(parts: Sequence[RequestRows]) -> RequestRows:
    """The rows of several requests as those of one; they are all of one kind."""
    if isinstance(parts[0], list):
        return list(chain.from_iterable(parts))  # type: ignore[arg-type]  # of one kind
    return b"".join(parts)  # type: ignore[arg-type]  # of one kind


def kept(rows: RequestRows) -> RequestRows:
    """The rows without what else there is of their request, which a view would keep in memory."""
    return rows if isinstance(rows, list) else bytes(rows)


def key_of(rows: RequestRows) -> bytes | memoryview:
    """Bytes that two requests for the same model share only if their rows are the same, one by one."""
    return _encode(rows) if isinstance(rows, list) else rows


def encode_batch(batch: Rows) -> bytes:
    """A batch as it travels to a version's own service: packed float32, or MessagePack of a list of strings.

    Raises `UnicodeEncodeError` for a text that is no Unicode.
    """
    return _encode(batch[:, 0].tolist()) if batch.dtype == object else batch.tobytes()


def decode_batch(card: Card, body: bytes) -> Rows:
    """The batch that was sent, for the card's model. Raises `ValueError` when the body is not rows of its kind."""
    if not card.takes_text:
        return np.frombuffer(body, dtype=np.float32).reshape(-1, len(card.features))
    try:
        texts = _decode(body)
    except msgspec.DecodeError as error:
        raise ValueError(f"not a list of texts: {error}") from error
    return join_texts([texts], len(texts))
