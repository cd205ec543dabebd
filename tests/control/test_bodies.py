"""Bodies of changes are read in a time that grows with their length, whatever they repeat."""

import contextlib
import time
from collections.abc import Callable

import pytest

from shokado.control.http.bodies import MAX_CHANGE_BYTES, parse
from shokado.dialects.problem import Problem

SHAPES: dict[str, Callable[[int], bytes]] = {
    "different names, the last one twice": lambda n: b"{%b}" % b",".join(b'"k%d":1' % (i % (n - 1)) for i in range(n)),
    "one name again and again": lambda n: b"{%b}" % b",".join([b'"k":1'] * n),
    "long numbers": lambda n: b"[%b]" % b",".join([b"9" * 4_000] * (n // 400)),
    "nested lists": lambda n: b"[" * n * 8,
    "escapes": lambda n: b'{"why": "%b"}' % (b"\\u00e9" * n),
}
MAX_S = 0.5
"""Of processor time; 20,000 names took ten seconds when each was compared with each."""


@pytest.mark.parametrize("shape", SHAPES)
def test_a_change_of_the_worst_shape_is_read_at_once(shape: str) -> None:
    body = SHAPES[shape](80_000)
    assert len(body) <= MAX_CHANGE_BYTES
    began = time.process_time()
    with contextlib.suppress(Problem):
        parse(body)
    assert time.process_time() - began < MAX_S


def test_a_name_twice_is_told_even_among_many() -> None:
    with pytest.raises(Problem, match="'k0' occurs twice"):
        parse(b"{%b}" % b",".join(b'"k%d":1' % (i % 900) for i in range(901)))
