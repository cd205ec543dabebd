"""Experiments in a real browser: started, watched until their verdict, stopped, and looked up afterwards."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.served_page import PaperServer
from tests.browser.viewer import Viewer

pytestmark = pytest.mark.slow

SPLIT = "/v1/traffic-split"
EXPERIMENTS = "/v1/experiments"
PLAN = {"metric": "reward", "smallest_effect": 0.05, "label_delay_s": 60, "max_duration_s": 2000}
HALVES = {"weights": {"v1": 50, "v2": 50}, "strategy": "hash", "active": "v1", "enabled": True}
GUARDRAILS = [{"metric": "error_rate", "limit": 0.5, "margin": 0.1}]
UNITS = 120
AT_ONCE = 10
"""Units whose rewards are sent together, long before it is too late for them."""


@pytest.fixture
def halves(paper: PaperServer) -> Iterator[PaperServer]:
    """The server with an even split by hash, and no experiment under way."""
    paper.ask("POST", SPLIT, json=HALVES | {"shadow": None})
    yield paper
    for one in listed(paper):
        if one["running"]:
            paper.ask("POST", f"{EXPERIMENTS}/{one['id']}/stop", json={})


def listed(paper: PaperServer) -> list[Any]:
    found: list[Any] = paper.ask("GET", EXPERIMENTS).json()["experiments"]
    return found


def begin(paper: PaperServer, **more: Any) -> Any:
    answer = paper.ask("POST", EXPERIMENTS, json=PLAN | more)
    assert answer.status_code == 201, answer.text
    return answer.json()


def reward(paper: PaperServer) -> None:
    """Have many units ask, and reward what v2 answered."""
    for begin_at in range(0, UNITS, AT_ONCE):
        units = [f"user-{number}" for number in range(begin_at, begin_at + AT_ONCE)]
        answers = [paper.predict(unit=unit)[0] for unit in units]
        entries = [{"prediction_id": one["prediction_id"], "reward": float(one["version"] == "v2")} for one in answers]
        assert paper.ask("POST", "/v1/feedback", json=entries).json()["accepted"] == AT_ONCE


def form_of(viewer: Viewer) -> Locator:
    viewer.page.get_by_text("Start an experiment").click()
    return viewer.page.locator("#experiment-form")


def verdict(viewer: Viewer) -> Locator:
    return viewer.page.locator("#experiment-verdict")


def test_an_experiment_is_started_by_the_form_and_watched_until_its_verdict(
    halves: PaperServer, viewer: Viewer
) -> None:
    viewer.open(halves)
    page = viewer.page
    expect(page.locator("#experiment-reason")).to_have_text("production has had no experiment.")
    page.get_by_text("Past experiments").click()
    expect(page.locator("#no-past-experiments")).to_be_visible()
    form = form_of(viewer)
    expect(form.get_by_label("Metric")).to_have_value("accuracy")
    expect(form.get_by_label("Smallest effect")).to_have_value("0.01")
    expect(form.get_by_label("Candidates")).to_have_text("v2")
    assert "squared error" not in form.get_by_label("Metric").inner_text(), "the model tells classes"
    form.get_by_label("Metric").select_option("latency")
    expect(form.get_by_label("Smallest effect")).to_have_value("5")
    form.get_by_label("Metric").select_option("reward")
    form.get_by_label("Smallest effect").fill("0.05")
    form.get_by_label("Longest, in days").fill("0.0025")
    form.get_by_label("Labels come within").fill("0.002")
    form.get_by_text("Guardrails").click()
    form.get_by_label("error rate at most").fill("0.2")
    form.get_by_label("error rate worse by at most").fill("0.3")
    form.get_by_label("share of fallbacks at most").fill("0.2")
    form.get_by_label("latency worse by at most").fill("50")
    form.get_by_role("button", name="Start…").click()
    dialog = page.get_by_role("dialog")
    for fact in (
        "v2 against v1, by reward; 5 pp is the smallest",
        "v1 50 %, v2 50 %",
        "latency worse by at most 50 ms; error rate at most 20 % worse by at most 30 pp",
        "lasts 4 min at most, and labels count that come within 7.2 s",
    ):
        expect(dialog).to_contain_text(fact)
    page.keyboard.press("Escape")
    # Of latencies nothing is sure before a thousand.
    form.get_by_label("latency worse by at most").fill("")
    form.get_by_role("button", name="Start…").click()
    viewer.confirm("is v2 better?")
    viewer.says("The experiment of v2 against v1 has begun")
    expect(verdict(viewer)).to_have_text("RUNNING")
    (begun,) = listed(halves)
    assert [begun["plan"][name] for name in ("metric", "smallest_effect", "max_duration_s", "label_delay_s")] == [
        "reward", 0.05, 216, pytest.approx(7.2),
    ]  # fmt: skip
    assert begun["plan"]["guardrails"] == [
        {"metric": "error_rate", "limit": 0.2, "margin": 0.3},
        {"metric": "fallback_share", "limit": 0.2, "margin": None},
    ]
    expect(viewer.newest_change()).to_contain_text("is v2 better?")
    expect(page.locator("#experiment-form")).to_contain_text("has one under way")
    expect(page.locator("#experiment-checks")).to_contain_text("units by their shares (p = ")
    expect(page.locator("#experiment-checks")).to_contain_text("unknown guardrail of v2: error_rate of nothing yet")
    reward(halves)
    expect(page.locator("#experiment-checks")).to_contain_text("kept guardrail of v2: error_rate 0 of")
    expect(verdict(viewer)).to_have_text("PROMOTE")
    row = page.locator("#experiment-versions tbody tr").filter(has_text="v2")
    expect(row).to_contain_text("+100 pp")
    expect(page.get_by_role("img", name=re.compile(r"Effect on reward, now: v2 \+100 pp$"))).to_be_visible()
    past = page.locator("#past-experiments tbody tr")
    expect(past).to_have_count(1)
    expect(past).to_contain_text(re.compile(r"PROMOTE.*v2: it is better.*v2 against v1.*v2 \+100 pp \(\+\d"))
    expect(page.get_by_role("button", name="Stop the experiment")).to_have_count(0)
    assert halves.ask("GET", SPLIT).json()["weights"] == {"v1": 50, "v2": 50}, "it was to tell"


def test_an_experiment_is_stopped_and_says_so(halves: PaperServer, viewer: Viewer) -> None:
    begun = begin(halves)
    viewer.open(halves)
    page = viewer.page
    expect(verdict(viewer)).to_have_text("RUNNING")
    expect(page.locator("#experiment-plan")).to_contain_text("tell, and leave the split as it is")
    page.get_by_role("button", name="Stop the experiment…").click()
    expect(page.get_by_role("dialog")).to_contain_text("The split stays as it is: v1 50 %, v2 50 %.")
    # Whatever else was changed meanwhile, it is this one that is meant.
    halves.ask("POST", SPLIT, json={"environment": "staging", "weights": {"v1": 1, "v2": 1}})
    viewer.confirm("seen enough")
    viewer.says("is stopped")
    expect(verdict(viewer)).to_have_text("STOPPED")
    expect(page.locator("#experiment-reason")).to_have_text("seen enough")
    stopped = halves.ask("GET", f"{EXPERIMENTS}/{begun['id']}").json()
    assert (stopped["verdict"], stopped["reason"]) == ("STOPPED", "seen enough")
    expect(viewer.newest_change()).to_contain_text("seen enough")
    page.get_by_label("Environment").select_option("staging")
    expect(page.locator("#experiment-reason")).to_have_text("staging has had no experiment.")


def test_a_shadow_is_compared_by_the_form(halves: PaperServer, viewer: Viewer) -> None:
    halves.ask("POST", SPLIT, json={"weights": {"v1": 1, "v2": 0}, "shadow": "v2"})
    viewer.open(halves)
    page = viewer.page
    form = form_of(viewer)
    expect(form.get_by_label("Compare")).to_be_hidden()
    expect(form).to_contain_text("v2 scores what v1 answers, and nobody is given its answers. Labels tell who")
    expect(form.get_by_label("Control")).to_have_value("v1")
    expect(form.get_by_label("Candidates")).to_have_text("v2")
    assert form.get_by_label("Metric").inner_text().split() == ["accuracy", "agreement"]
    form.get_by_text("Guardrails").click()
    expect(form.get_by_label("worse by at most")).to_have_count(0)
    assert viewer.serious() == []
    form.get_by_label("Metric").select_option("agreement")
    expect(form).to_contain_text("No labels are needed")
    expect(form.get_by_label("Labels come within")).to_be_hidden()
    form.get_by_label("In the end").select_option("rollback")
    form.get_by_role("button", name="Start…").click()
    for fact in (
        "v2 against v1, as its shadow, by agreement; something else said on 0.5 % of the rows is the smallest",
        "nobody is given its answers",
        "The split stays until the end: v1 100 %.",
        "In the end: take the shadow off if it is worse or broken.",
        "Guardrails: error rate at most 5 %.",
    ):
        expect(page.get_by_role("dialog")).to_contain_text(fact)
    viewer.confirm("is v2 the same?")
    viewer.says("The experiment of v2 against v1, as its shadow has begun")
    (begun,) = [one for one in listed(halves) if one["running"]]
    plan = begun["plan"]
    assert [plan[name] for name in ("design", "metric", "smallest_effect", "label_delay_s", "sample", "at_end")] == [
        "shadow", "agreement", 0.005, 0, 1, "rollback",
    ]  # fmt: skip
    assert plan["guardrails"] == [{"metric": "error_rate", "limit": 0.05, "margin": None}]


def test_what_became_of_a_shadows_requests_is_told(halves: PaperServer, viewer: Viewer) -> None:
    halves.ask("POST", SPLIT, json={"weights": {"v1": 1, "v2": 0}, "shadow": "v2"})
    begin(halves, design="shadow", metric="accuracy")
    entries = [{"prediction_id": one["prediction_id"], "label": 0} for one in halves.predict(AT_ONCE)]
    assert halves.ask("POST", "/v1/feedback", json=entries).json()["accepted"] == AT_ONCE
    viewer.open(halves)
    page = viewer.page
    became = "10 sampled, 10 scored by the shadow, 0 failed; 10 labels, 10 joined with scores"
    expect(page.locator("#experiment-plan")).to_contain_text(became)
    expect(page.locator("#experiment-versions thead")).to_have_text("VersionLabels that countMeanEffect")
    expect(page.locator("#experiment-versions tbody tr").filter(has_text="v2")).to_contain_text("shadow")
    expect(page.locator("#experiment-checks")).not_to_contain_text("units by their shares")
    page.get_by_role("button", name="Stop the experiment…").click()
    expect(page.get_by_role("dialog")).to_contain_text("The split and the shadow stay as they are.")
    viewer.confirm("seen enough")
    expect(verdict(viewer)).to_have_text("STOPPED")
    page.get_by_text("Past experiments").click()
    expect(page.locator("#past-experiments tbody tr").first).to_contain_text("v2 against v1, as its shadow")


def test_who_has_a_split_and_a_shadow_chooses(halves: PaperServer, viewer: Viewer) -> None:
    halves.ask("POST", SPLIT, json={"shadow": "v2"})
    viewer.open(halves)
    form = form_of(viewer)
    expect(form.get_by_label("Metric")).to_contain_text("latency")
    form.get_by_label("Compare").select_option("shadow")
    expect(form.get_by_label("Compare")).to_be_focused()
    expect(form.get_by_label("Metric")).not_to_contain_text("latency")
    expect(form.get_by_label("Control").get_by_role("option")).to_have_text(["v1"])
    form.get_by_label("Part of the units").fill("0.2")
    form.get_by_role("button", name="Start…").click()
    expect(viewer.page.get_by_role("dialog")).to_contain_text("Compared on 20 % of the units.")
    viewer.confirm("on a sample")
    viewer.says("has begun")
    expect(viewer.page.locator("#experiment-plan")).to_contain_text("20 % of the units")
    (begun,) = [one for one in listed(halves) if one["running"]]
    assert (begun["candidates"], begun["plan"]["metric"], begun["plan"]["sample"]) == (["v2"], "accuracy", 0.2)


def test_who_was_overtaken_starts_nothing_and_is_told(halves: PaperServer, viewer: Viewer) -> None:
    viewer.allowed = re.compile("status of 4(09|12)")
    viewer.open(halves)
    form_of(viewer).get_by_role("button", name="Start…").click()
    begun = begin(halves)
    viewer.confirm("too late")
    expect(viewer.page.get_by_role("alert")).to_contain_text(re.compile("generation"))
    assert [one["id"] for one in listed(halves) if one["running"]] == [begun["id"]]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"weights": {"v1": 1}}, "All traffic of production goes to v1"),
        ({"enabled": False}, "The split of production is off"),
        ({"strategy": "weighted"}, "moves the split of production by itself"),
    ],
)
def test_what_is_in_the_way_is_said_in_place_of_the_form(
    halves: PaperServer, viewer: Viewer, change: dict[str, Any], says: str
) -> None:
    halves.ask("POST", SPLIT, json=change)
    viewer.open(halves)
    expect(form_of(viewer)).to_contain_text(says)


def test_what_was_known_last_is_dated_while_nobody_answers(halves: PaperServer, viewer: Viewer) -> None:
    viewer.allowed = re.compile("net::ERR|status of 503")
    begin(halves)
    viewer.open(halves)
    expect(verdict(viewer)).to_have_text("RUNNING")
    lost = viewer.page.locator("#experiment-lost")
    halves.kill()
    expect(lost).to_contain_text(re.compile(r"As of \d\d:\d\d:\d\d; nothing was heard since\."))
    expect(verdict(viewer)).to_have_text("RUNNING")
    halves.start()
    expect(lost).to_be_hidden()
    expect(verdict(viewer)).to_have_text("RUNNING")


def test_nothing_serious_keeps_anybody_from_an_experiment(halves: PaperServer, viewer: Viewer, phone: Viewer) -> None:
    phone.open(halves)
    form = form_of(phone)
    form.get_by_text("Guardrails").click()
    phone.page.get_by_text("Past experiments").click()
    assert phone.overflow() == 0
    assert phone.serious() == []
    begin(halves, guardrails=GUARDRAILS)
    viewer.open(halves)
    for one in (viewer, phone):
        expect(verdict(one)).to_have_text("RUNNING")
        expect(one.page.locator("#experiment-checks .pill").last).to_have_text("unknown")
        assert one.serious() == []
    assert phone.overflow() == 0


def test_nothing_serious_keeps_anybody_from_its_curves(halves: PaperServer, viewer: Viewer, phone: Viewer) -> None:
    # Soon enough to be drawn while somebody waits.
    begin(halves, label_delay_s=8, max_duration_s=400, guardrails=GUARDRAILS)
    reward(halves)
    for one in (viewer, phone):
        one.open(halves)
        one.page.get_by_text("Past experiments").click()
    for one in (viewer, phone):
        expect(one.page.get_by_role("img", name=re.compile("Effect on reward, now: v2"))).to_be_visible()
        assert one.serious() == []
    assert phone.overflow() == 0


def test_the_keyboard_starts_and_stops_an_experiment(halves: PaperServer, viewer: Viewer) -> None:
    viewer.open(halves)
    page = viewer.page
    page.get_by_text("Start an experiment").focus()
    page.keyboard.press("Enter")
    start = page.get_by_role("button", name="Start…")
    for _ in range(40):
        page.keyboard.press("Tab")
        if start.evaluate("button => button === document.activeElement"):
            break
    expect(start).to_be_focused()
    viewer.confirm_by_keyboard("by keyboard")
    viewer.says("has begun")
    stop = page.get_by_role("button", name="Stop the experiment…")
    stop.focus()
    # What is read meanwhile does not take the focus away.
    with page.expect_response(re.compile("/ab-test/status")):
        pass
    expect(stop).to_be_focused()
    viewer.confirm_by_keyboard("by keyboard as well")
    viewer.says("is stopped")
    assert listed(halves)[0]["reason"] == "by keyboard as well"


def test_an_experiment_of_a_part_of_a_layer_is_started_by_the_form(halves: PaperServer, viewer: Viewer) -> None:
    viewer.open(halves)
    form = form_of(viewer)
    form.get_by_text("Units that other experiments leave alone").click()
    form.get_by_label("Layer").fill("checkout")
    form.get_by_label("To", exact=True).fill("0.5")
    form.get_by_role("button", name="Start…").click()
    words = "0 % to 50 % of the layer checkout; v1 answers units outside, also those that had v2"
    expect(viewer.page.get_by_role("dialog")).to_contain_text(words)
    viewer.confirm("beside another one")
    viewer.says("The experiment of v2 against v1 has begun")
    (begun, *_) = listed(halves)
    assert begun["plan"]["layer"] == {"name": "checkout", "from": 0, "to": 0.5}
    expect(viewer.page.locator("#experiment-plan")).to_contain_text("0 % to 50 % of the layer checkout; v1 answers all")
    expect(viewer.page.locator("#split-facts")).to_contain_text("for 0 % to 50 % of the layer checkout, outside v1")
