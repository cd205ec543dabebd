"""Explanations agree with what the dispatcher does, and say so in words."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configuration.settings import Strategy
from shokado.control.explanation import explain_assignment, read_weights
from shokado.dialects.problem import Problem
from shokado.dispatch.layer import Layer
from shokado.dispatch.reason import Reason
from shokado.dispatch.request import PredictionRequest
from shokado.dispatch.state import Environment
from tests.control.site import Site
from tests.dispatch.double_runners import packed
from tests.support.problems import code_of, message_of

SPLIT = "/v1/traffic-split"
ALL = {"v1", "v2", "v3"}


def explain(site: Site, **query: str) -> dict[str, Any]:
    found: dict[str, Any] = site.get(f"{SPLIT}/explain", params=query)
    return found


async def assigned(site: Site, unit: str) -> tuple[str, str]:
    """What a request of the unit gets, and why."""
    found = site.workers[0].dispatcher.dispatch(PredictionRequest(packed(0.5), 1, unit=unit), lambda _: None)
    return found.version, found.reason


def test_a_unit_gets_what_the_dispatcher_gives_it(site: Site) -> None:
    site.post(SPLIT, {"weights": {"v1": 50, "v2": 30, "v3": 20}, "strategy": "hash"})
    seen = set()
    for number in range(50):
        unit = f"user-{number}"
        told = explain(site, unit=unit)
        assert (told["version"], told["reason"]) == site.run(assigned(site, unit))
        assert max(told["scores"], key=lambda version: told["scores"][version]) == told["version"]
        assert told["version"] in told["because"]
        assert (told["unit"], told["generation"], told["strategy"]) == (unit, 2, "hash")
        seen.add(told["version"])
    assert seen == ALL


def test_a_change_moves_only_units_towards_what_gains(site: Site) -> None:
    site.post(SPLIT, {"weights": {"v1": 50, "v2": 50}, "strategy": "hash"})
    moved = []
    for number in range(60):
        told = explain(site, unit=str(number), weights="v1:50,v2:150")
        after = told["after"]
        assert after["moves"] == (after["version"] != told["version"])
        assert after["shares"] == {"v1": 0.25, "v2": 0.75}
        if after["moves"]:
            moved.append((told["version"], after["version"]))
    assert set(moved) == {("v1", "v2")}
    assert site.get(SPLIT)["generation"] == 2, "nothing was changed"


@pytest.mark.parametrize("strategy", ["random", "weighted"])
def test_where_chance_decides_it_says_so_with_the_shares(site: Site, strategy: str) -> None:
    site.post(SPLIT, {"strategy": strategy})
    told = explain(site, unit="u", weights="v1:1,v2:1")
    assert (told["version"], told["reason"], told["shares"]) == (None, "SPLIT", {"v1": 0.8, "v2": 0.2})
    assert "does not decide" in told["because"]
    assert "scores" not in told
    assert told["after"]["moves"] is None


def test_without_a_unit_every_request_is_one(site: Site) -> None:
    site.post(SPLIT, {"strategy": "hash"})
    told = explain(site)
    assert (told["version"], told["reason"]) == (None, "STICKY")
    assert "unit of its own" in told["because"]


def test_one_version_with_all_of_the_traffic_needs_no_chance(site: Site) -> None:
    told = explain(site, unit="u", environment="staging", weights="v1:1")
    assert (told["version"], told["after"]["version"], told["after"]["moves"]) == ("v2", "v1", True)
    assert told["environment"] == "staging"


def test_a_pin_and_a_split_that_is_off(site: Site) -> None:
    pinned = explain(site, unit="u", version="b")
    assert (pinned["version"], pinned["reason"]) == ("v2", "PINNED")
    site.post(SPLIT, {"enabled": False})
    off = explain(site, unit="u", weights="v2:1")
    assert (off["version"], off["reason"], off["after"]["moves"]) == ("v1", "ACTIVE", False)
    assert "is off" in off["because"]


def test_a_version_that_is_not_ready_is_answered_for_by_the_active_one(empty_site: Site) -> None:
    empty_site.join(broken=frozenset({"v3"}))
    told = explain(empty_site, unit="u", weights="v3:1")
    assert "after" in told
    assert (told["after"]["version"], told["after"]["reason"]) == ("v1", "FALLBACK")
    assert "v3 is not ready here" in told["after"]["because"]
    pinned = explain(empty_site, version="v3")
    assert (pinned["version"], pinned["reason"]) == ("v3", "PINNED")
    assert "503" in pinned["because"]


def environment(**changes: Any) -> Environment:
    return Environment(**{"name": "production", "active": "v1", "weights": {"v1": 1, "v2": 1}} | changes)


def test_without_the_active_version_the_request_is_refused() -> None:
    told = explain_assignment(environment(weights={"v2": 1}), "u", None, {"v3"})
    assert (told.version, told.reason) == ("v2", Reason.SPLIT)
    assert "refused with 503" in told.because


def test_chance_among_versions_that_are_not_ready_is_told() -> None:
    assert "v2 cannot answer now" in explain_assignment(environment(), "u", None, {"v1"}).because
    assert "cannot answer" not in explain_assignment(environment(), "u", None, ALL).because


def test_no_store_is_needed_to_explain(site: Site) -> None:
    site.post(SPLIT, {"strategy": "hash"})
    before = explain(site, unit="u", weights="v2:1")
    site.break_store()
    assert explain(site, unit="u", weights="v2:1") == before


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ("weights=v9:1", 404, "v9"),
        ("weights=v1", 422, "v1:50,v2:50"),
        ("weights=", 422, "v1:50,v2:50"),
        ("weights=v1:x", 422, "v1"),
        ("weights=v1:nan", 422, "v1"),
        ("weights=v1:-1", 422, "v1"),
        ("weights=v1:0", 422, "above 0"),
        ("weights=v2:20", 422, "80"),
        ("weights=v1:1,v1:2", 422, "v1"),
        ("weights=v1:1,a:2", 422, "a"),
        ("weights={", 400, "JSON"),
        ('weights={"v1": true}', 422, "v1"),
        ('weights={"v1": "1"}', 422, "v1"),
        ('weights={"v1": 1, "v1": 2}', 422, "v1"),
        ('weights={"v1": NaN}', 422, "v1"),
        (f"weights=v1:{'1' * 5000}", 422, "weights"),
        ("version=v9", 404, "v9"),
        ("environment=moon", 404, "moon"),
        (f"unit={'u' * 257}", 422, "unit"),
    ],
)
def test_what_cannot_be_explained_is_refused(site: Site, query: str, status: int, says: str) -> None:
    answer = site.ask("GET", f"{SPLIT}/explain?{query}")
    assert answer.status_code == status, answer.text
    code_of(answer)
    assert says in message_of(answer)


version_names = st.text(st.characters(categories=("Ll", "Nd"), include_characters="._-"), min_size=1, max_size=10)
weights = st.dictionaries(version_names, st.one_of(st.floats(allow_nan=False), st.integers()), min_size=1, max_size=5)


@given(weights)
def test_weights_are_read_as_they_were_written_in_both_forms(wanted: dict[str, float]) -> None:
    spelled = ",".join(f" {name} : {float(weight)!r}" for name, weight in wanted.items())
    assert read_weights(spelled) == pytest.approx(wanted)
    as_json = "{" + ",".join(f'"{name}": {_json(weight)}' for name, weight in wanted.items()) + "}"
    assert read_weights(as_json) == pytest.approx(wanted)


def _json(number: float) -> str:
    return repr(number).replace("inf", "Infinity")


@given(st.text(max_size=30))
def test_any_other_text_is_refused_in_words_or_read(text: str) -> None:
    refusal = None
    try:
        assert all(isinstance(weight, float) for weight in read_weights(text).values())
    except Problem as problem:
        refusal = problem
    assert refusal is None or (refusal.status in {400, 422} and refusal.message)


@given(st.text(min_size=1, max_size=20), st.floats(0.01, 100), st.floats(0.01, 100))
def test_the_largest_score_has_the_unit(unit: str, first: float, second: float) -> None:
    told = explain_assignment(
        environment(weights={"v1": first, "v2": second}, strategy=Strategy.HASH, salt="s"), unit, None, ALL
    )
    assert told.scores is not None
    assert told.version is not None
    assert told.scores[told.version] == max(told.scores.values())
    assert all(math.isfinite(score) and score < 0 for score in told.scores.values())


PLAN = {"metric": "reward", "smallest_effect": 0.1, "label_delay_s": 60}
LAYER = {"name": "checkout", "from": 0.25, "to": 0.75}


def test_who_is_outside_of_a_layer_is_told_so(site: Site) -> None:
    site.post(SPLIT, {"weights": {"v1": 50, "v2": 50}, "strategy": "hash"})
    assert site.post("/v1/experiments", PLAN | {"layer": LAYER}).status_code == 201
    reasons = set()
    for number in range(60):
        told = explain(site, unit=f"user-{number}", weights="v1:0,v2:100")
        assert (told["version"], told["reason"]) == site.run(assigned(site, f"user-{number}"))
        layer = told["layer"]
        assert {name: layer[name] for name in LAYER} == LAYER
        assert layer["inside"] == (0.25 <= layer["position"] < 0.75) == (told["reason"] == "STICKY")
        place = (
            f"lies at {layer['position']:.6f}, {'in' if layer['inside'] else 'outside of'} the part from 0.25 to 0.75"
        )
        assert place in told["because"]
        assert ("scores" in told) == layer["inside"]
        if not layer["inside"]:
            assert (told["version"], layer["outside"]) == ("v1", "v1")
            assert "not in the experiment, and its control v1 answers" in told["because"]
        after = told["after"]
        assert (after["version"], after["moves"]) == (
            ("v2", told["version"] != "v2") if layer["inside"] else ("v1", False)
        )
        reasons.add(told["reason"])
    assert reasons == {"STICKY", "OUTSIDE_LAYER"}
    nobody = explain(site)
    assert (nobody["version"], "as far as they are in the part from 0.25 to 0.75" in nobody["because"]) == (None, True)
    assert "layer" not in nobody
    assert "layer" not in explain(site, unit="u", version="v1")


def test_in_a_layer_one_version_has_all_of_the_units_inside() -> None:
    alone = environment(weights={"v2": 1}, strategy=Strategy.HASH, layer=Layer("checkout", 0.0, 0.5, "v1"))
    told = {unit: explain_assignment(alone, unit, None, ALL) for unit in map(str, range(20))}
    assert {found.version for found in told.values()} == {"v1", "v2"}
    assert all(
        found.because.endswith("in the part from 0 to 0.5 of the layer checkout, and version v2 has all of the part "
                               "from 0 to 0.5 of the layer checkout")
        for found in told.values() if found.version == "v2"
    )  # fmt: skip
    assert explain_assignment(alone, "", None, ALL).version is None, "each request is inside or not"


def test_where_a_shadow_is_compared_the_split_deals_units_outside_as_well() -> None:
    layer = Layer("checkout", 0.0, 0.5)
    told = explain_assignment(
        environment(strategy=Strategy.HASH, layer=layer), next(u for u in "abcdefgh" if not layer.has(u)), None, ALL
    )
    assert told.reason is Reason.OUTSIDE_LAYER
    assert "what the split gives units outside answers them, and is not compared" in told.because
