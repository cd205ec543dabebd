"""Plans are arithmetic that can be followed by hand, with the figures that RESULTS.md has now."""

import math
import re
from pathlib import Path

import pytest

from load_tests.bench.capacity import (
    CONNECTIONS,
    MAX_CLIENTS,
    RESULTS,
    TOLD,
    CapacityFigures,
    CapacityPlan,
    FigureMissing,
    most_connected,
    most_workers,
    plans,
)
from tests.stores.backends import RedisBackend
from tests.stores.following import working
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.waiting import in_time, until

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
FIGURES = CapacityFigures(
    embedded=30_000,
    remote=9_000,
    nginx=6_000,
    first_worker_mb=200,
    more_workers_mb=100,
    follower_us=250,
    feedback_alone_us=200,
    feedback_together_us=5,
)


def test_a_plan_by_hand() -> None:
    plan = CapacityPlan.of(100_000, FIGURES)
    assert plan.workers == 7, "each half of 30,000: 6.67"
    assert plan.memory_gb == 800 / 1024
    assert plan.remote_processors == 23
    assert plan.nginx_processors == 34
    assert plan.redis == 7 * 250 / 1e6
    assert math.isclose(plan.feedback, (0.5 - 0.00175) * 1e6 / 200)
    assert math.isclose(plan.feedback_together, (0.5 - 0.00175) * 1e6 / 5)
    assert most_workers(FIGURES) == 2000


def test_a_little_needs_one_worker_and_too_many_leave_no_room_for_feedback() -> None:
    assert CapacityPlan.of(1, FIGURES).workers == 1
    much = CapacityPlan.of(60_000_000, FIGURES)
    assert (much.redis, much.feedback, much.feedback_together) == (1.0, 0.0, 0.0)
    assert plans([60_000_000], FIGURES).splitlines()[-1].count("| 0 |") == 1


def test_a_figure_that_is_not_there_is_named() -> None:
    with pytest.raises(FigureMissing, match="'Shokado, 1 worker'"):
        CapacityFigures.read("# Side by side\n")


def test_the_page_tells_what_the_figures_of_now_make() -> None:
    page, figures = PAGE.read_text(), CapacityFigures.read(RESULTS.read_text())
    assert plans(TOLD, figures) in page
    (told,) = re.findall(r"one Redis carries ([\d,]+) workers", page)
    assert int(told.replace(",", "")) == most_workers(figures) // 100 * 100
    (connected, clients) = re.findall(r"more than ([\d,]+) workers need a `maxclients` above the usual ([\d,]+)", page)[
        0
    ]
    assert int(connected.replace(",", "")) == most_connected()
    assert int(clients.replace(",", "")) == MAX_CLIENTS


@needs_redis
def test_a_worker_has_as_many_connections_as_are_planned_with(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server, server.client() as client:
        assert int(client.config_get("maxclients")["maxclients"]) == MAX_CLIENTS
        before = len(client.client_list())

        async def scenario() -> int:
            backend = RedisBackend(server)
            async with working(backend, 5) as workers:
                await workers[0].change()
                await until(lambda: all(worker.follower.is_told and worker.generation == 2 for worker in workers))
                return len(client.client_list()) - before

        assert in_time(scenario()) == 5 * CONNECTIONS
