"""A canary with an experiment on its gateway: begun with it or joined, followed, and ended with it."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from configuration.canary_policy import CanaryPolicy
from configuration.experiment_plan import AtEnd
from shokado.cli.app import app
from shokado.client import NO_RETRIES, Client
from shokado.lifecycle.errors import GatewayRefused
from shokado.lifecycle.rollout import canary
from shokado.lifecycle.rollout.canary import Canary
from shokado.lifecycle.rollout.gateway_client import GatewayClient
from shokado.lifecycle.rollout.verdict import Observed, Verdict
from tests.end_to_end.test_experiment_verdicts import asked, reward
from tests.end_to_end.test_routing import change, get
from tests.support.server import Server, free_port

pytestmark = pytest.mark.slow

EXPERIMENT = {"metric": "reward", "smallest_effect": 0.1, "label_delay_s": 5, "max_duration_s": 200}
POLICY = {"steps": [20, 60, 100], "min_seconds": 0, "min_requests": 10, "p99_allowance_ms": 10_000}
GOOD = Observed(answered=1000, p99_ms=5.0)
BAD = Observed(answered=500, errors=500)
runner = CliRunner()


@pytest.fixture
def shokado(own_server: Server, tmp_path: Path) -> Iterator[Callable[..., Result]]:
    """`shokado ..` on a gateway whose active version has all of the traffic, and that has no experiment."""
    assert change(own_server, {"weights": {"v1": 100, "v2": 0}, "active": "v1", "strategy": "random"}).is_success
    policy = tmp_path / "policy.yaml"
    policy.write_text(yaml.safe_dump(POLICY | {"experiment": EXPERIMENT}))

    def invoke(group: str, command: str, *arguments: str) -> Result:
        judged = ["--policy", str(policy)] if group == "canary" and command != "abort" else []
        return runner.invoke(app, [group, command, *arguments, "--url", own_server.url, *judged])

    yield invoke
    for left in under_way(own_server):
        change(own_server, {}, f"/v1/experiments/{left['id']}/stop")


def under_way(server: Server) -> list[Any]:
    return [one for one in get(server, "/v1/experiments")["experiments"] if one["running"]]


def last_experiment(server: Server) -> Any:
    return get(server, "/v1/experiments")["experiments"][0]


def shares(server: Server) -> Any:
    return get(server, "/v1/traffic-split")["shares"]


def reasons(server: Server) -> list[str]:
    """The last reasons in the history, oldest first, up to their colon."""
    entries = get(server, "/v1/traffic-split/history?limit=100")["entries"]
    return [entry["why"].partition(":")[0] for entry in reversed(entries)]


@contextmanager
def users(server: Server, rewards: dict[str, float]) -> Iterator[None]:
    """Users who ask, and tell at once what the answer of each version was worth, until the context is left."""
    gone = threading.Event()

    def ask() -> None:
        first = 0
        while not gone.is_set():
            reward(server, asked(server, 25, first), rewards)
            first += 25

    with ThreadPoolExecutor() as threads:
        asking = threads.submit(ask)
        try:
            yield
        finally:
            gone.set()
            asking.result()


def test_what_is_better_is_promoted_by_the_verdict(
    shokado: Callable[..., Result], own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary, "LOOK_EVERY_S", 1.0)
    with users(own_server, {"v1": 0.0, "v2": 1.0}):
        result = shokado("canary", "run", "v2")
    assert result.exit_code == 0, result.output
    assert "ended in PROMOTE: v2: it is better: reward " in result.output
    assert result.output.endswith("v2 100 %; v2 is the active version\n")
    assert (shares(own_server), under_way(own_server)) == ({"v2": 1.0}, [])
    found = last_experiment(own_server)
    assert (found["verdict"], found["winner"], found["control"]) == ("PROMOTE", "v2", "v1")
    told = reasons(own_server)
    begun = told.index("canary of v2 begins")
    assert told[begun + 1] == "canary of v2"
    assert [each for each in told[begun:] if each.startswith("canary")] == [
        "canary of v2 begins", "canary of v2", "canary of v2 passed at 20 %", "canary of v2 passed at 60 %",
        "canary of v2 promoted at 100 %",
    ]  # fmt: skip
    concluded = told.index(f"PROMOTE by experiment {found['id']}")
    assert concluded < told.index("canary of v2 passed at 60 %"), "it gets all only after the verdict"


def test_what_is_worse_is_taken_back_by_the_verdict(
    shokado: Callable[..., Result], own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary, "LOOK_EVERY_S", 1.0)
    with users(own_server, {"v1": 1.0, "v2": 0.0}):
        result = shokado("canary", "run", "v2")
    assert result.exit_code == 1, result.output
    found = last_experiment(own_server)
    assert found["verdict"] == "ROLLBACK"
    assert f"FAIL: ROLLBACK by experiment {found['id']}: v2: it is worse: reward " in result.output
    assert result.output.endswith("v1 100 %; v1 is the active version\n")
    assert (shares(own_server), get(own_server, "/v1/traffic-split")["active"]) == ({"v1": 1.0}, "v1")
    assert get(own_server, "/v1/traffic-split")["by"] == "shokado", "the gateway did it by itself"
    later = shokado("canary", "step")
    assert later.exit_code == 1
    assert f"The last one ended in ROLLBACK by experiment {found['id']}: v2: it is worse" in later.stderr


def test_an_experiment_begins_with_the_canary_and_is_stopped_with_it(
    shokado: Callable[..., Result], own_server: Server
) -> None:
    assert shokado("canary", "start", "v2").exit_code == 0
    (begun,) = under_way(own_server)
    assert (begun["control"], begun["candidates"], begun["plan"]["at_end"]) == ("v1", ["v2"], AtEnd.ROLLBACK)
    assert begun["stages"][0]["shares"] == {"v1": 0.8, "v2": 0.2}
    assert f"experiment {begun['id']} is under way: v2: too little was seen" in shokado("canary", "status").stdout
    assert shokado("canary", "abort", "--why", "complaints").exit_code == 0
    ended = last_experiment(own_server)
    assert (ended["id"], ended["verdict"]) == (begun["id"], "STOPPED")
    assert ended["reason"] == "canary of v2 aborted at 20 %: complaints"
    assert shares(own_server) == {"v1": 1.0}


def test_a_promotion_by_hand_stops_it(shokado: Callable[..., Result], own_server: Server) -> None:
    shokado("canary", "start", "v2")
    assert shokado("canary", "promote").exit_code == 0
    assert (shares(own_server), under_way(own_server)) == ({"v2": 1.0}, [])


def test_another_experiment_is_left_alone(shokado: Callable[..., Result], own_server: Server) -> None:
    change(own_server, {"weights": {"v1": 50, "v2": 50}})
    shokado("experiment", "start", "v2")
    change(own_server, {"weights": {"v1": 100, "v2": 0}})
    (other,) = under_way(own_server)
    before = get(own_server, "/v1/traffic-split")
    result = shokado("canary", "start", "v2")
    assert result.exit_code == 1
    assert f"production has an experiment already, on v2: {other['id']}." in result.stderr
    assert f"next: shokado experiment stop {other['id']}" in result.stderr
    assert get(own_server, "/v1/traffic-split") == before


def test_a_step_joins_what_is_under_way_or_begins_it(shokado: Callable[..., Result], own_server: Server) -> None:
    change(own_server, {"weights": {"v1": 80, "v2": 20}})
    assert "its experiment has not begun" in shokado("canary", "status").stdout
    assert under_way(own_server) == [], "who looks changes nothing"
    shokado("experiment", "start", "v2")
    (joined,) = under_way(own_server)
    assert f"experiment {joined['id']} is under way" in shokado("canary", "step").stdout
    shokado("canary", "abort")
    change(own_server, {"weights": {"v1": 80, "v2": 20}})
    assert "its experiment has not begun" in shokado("canary", "status").stdout, "the last one is of another canary"
    assert shokado("canary", "step").exit_code == 3
    (begun,) = under_way(own_server)
    assert begun["id"] != joined["id"]


@pytest.fixture
def gateway(shokado: object, own_server: Server) -> Iterator[GatewayClient]:
    with GatewayClient(own_server.url, None, None, "test") as opened:
        yield opened


def canary_on(gateway: GatewayClient, observed: Observed = GOOD, **experiment: Any) -> Canary:
    """By the policy of all tests here, with something else in its experiment, and with what is observed of versions."""
    policy = CanaryPolicy.model_validate(POLICY | {"experiment": EXPERIMENT | experiment})
    return Canary(gateway, policy, lambda *_: observed)


def start(canary: Canary) -> None:
    canary.start("v2")


def run(canary: Canary) -> None:
    canary.run("v2", lambda _: None)


@pytest.mark.parametrize("command", [start, run])
def test_what_cannot_be_compared_gets_no_traffic(
    command: Callable[[Canary], None], gateway: GatewayClient, own_server: Server
) -> None:
    with pytest.raises(GatewayRefused, match="squared_error cannot be had of a model that answers classes"):
        command(canary_on(gateway, metric="squared_error"))
    assert (shares(own_server), under_way(own_server)) == ({"v1": 1.0}, [])
    assert reasons(own_server)[-1] == "canary of v2 aborted, as its experiment was refused"


def test_the_last_step_waits_for_the_verdict(gateway: GatewayClient, own_server: Server) -> None:
    waiting = canary_on(gateway)
    waiting.start("v2")
    status, after = waiting.step()
    assert (status.judgement.verdict, after.percent) == (Verdict.PASS, 60)
    status, after = waiting.step()
    assert (status.judgement.verdict, after.percent) == (Verdict.INCONCLUSIVE, 60)
    assert "is under way: v2: too little was seen" in status.judgement.why


def test_what_fails_by_its_limits_is_taken_back_before_any_verdict(gateway: GatewayClient, own_server: Server) -> None:
    assert canary_on(gateway, BAD).run("v2", lambda _: None, sleep=lambda _: None) is Verdict.FAIL
    assert (shares(own_server), last_experiment(own_server)["verdict"]) == ({"v1": 1.0}, "STOPPED")
    assert last_experiment(own_server)["reason"].startswith("canary of v2 failed at 20 %: 500 errors in 1000 requests")


def test_an_experiment_that_somebody_stops_ends_the_canary_without_a_verdict(
    gateway: GatewayClient, own_server: Server
) -> None:
    def stop(_: float) -> None:
        for one in under_way(own_server):
            change(own_server, {"why": "enough"}, f"/v1/experiments/{one['id']}/stop")

    said: list[str] = []
    assert canary_on(gateway).run("v2", said.append, sleep=stop) is Verdict.INCONCLUSIVE
    assert "ended in STOPPED: enough" in said[-2]
    assert shares(own_server) == {"v1": 1.0}


def test_ctrl_c_leaves_the_split_to_the_experiment(gateway: GatewayClient, own_server: Server) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        canary_on(gateway).run("v2", lambda _: None, sleep=interrupt)
    assert shares(own_server) == {"v1": 0.8, "v2": 0.2}
    assert [one["candidates"] for one in under_way(own_server)] == [["v2"]]


class Away(GatewayClient):
    """A gateway that is gone when its experiment is to begin."""

    def start_experiment(self, *_: Any) -> Any:
        self._client = Client(f"http://127.0.0.1:{free_port()}", retries=NO_RETRIES)
        return super().start_experiment({}, None, None, "")


def test_a_gateway_that_is_gone_leaves_it_inconclusive_and_the_split_is_said(
    gateway: GatewayClient, own_server: Server
) -> None:
    said: list[str] = []
    times = iter(range(0, 10_000, 1000))
    with Away(own_server.url, None, None, "test") as away:
        verdict = canary_on(away).run("v2", said.append, lambda: next(times), lambda _: None)
    assert verdict is Verdict.INCONCLUSIVE
    assert "the split was v1 80 %, v2 20 % when it was last seen, and stays so, unless its experiment" in said[-1]
    assert shares(own_server) == {"v1": 0.8, "v2": 0.2}
