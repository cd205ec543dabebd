"""Problems as clients get them, of whatever a decoder raises."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from runners.inputs.faults import InputFault
from shokado.dialects.problem import Problem, problem_of

REFUSALS = (Problem, InputFault)
"""What decoding a request may raise."""


class Caught:
    """The problem, once the block has ended."""

    value: Problem


@contextmanager
def refused_input(match: str | None = None) -> Iterator[Caught]:
    """The block must refuse its input, with a message that `match` finds."""
    caught = Caught()
    with pytest.raises(REFUSALS, match=match) as raised:
        yield caught
    caught.value = problem_of(raised.value)
