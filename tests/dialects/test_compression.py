"""Compressed bodies: what comes out, and how little of what is refused is ever made."""

import contextlib
import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shokado.dialects.compression import FREE_BYTES, MAX_MEMBERS, inflate
from shokado.dialects.problem import Problem

MAX = 16 * 2**20


def code_of(body: bytes, coding: bytes = b"gzip", max_bytes: int = MAX) -> str:
    with pytest.raises(Problem) as caught:
        inflate(body, coding, max_bytes)
    return caught.value.code


@given(st.binary(max_size=3000), st.integers(0, 9))
def test_what_was_compressed_comes_out(body: bytes, level: int) -> None:
    assert inflate(gzip.compress(body, level), b"gzip", MAX) == body
    assert inflate(gzip.compress(body, level), b"x-gzip", MAX) == body
    assert inflate(zlib.compress(body, level), b"deflate", MAX) == body


def test_members_are_put_together() -> None:
    assert inflate(gzip.compress(b"one, ") + gzip.compress(b"") + gzip.compress(b"two"), b"gzip", MAX) == b"one, two"


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
@pytest.mark.parametrize("body", [b"", b"x", b"{}", b"\x1f\x8b", gzip.compress(b"x" * 100, mtime=0)[:-1], b"\0" * 100])
def test_what_is_no_stream_is_malformed(body: bytes, coding: bytes) -> None:
    assert code_of(body, coding) == "malformed_body"


def test_nothing_may_follow_a_stream() -> None:
    assert code_of(gzip.compress(b"x") + b"x") == "malformed_body"


@given(st.binary(max_size=300))
def test_any_bytes_are_inflated_or_refused(body: bytes) -> None:
    for coding in (b"gzip", b"deflate"):
        with contextlib.suppress(Problem):
            inflate(body, coding, MAX)


def test_bounds_of_size_and_ratio() -> None:
    assert len(inflate(gzip.compress(bytes(FREE_BYTES)), b"gzip", MAX)) == FREE_BYTES, "however well it was compressed"
    assert code_of(gzip.compress(bytes(2 * FREE_BYTES))) == "compressed_too_well"
    assert code_of(gzip.compress(bytes(2001)), max_bytes=2000) == "body_too_large"
    assert code_of(gzip.compress(bytes(1001)) * 2, max_bytes=2000) == "body_too_large"


def test_members_are_few() -> None:
    """For each, what comes after it is copied: without a bound, 16 MiB of empty ones would take minutes."""
    assert inflate(gzip.compress(b"x") * MAX_MEMBERS, b"gzip", MAX) == b"x" * MAX_MEMBERS
    assert code_of(gzip.compress(b"") * (MAX // 20)) == "malformed_body"


@pytest.mark.parametrize("members", [1, 10])
def test_a_bomb_is_not_set_off(members: int) -> None:
    bomb = gzip.compress(bytes(10**8 // members)) * members
    tracemalloc.start()
    assert code_of(bomb) in ("compressed_too_well", "body_too_large")
    assert tracemalloc.get_traced_memory()[1] < 2 * MAX
    tracemalloc.stop()
