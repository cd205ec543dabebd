"""Requests leave nothing behind, whichever transport they take and whatever they ask for."""

from collections.abc import Callable

import psutil
import pytest

from tests.end_to_end.closed_loop import load
from tests.support.raw_http import request, rows_request
from tests.support.server import serving

CLIENTS = 4
WARM_UP = 500
REQUESTS = 1_000
"""Of each client."""
MAX_BYTES_PER_REQUEST = 1024


@pytest.mark.parametrize(
    "make",
    [lambda n: request(b"", path=f"/nowhere/{n}"), lambda n: rows_request(headers=[("x-order", str(n))])],
    ids=["unknown paths", "unknown headers"],
)
def test_requests_that_are_all_different_leave_nothing_behind(models: object, make: Callable[[int], bytes]) -> None:
    with serving(environment={"SHOKADO_WORKERS": "1"}) as server:
        (worker,) = server.workers()

        def memory() -> int:
            return int(psutil.Process(worker).memory_full_info().uss)

        with load(server, CLIENTS, make, pause_s=0) as clients:
            clients.wait_for_answers(WARM_UP)
            before = memory()
            clients.wait_for_answers(REQUESTS)
            grown = memory() - before
        assert clients.lost == 0
        assert grown / (CLIENTS * REQUESTS) < MAX_BYTES_PER_REQUEST
