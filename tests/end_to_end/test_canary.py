"""`shokado canary` as it is typed, against a real gateway: what it does, and what it refuses.

By limits alone; what an experiment does to it is in `test_canary_experiment.py`.
"""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.testing import CliRunner, Result

from configuration.canary_policy import CanaryPolicy
from shokado.access.keys import Role, add_key
from shokado.cli.app import app
from shokado.client import NO_RETRIES, Client
from shokado.lifecycle.errors import GatewayAway, GatewayRefused, Overtaken
from shokado.lifecycle.rollout import canary
from shokado.lifecycle.rollout.canary import Canary
from shokado.lifecycle.rollout.gateway_client import GatewayClient
from shokado.lifecycle.rollout.verdict import Observed, Verdict, judge
from tests.end_to_end.closed_loop import load
from tests.support import http
from tests.support.clock import HandClock
from tests.support.raw_http import request
from tests.support.server import ROW, Server, free_port, serving
from tests.support.waiting import wait_until

QUICK = {"min_seconds": 0, "min_requests": 50, "p99_allowance_ms": 10_000, "experiment": None}
GOOD = Observed(answered=1000, p99_ms=5.0)
BAD = Observed(answered=500, errors=500)
runner = CliRunner()


@pytest.fixture
def shokado(own_server: Server, tmp_path: Path) -> Callable[..., Result]:
    """`shokado canary ..` on a gateway whose active version has all of the traffic, with a policy of quick steps."""
    put(own_server, {"weights": {"v1": 100, "v2": 0}, "active": "v1", "strategy": "random", "enabled": True})
    policy = tmp_path / "policy.yaml"
    policy.write_text(yaml.safe_dump(QUICK))

    def invoke(command: str, *arguments: str) -> Result:
        judged = [] if command == "abort" else ["--policy", str(policy)]
        return runner.invoke(app, ["canary", command, *arguments, "--url", own_server.url, *judged])

    return invoke


def limits(**some: Any) -> CanaryPolicy:
    """A policy of limits alone."""
    return CanaryPolicy(experiment=None, **some)


def put(server: Server, body: Any, **headers: str) -> Any:
    answer = http.put(f"{server.url}/v1/traffic-split", json=body, headers=headers, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer.json()


def split(server: Server, **headers: str) -> Any:
    return http.get(f"{server.url}/v1/traffic-split", headers=headers, timeout=20).json()


def predict(number: int) -> bytes:
    return request(json.dumps({"instances": [ROW]}).encode())


@pytest.mark.slow
def test_step_by_step_to_promotion(shokado: Callable[..., Result], own_server: Server) -> None:
    started = shokado("start", "v2")
    assert (started.exit_code, started.stdout) == (0, "v1 90 %, v2 10 %\nnext: shokado canary step\n"), started.output
    with load(own_server, 4, predict) as clients:

        def passed() -> bool:
            result = shokado("step")
            assert result.exit_code in (0, 3), result.output
            return result.exit_code == 0

        for shares in ({"v1": 0.5, "v2": 0.5}, {"v2": 1.0}):
            wait_until(passed, 60, look_every_s=0.2)
            assert split(own_server)["shares"] == shares
        wait_until(lambda: shokado("step").stdout.endswith("next: shokado canary promote\n"), 60, 0.2)
        promoted = shokado("promote")
        assert (promoted.exit_code, promoted.stdout) == (0, "v2 100 %; v2 is the active version\n")
    assert {answer.status for answer in clients.answers} == {200}
    now = split(own_server)
    assert (now["active"], now["shares"]) == ("v2", {"v2": 1.0})
    history = http.get(f"{own_server.url}/v1/traffic-split/history?limit=4").json()["entries"]
    assert history[0]["why"].startswith("canary of v2 promoted at 100 %: ")
    assert [entry["why"].partition(":")[0] for entry in history[1:]] == [
        "canary of v2 passed at 50 %", "canary of v2 passed at 10 %", "canary of v2 begins",
    ]  # fmt: skip
    assert all(entry["by"].endswith("(shokado canary)") for entry in history)


def test_too_few_requests_change_nothing(shokado: Callable[..., Result], own_server: Server) -> None:
    shokado("start", "v2")
    result = shokado("step")
    assert result.exit_code == 3
    assert "INCONCLUSIVE at 10 %" in result.stdout
    assert "0 requests (at least 50)" in result.stdout
    assert split(own_server)["shares"] == {"v1": 0.9, "v2": 0.1}
    seen = split(own_server)["generation"]
    assert shokado("status").stdout.startswith("v1 90 %, v2 10 %\nINCONCLUSIVE")
    assert split(own_server)["generation"] == seen


def test_abort_gives_all_back_in_one_change(shokado: Callable[..., Result], own_server: Server) -> None:
    shokado("start", "b")
    before = split(own_server)["generation"]
    result = shokado("abort", "--why", "complaints")
    assert (result.exit_code, result.stdout) == (0, "v1 100 %\n")
    now = split(own_server)
    assert (now["generation"], now["active"], now["shares"]) == (before + 1, "v1", {"v1": 1.0})
    assert now["why"] == "canary of v2 aborted at 10 %: complaints"


@pytest.mark.parametrize(
    ("change", "command", "message"),
    [
        ({}, ["start", "v1"], "Version v1 is the active version of production already."),
        ({}, ["start", "v9"], "unknown version 'v9'"),
        ({}, ["start", "customers"], "customers is the name of the model"),
        ({"weights": {"v1": 80, "v2": 20}}, ["start", "v2"], "is split already: v1 80 %, v2 20 %."),
        ({"weights": {"v2": 1}, "active": "v1"}, ["start", "v2"], "is split already: v2 100 %."),
        ({"strategy": "weighted"}, ["start", "v2"], "The strategy of production is weighted"),
        ({}, ["start", "v2", "--environment", "moon"], "unknown environment 'moon'"),
        ({}, ["step"], "No canary is under way in production: v1 100 %"),
        ({}, ["promote"], "No canary is under way"),
        ({}, ["abort"], "No canary is under way"),
        ({}, ["status"], "No canary is under way"),
        ({"weights": {"v1": 1, "v2": 1}, "enabled": False}, ["abort"], "v1 100 %, without a split"),
    ],
)
def test_refusals(
    change: dict[str, Any], command: list[str], message: str, shokado: Callable[..., Result], own_server: Server
) -> None:
    if change:
        put(own_server, change)
    before = split(own_server)
    result = shokado(*command)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert split(own_server) == before, "nothing was changed"


def test_a_version_that_is_not_in_memory_gets_no_traffic(shokado: Callable[..., Result], own_server: Server) -> None:
    put(own_server, {"environment": "staging", "weights": {"v1": 1}, "active": "v1"})
    assert http.post(f"{own_server.url}/v1/models/v2/unload", timeout=60).status_code == 200
    try:
        result = shokado("start", "v2")
        assert result.exit_code == 1
        assert "Version v2 is unloaded" in result.stderr
        assert split(own_server)["shares"] == {"v1": 1.0}
    finally:
        assert http.post(f"{own_server.url}/v1/models/v2/load", timeout=120).status_code == 200


def test_a_split_that_was_off_is_on(shokado: Callable[..., Result], own_server: Server) -> None:
    put(own_server, {"enabled": False})
    assert shokado("start", "v2").exit_code == 0
    assert split(own_server)["enabled"] is True


def test_a_policy_that_cannot_be_used_is_said(shokado: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("step: [10]")
    result = shokado("start", "v2")
    assert result.exit_code == 1
    assert "step: unknown key; did you mean steps?" in result.stderr


def test_a_user_without_a_plain_name_can_act(own_server: Server, shokado: Callable[..., Result]) -> None:
    with GatewayClient(own_server.url, None, None, "Jörg 李") as opened:
        opened.change(opened.routing(), {"weights": {"v1": 50, "v2": 50}}, "half")
    assert split(own_server)["by"] == "Jörg 李"


def test_no_gateway_is_said() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    result = runner.invoke(app, ["canary", "start", "v2", "--url", url])
    assert result.exit_code == 1
    assert f"No gateway answers at {url}" in result.stderr
    assert f"next: curl {url}/readyz" in result.stderr


def test_what_is_no_address_is_said() -> None:
    result = runner.invoke(app, ["canary", "start", "v2", "--url", "localhost:3000"])
    assert (result.exit_code, "localhost:3000 is no address of a server" in result.stderr) == (1, True), result.output


def test_keys(models: object, tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    admin, predict_only = (add_key(keys, name, role) for name, role in (("me", Role.ADMIN), ("ci", Role.PREDICT)))
    (tmp_path / "admin.key").write_text(f"{admin}\n")
    with serving(environment={"SHOKADO_WORKERS": "1", "SHOKADO_ACCESS__KEYS_FILE": str(keys)}) as running:
        abort = ["canary", "abort", "--url", running.url]
        unnamed, unfit = (runner.invoke(app, abort, env={"GATEWAY_KEY": key}) for key in (None, predict_only))
        assert (unnamed.exit_code, unfit.exit_code) == (1, 1)
        assert "--key-file" in runner.invoke(app, ["canary", "abort", "--help"], terminal_width=200).stdout
        assert all("The gateway wants an admin key" in result.stderr for result in (unnamed, unfit))
        missing = runner.invoke(app, [*abort, "--key-file", str(tmp_path / "none.key")])
        assert (missing.exit_code, "no key can be read" in missing.stderr) == (1, True)
        two = runner.invoke(app, abort, env={"GATEWAY_KEY": f"{admin}\n{predict_only}"})
        assert (two.exit_code, two.stderr) == (1, "error: GATEWAY_KEY does not hold one key.\n")
        done = runner.invoke(app, [*abort, "--key-file", str(tmp_path / "admin.key")])
        assert (done.exit_code, done.stdout) == (0, "v1 100 %\n"), done.output
        again = runner.invoke(app, ["canary", "start", "v2", "--url", running.url], env={"GATEWAY_KEY": admin})
        assert again.exit_code == 0, again.output
        entry = split_with_key(running, admin)
    assert entry["by"].startswith("key me (")


def split_with_key(server: Server, key: str) -> Any:
    return http.get(f"{server.url}/v1/traffic-split", headers={"X-API-Key": key}, timeout=20).json()


class Watch(HandClock):
    """A clock by which sleeping takes no time."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)


@pytest.fixture
def opened(shokado: object, own_server: Server) -> Iterator[GatewayClient]:
    with GatewayClient(own_server.url, None, None, "test") as opened:
        yield opened


def test_run_goes_from_start_to_promotion(opened: GatewayClient, own_server: Server) -> None:
    said: list[str] = []
    watch = Watch()
    policy = limits(min_seconds=0, max_seconds=1)
    assert Canary(opened, policy, lambda *_: GOOD).run("v2", said.append, watch, watch.sleep) is Verdict.PASS
    assert [line for line in said if "PASS" not in line] == [
        "v1 90 %, v2 10 %", "v1 50 %, v2 50 %", "v2 100 %", "v2 100 %; v2 is the active version",
    ]  # fmt: skip
    assert (split(own_server)["active"], split(own_server)["shares"]) == ("v2", {"v2": 1.0})
    assert watch.slept == [canary.LOOK_EVERY_S] * 3


def test_run_takes_back_what_fails(opened: GatewayClient, own_server: Server) -> None:
    said: list[str] = []
    watch = Watch()
    seen = iter([GOOD, GOOD, BAD, GOOD])
    policy = limits(min_seconds=0)
    assert Canary(opened, policy, lambda *_: next(seen)).run("v2", said.append, watch, watch.sleep) is Verdict.FAIL
    assert said[-2].startswith("FAIL at 50 %: 500 errors in 1000 requests")
    assert said[-1] == "v1 100 %; v1 is the active version"
    now = split(own_server)
    assert (now["active"], now["shares"]) == ("v1", {"v1": 1.0})
    assert now["why"].startswith("canary of v2 failed at 50 %: 500 errors in 1000 requests")


def test_a_client_that_asks_wrongly_fails_no_canary(opened: GatewayClient, own_server: Server) -> None:
    """Each fifth request names an output that there is not, which is known only when the version has answered."""
    url = f"{own_server.url}/v2/models/v2/infer"
    body: dict[str, Any] = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, len(ROW)], "data": ROW}]}
    began = time.monotonic()
    with httpx.Client(timeout=20) as client:

        def observed() -> Observed:
            for number in range(50):
                wrong = {"outputs": [{"name": "no such"}]} if number % 5 == 0 else {}
                assert client.post(url, json=body | wrong).status_code == (400 if wrong else 200)
            return opened.observed("v2", time.monotonic() - began)

        wait_until(lambda: observed().answered >= 100)
    seen = opened.observed("v2", time.monotonic() - began)
    assert (seen.errors, seen.fallbacks) == (0, 0)
    assert judge(limits(min_seconds=0), seen, seen, 60).verdict is Verdict.PASS
    wait_until(lambda: http.get(f"{own_server.url}/ab-test/status").json()["versions"]["v2"]["requests"] >= 100)
    assert http.get(f"{own_server.url}/ab-test/status").json()["versions"]["v2"]["errors"] == 0


def test_a_gateway_whose_clock_is_set_ahead_makes_no_step_longer(
    opened: GatewayClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a step would be over at once, judged by the traffic of before it."""
    watch = Watch()
    asked: list[float] = []
    monkeypatch.setattr(opened, "seconds_unchanged", lambda _: 86_400.0)

    def observe(_: str, seconds: float) -> Observed:
        asked.append(seconds)
        return GOOD

    policy = limits(min_seconds=30)
    assert Canary(opened, policy, observe).run("v2", lambda _: None, watch, watch.sleep) is Verdict.PASS
    assert max(asked) == 30
    assert watch.now == 3 * 30


def test_run_gives_up_what_cannot_be_judged(opened: GatewayClient, own_server: Server) -> None:
    watch = Watch()
    policy = limits(min_seconds=0, max_seconds=60)
    verdict = Canary(opened, policy, lambda *_: Observed()).run("v2", lambda _: None, watch, watch.sleep)
    assert verdict is Verdict.INCONCLUSIVE
    assert watch.now == 60 + canary.LOOK_EVERY_S
    assert split(own_server)["shares"] == {"v1": 1.0}
    assert "not judged in time: 0 requests (at least 100)" in split(own_server)["why"]


def test_run_leaves_alone_what_somebody_else_has_changed(opened: GatewayClient, own_server: Server) -> None:
    watch = Watch()

    def sleep(_: float) -> None:
        put(own_server, {"v1": 70, "v2": 30})

    with pytest.raises(Overtaken, match=r"v1 70 %, v2 30 %"):
        Canary(opened, limits(), lambda *_: BAD).run("v2", lambda _: None, watch, sleep)
    assert split(own_server)["shares"] == {"v1": 0.7, "v2": 0.3}


def test_run_is_not_disturbed_by_changes_of_other_environments(opened: GatewayClient, own_server: Server) -> None:
    watch = Watch()
    salts = itertools.count()

    def observe(version: str, seconds: float) -> Observed:
        put(own_server, {"environment": "staging", "salt": str(next(salts))})
        return GOOD

    policy = limits(min_seconds=0)
    assert Canary(opened, policy, observe).run("v2", lambda _: None, watch, watch.sleep) is Verdict.PASS


def test_run_asks_again_when_the_gateway_was_away_or_refused(opened: GatewayClient, own_server: Server) -> None:
    watch, said = Watch(), list[str]()
    troubles = iter([GatewayAway("away"), None, GatewayRefused("not ready")])

    def observe(version: str, seconds: float) -> Observed:
        if trouble := next(troubles, None):
            raise trouble
        return GOOD

    policy = limits(min_seconds=0)
    assert Canary(opened, policy, observe).run("v2", said.append, watch, watch.sleep) is Verdict.PASS
    assert [line for line in said if "again" in line] == [
        "away; it is asked again every 5 s", "not ready; it is asked again every 5 s", "it answers again",
    ]  # fmt: skip


class Forwarded(GatewayClient):
    """A gateway whose way can break and come back, as that of `kubectl port-forward` does."""

    def break_off(self) -> None:
        self._whole, self._client = self._client, Client(f"http://127.0.0.1:{free_port()}", retries=NO_RETRIES)

    def come_back(self) -> None:
        self._client = self._whole


def test_run_goes_on_when_its_way_to_the_gateway_comes_back(shokado: object, own_server: Server) -> None:
    watch, said = Watch(), list[str]()

    def sleep(seconds: float) -> None:
        watch.sleep(seconds)
        if len(watch.slept) == 1:
            through.break_off()
        if len(watch.slept) == 5:
            through.come_back()

    with Forwarded(own_server.url, None, None, "test") as through:
        policy = limits(min_seconds=0, max_seconds=60)
        verdict = Canary(through, policy, lambda *_: GOOD).run("v2", said.append, watch, sleep)
    assert verdict is Verdict.PASS
    assert [line for line in said if "again" in line] == [
        next(line for line in said if line.startswith(f"No gateway answers at {own_server.url}: ")),
        "it answers again",
    ]
    assert split(own_server)["active"] == "v2"


def test_run_that_cannot_reach_its_gateway_says_what_the_split_is(shokado: object, own_server: Server) -> None:
    watch, said = Watch(), list[str]()

    def sleep(seconds: float) -> None:
        watch.sleep(seconds)
        if len(watch.slept) == 1:
            through.break_off()

    with Forwarded(own_server.url, None, None, "test") as through:
        policy = limits(min_seconds=0, max_seconds=60)
        verdict = Canary(through, policy, lambda *_: GOOD).run("v2", said.append, watch, sleep)
    assert verdict is Verdict.INCONCLUSIVE
    assert 60 < watch.now <= 60 + 3 * canary.LOOK_EVERY_S
    assert said[-2].startswith("INCONCLUSIVE: No gateway answers at ")
    assert said[-1].endswith("the split was v1 90 %, v2 10 % when it was last seen, and stays so")
    assert split(own_server)["shares"] == {"v1": 0.9, "v2": 0.1}


def test_run_takes_back_what_could_not_be_observed_for_too_long(opened: GatewayClient, own_server: Server) -> None:
    watch, said = Watch(), list[str]()

    def observe(version: str, seconds: float) -> Observed:
        raise GatewayAway("No Prometheus answers.")

    policy = limits(min_seconds=0, max_seconds=30)
    assert Canary(opened, policy, observe).run("v2", said.append, watch, watch.sleep) is Verdict.INCONCLUSIVE
    assert said[-1] == "v1 100 %; v1 is the active version"
    assert split(own_server)["shares"] == {"v1": 1.0}


def test_run_does_not_take_another_canary_for_its_own(opened: GatewayClient, own_server: Server) -> None:
    watch = Watch()

    def observe(version: str, seconds: float) -> Observed:
        put(own_server, {"weights": {"v1": 10, "v2": 90}, "active": "v2"})
        raise GatewayAway("away")

    with pytest.raises(Overtaken, match=r"v1 10 %, v2 90 %"):
        Canary(opened, limits(), observe).run("v2", lambda _: None, watch, watch.sleep)


def test_run_takes_back_what_it_was_refused_for_too_long(opened: GatewayClient, own_server: Server) -> None:
    watch = Watch()

    def observe(version: str, seconds: float) -> Observed:
        raise GatewayRefused("no metrics")

    policy = limits(min_seconds=0, max_seconds=30)
    with pytest.raises(GatewayRefused, match="no metrics"):
        Canary(opened, policy, observe).run("v2", lambda _: None, watch, watch.sleep)
    assert split(own_server)["shares"] == {"v1": 1.0}


def test_who_is_slower_changes_nothing(opened: GatewayClient, own_server: Server) -> None:
    seen = opened.routing()
    put(own_server, {"v1": 60, "v2": 40})
    with pytest.raises(Overtaken, match=r"it is v1 60 %, v2 40 % now"):
        opened.change(seen, {"weights": {"v1": 1}}, "too late")
    assert split(own_server)["shares"] == {"v1": 0.6, "v2": 0.4}


def test_a_step_is_as_old_as_the_split_of_its_environment(opened: GatewayClient, own_server: Server) -> None:
    put(own_server, {"v1": 90, "v2": 10})
    routing = opened.routing()
    wait_until(lambda: opened.seconds_unchanged(routing) >= 2)
    for salt in range(120):
        put(own_server, {"environment": "staging", "salt": f"{salt}"})
    assert opened.seconds_unchanged(routing) >= 2, "found behind a page of changes of another environment"
    put(own_server, {"v1": 80, "v2": 20})
    assert opened.seconds_unchanged(opened.routing()) < 2
