"""Processes that die under load: what is lost is bounded, nothing is answered wrongly, and the server recovers."""

import json
import os
import signal

import psutil
import pytest

from tests.end_to_end.closed_loop import load
from tests.protocols.raw_http import Answer, Connection, near, request, rows_request
from tests.server import ROW, Server, serving, wait_until

UNPINNED = request(json.dumps({"instances": [ROW]}).encode())
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
        assert server.metric("shokado_in_flight") == 0


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


def test_a_killed_version_is_missed_only_until_it_is_back(
    service_server: Server, right: dict[str, list[float]]
) -> None:
    """Its requests are refused as not ready or answered by another version, never wrongly."""
    server = service_server
    victim = process_of(server, "shokado-v1")
    with load(server, CLIENTS, lambda _: UNPINNED, reconnect=True) as clients:
        os.kill(victim, signal.SIGKILL)
        clients.wait_for_answers(20)
    assert clients.lost == 0
    for answer in clients.answers:
        if answer.status == 503:
            assert answer.code in {"not_ready", "overloaded"}
            assert answer.header("retry-after")
        else:
            assert answer.status == 200, answer
            assert is_right(answer, right)
    wait_until(lambda: v1_answers(server, right), 60)
    assert process_of(server, "shokado-v1") != victim


def v1_answers(server: Server, right: dict[str, list[float]]) -> bool:
    with Connection(server) as connection:
        answers = [connection.ask(rows_request(version="v1")) for _ in range(10)]
    return all(answer.status == 200 and is_right(answer, right) for answer in answers)
