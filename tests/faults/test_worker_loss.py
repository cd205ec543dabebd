"""Processes that die under load: what is lost is bounded, nothing is answered wrongly, and the server recovers."""

import os
import signal
from typing import Any

import psutil
import pytest

from tests.end_to_end.closed_loop import UNPINNED, load
from tests.support.raw_http import Answer, Connection, near, request, rows_request
from tests.support.server import Server, serving
from tests.support.waiting import wait_until

CLIENTS = 12


@pytest.fixture(scope="module")
def right(server: Server) -> dict[str, list[float]]:
    """Each version's answer to the usual row."""
    with Connection(server) as connection:
        return {v: connection.ask(rows_request(version=v)).json["predictions"] for v in ("v1", "v2")}


def is_right(answer: Answer, right: dict[str, list[float]]) -> bool:
    return bool(answer.json["predictions"] == near(right[answer.json["version"]]))


def test_a_killed_worker_costs_at_most_its_own_connections(models: object, right: dict[str, list[float]]) -> None:
    with serving(environment={"SHOKADO_WORKERS": "2"}) as server:
        workers = server.workers()
        assert len(workers) == 2
        with load(server, CLIENTS, lambda _: UNPINNED, reconnect=True) as clients:
            clients.wait_for_answers(20)
            os.kill(workers[0], signal.SIGKILL)
            wait_until(lambda: len(set(server.workers()) - set(workers)) == 1)
            clients.wait_for_answers(20)
        assert clients.lost <= CLIENTS
        assert all(answer.status == 200 and is_right(answer, right) for answer in clients.answers)
        wait_until(lambda: both_answer(server), 60)
        # Each worker tells its own a moment later.
        wait_until(lambda: server.metric("shokado_in_flight") == 0)


def both_answer(server: Server) -> bool:
    """Whether two workers answer, told by the beginning of the ids that they make."""
    prefixes = set()
    for _ in range(20):
        with Connection(server) as connection:
            prefixes.add((connection.ask(rows_request()).header("x-request-id") or "")[:12])
    return len(prefixes) == 2


def process_of(server: Server, service: str) -> int:
    """The worker of a version's own service."""
    found = [pid for pid in server.workers() if f"{service}" in " ".join(psutil.Process(pid).cmdline())]
    assert len(found) == 1, [psutil.Process(pid).cmdline() for pid in server.workers()]
    return found[0]


@pytest.mark.parametrize("lost", [signal.SIGKILL, signal.SIGSTOP])
def test_a_version_whose_process_is_lost_is_missed_only_until_it_is_back(
    service_server: Server, right: dict[str, list[float]], lost: signal.Signals
) -> None:
    """Its requests are refused as not ready or answered by another version, never wrongly, and never late."""
    server = service_server
    victim = process_of(server, "shokado-v1")
    timely = rows_request(version="v1", headers=[("X-Request-Deadline-Ms", "300")])
    with load(server, CLIENTS, lambda number: timely if number % 4 == 0 else UNPINNED, reconnect=True) as clients:
        os.kill(victim, lost)
        if lost is signal.SIGSTOP:
            wait_until(lambda: readiness(server)["versions"]["v1"] == "away")
            assert readiness(server)["reason"] == "not ready: v1"
        clients.wait_for_answers(20)
        if lost is signal.SIGSTOP:
            os.kill(victim, signal.SIGCONT)
    assert clients.lost == 0
    for answer in clients.answers:
        if answer.status != 200:
            assert (answer.status, answer.code) in {
                (503, "not_ready"), (503, "overloaded"), (504, "deadline_exceeded"),
            }, answer  # fmt: skip
            assert answer.status == 504 or answer.header("retry-after")
        else:
            assert is_right(answer, right)
    wait_until(lambda: v1_answers(server, right), 60)
    assert (process_of(server, "shokado-v1") == victim) == (lost is signal.SIGSTOP)


def readiness(server: Server) -> Any:
    with Connection(server) as connection:
        return connection.ask(request(path="/readyz", method="GET", content_type=None)).json


def v1_answers(server: Server, right: dict[str, list[float]]) -> bool:
    with Connection(server) as connection:
        answers = [connection.ask(rows_request(version="v1")) for _ in range(10)]
    return all(answer.status == 200 and is_right(answer, right) for answer in answers)
