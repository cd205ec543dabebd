"""The dashboard in a real browser: what it shows, every action, and nothing that the console complains about."""

import json
import re
import subprocess

import pytest
from playwright.sync_api import expect

from tests.browser.served_page import ROW, PaperServer
from tests.browser.viewer import Viewer
from tests.support.waiting import wait_until
from tests.tools import needs

SPLIT = "/v1/traffic-split"


def test_a_server_that_nobody_has_asked_is_shown(paper: PaperServer, viewer: Viewer) -> None:
    viewer.open(paper, "/")
    page = viewer.page
    expect(page.get_by_role("heading", level=1)).to_have_text("paper")
    expect(page.locator("#ready")).to_have_text("ready")
    expect(page.locator("#connection")).to_have_text("live")
    expect(viewer.row("v1")).to_contain_text("80 % active")
    expect(viewer.row("v2")).to_contain_text("20 %")
    expect(page.locator("#charts .chart canvas")).to_have_count(10)
    expect(page.locator("#takes")).to_have_text("takes rows of 4 numbers")
    expect(viewer.newest_change()).to_contain_text("configured")
    assert page.locator("a", has_text="Documentation").get_attribute("href") == "./docs"


def test_what_is_asked_appears_within_seconds(paper: PaperServer, viewer: Viewer) -> None:
    viewer.open(paper)
    answers = paper.predict(40)
    paper.ask("POST", "/v1/models/predict", json={"instances": [ROW]}, headers={"X-Request-Deadline-Ms": "0.001"})
    feedback = [{"prediction_id": one["prediction_id"], "label": one["classes"][0]} for one in answers]
    paper.ask("POST", "/v1/feedback", json=feedback)
    page = viewer.page
    expect(page.locator("#tiles")).to_contain_text(re.compile(r"Slowest p99[\d.]+ ms"))
    expect(page.get_by_role("img", name=re.compile(r"Requests per second, now: v1 (?!0[,\s])"))).to_be_visible()
    expect(viewer.row("v1")).to_contain_text(re.compile(r"[\d.]+ ms"))
    expect(page.locator("#quality")).to_contain_text("100 %")
    expect(page.get_by_role("img", name="Scores of v1, v2")).to_be_visible()
    seen = page.locator("#shares tbody tr").first
    expect(seen).not_to_contain_text("\N{EN DASH}")


def test_errors_are_shown_by_their_kind(paper: PaperServer, viewer: Viewer) -> None:
    viewer.open(paper)
    paper.ask("POST", "/v1/models/predict", json={"instances": [ROW]}, headers={"X-Request-Deadline-Ms": "0.001"})
    paper.ask("POST", "/v1/models/predict", json={"instances": [ROW | {"age": "old"}]})
    viewer.page.get_by_label("by kind").check()
    told = viewer.page.get_by_role("img", name="Errors per second, now")
    expect(told).to_have_attribute("aria-label", re.compile("deadline_exceeded .*, not_a_number "))
    viewer.page.get_by_label("by version").check()
    expect(told).to_have_attribute("aria-label", re.compile(r": v1 .*, v2 .*, no version"))


def test_quality_is_shown_over_time(paper: PaperServer, viewer: Viewer) -> None:
    answers = paper.predict(10, version="v2")
    wrong = next(label for label in (0, 1) if label != answers[0]["classes"][0])
    feedback = [{"prediction_id": one["prediction_id"], "label": wrong, "reward": 0.25} for one in answers]
    assert paper.ask("POST", "/v1/feedback", json=feedback).json()["accepted"] == 10
    viewer.open(paper)
    panel = viewer.page.locator("#quality-charts")
    options = viewer.page.locator("#quality-options")
    expect(panel.get_by_role("img", name=re.compile(r"Conversion, now: v2 25 %"))).to_be_visible()
    expect(panel.get_by_role("img", name=re.compile(r"Accuracy, now: .*v2 \S+ %"))).to_be_visible()
    expect(panel.get_by_role("img", name="Squared error")).to_have_count(0)
    with viewer.page.expect_response(re.compile("/ab-test/quality.*hours=1&.*so_far=true")):
        options.get_by_label("Over the last").select_option("1 h")
        options.get_by_label("Figures").select_option("all so far")
    viewer.page.get_by_role("checkbox", name="Show v2 in charts").uncheck()
    expect(panel.get_by_role("img", name="Conversion")).to_have_count(0)


def test_charts_are_filled_when_the_page_opens(paper: PaperServer, viewer: Viewer) -> None:
    """With points that were taken before anybody looked."""
    paper.predict(5)
    wait_until(lambda: len(paper.ask("GET", "/v1/dashboard").json()["series"]["at"]) > 2, 60)
    with viewer.page.expect_response(re.compile("/v1/dashboard$")) as first:
        viewer.open(paper)
    assert len(first.value.json()["series"]["at"]) > 2


@pytest.mark.slow
def test_rows_that_are_not_like_the_reference_are_shown_as_drift(paper: PaperServer, viewer: Viewer) -> None:
    for _ in range(3):
        paper.ask("POST", "/v1/models/predict", json={"instances": [ROW | {"age": 75}] * 200, "version": "v1"})
    viewer.open(paper)
    drift = viewer.page.locator("#drifts")
    row = drift.locator("tr", has=viewer.page.get_by_role("rowheader", name="age", exact=True))
    expect(row.locator("td").first).to_contain_text(re.compile(r"^drift"))
    expect(drift.locator("thead")).to_contain_text("rows")


def test_the_last_rows_of_the_log_are_shown(paper: PaperServer, viewer: Viewer) -> None:
    paper.predict(1, unit="user-in-the-log")
    viewer.open(paper)
    row = viewer.page.locator("#log-rows tbody tr").filter(has_text="user-in-the-log").first
    expect(row).to_contain_text("age 41")


def test_the_split_is_previewed_and_changed(paper: PaperServer, viewer: Viewer) -> None:
    viewer.open(paper)
    page = viewer.page
    page.get_by_text("Change the split").click()
    form = page.locator("#split")
    form.get_by_label("v1").first.fill("50")
    form.get_by_label("v2").first.fill("50")
    form.get_by_role("button", name="Preview").click()
    expect(form).to_contain_text(re.compile(r"\d+ of 1000 made-up units would get another version"))
    expect(form).to_contain_text("v2: 20 % → 50 %")
    form.get_by_label("Preview with").select_option("units that are named here")
    form.get_by_label("Units, one a line").fill("user-1\nuser-2\nuser-3")
    form.get_by_role("button", name="Preview").click()
    expect(form).to_contain_text(re.compile(r"\d of 3 units would get another version"))
    paper.predict(30)
    form.get_by_label("Preview with").select_option("the requests of the last minutes")
    form.get_by_role("button", name="Preview").click()
    expect(form).to_contain_text(re.compile(r"[\d.]+ % of the requests would have got another version"))
    expect(form).to_contain_text(re.compile(r"[\d.]+ % from v1 to v2, of \d+ units"))
    form.get_by_role("button", name="Change…").click()
    expect(page.get_by_role("dialog")).to_contain_text("v1: from 80 % to 50 %")
    viewer.confirm("half of the users for v2")
    viewer.says("is changed")
    expect(viewer.newest_change()).to_contain_text("half of the users for v2")
    found = paper.ask("GET", SPLIT).json()
    assert (found["weights"], found["why"]) == ({"v1": 50, "v2": 50}, "half of the users for v2")


def test_a_change_can_be_taken_back(paper: PaperServer, viewer: Viewer) -> None:
    paper.ask("POST", SPLIT, json={"weights": {"v1": 99, "v2": 1}, "why": "before"})
    target = paper.ask("GET", SPLIT).json()["generation"]
    paper.ask("POST", SPLIT, json={"weights": {"v1": 1, "v2": 99}, "why": "a mistake"})
    viewer.open(paper)
    expect(viewer.newest_change()).to_contain_text("production: weights v1 99, v2 1 → v1 1, v2 99")
    viewer.page.get_by_role("button", name=f"Go back to generation {target}", exact=True).click()
    viewer.confirm("it was a mistake")
    viewer.says(f"as it was in generation {target}")
    expect(viewer.newest_change()).to_contain_text("it was a mistake")
    assert paper.ask("GET", SPLIT).json()["weights"] == {"v1": 99, "v2": 1}


def test_a_version_is_activated_unloaded_and_loaded(paper: PaperServer, viewer: Viewer) -> None:
    paper.ask("POST", SPLIT, json={"weights": {"v1": 1}, "active": "v1"})
    viewer.open(paper)
    page = viewer.page
    page.get_by_role("button", name="Activate v2").click()
    viewer.confirm("try it")
    viewer.says("v2 is the active version of production")
    expect(viewer.row("v2")).to_contain_text("active")
    assert paper.ask("GET", SPLIT).json()["active"] == "v2"
    # What is needed cannot be unloaded, and the dialog says so.
    viewer.allowed = re.compile("status of 409")
    page.get_by_role("button", name="Unload v2").click()
    viewer.confirm("no longer needed")
    expect(page.get_by_role("alert")).to_contain_text("v2")
    page.get_by_role("button", name="Cancel").click()
    for environment in ("production", "staging"):
        paper.ask("POST", SPLIT, json={"environment": environment, "active": "v1", "weights": {"v1": 1}})
    expect(viewer.row("v1")).to_contain_text("100 % active")
    page.get_by_role("button", name="Unload v2").click()
    viewer.confirm("no longer needed")
    viewer.says("v2 is unloaded")
    expect(viewer.row("v2")).to_contain_text("unloaded")
    page.get_by_role("button", name="Load v2").click()
    viewer.confirm("needed again")
    viewer.says("v2 is loaded")
    expect(viewer.row("v2")).to_contain_text("ready")


def test_an_address_that_cannot_be_loaded_is_refused_in_the_dialog(paper: PaperServer, viewer: Viewer) -> None:
    viewer.allowed = re.compile("status of 4")
    viewer.open(paper)
    viewer.page.get_by_text("Load a version").click()
    viewer.page.get_by_label("Address").fill("file:///etc/passwd")
    viewer.page.get_by_role("button", name="Load…", exact=True).click()
    viewer.confirm("curiosity")
    expect(viewer.page.get_by_role("alert")).to_contain_text("file:///etc/passwd")
    viewer.page.keyboard.press("Escape")
    expect(viewer.page.get_by_role("dialog")).to_have_count(0)


def test_the_form_asks_one_version_or_all_of_them(paper: PaperServer, viewer: Viewer) -> None:
    viewer.open(paper)
    form = viewer.page.locator("#question")
    assert form.get_by_label("plan").locator("option").all_inner_texts() == ["missing", "free", "team", 'it\'s "large"']
    form.get_by_label("age").fill("2")
    form.get_by_label("plan").select_option('it\'s "large"')
    form.get_by_label("Version").select_option("v2")
    form.get_by_role("button", name="Predict").click()
    row = form.locator("tbody tr")
    expect(row).to_contain_text("PINNED")
    expect(row.locator("th")).to_have_text("v2")
    form.get_by_label("Version").select_option("all, side by side")
    form.get_by_role("button", name="Predict").click()
    expect(row).to_have_count(2)
    viewer.allowed = re.compile("status of 422")
    form.get_by_label("age").fill("old")
    form.get_by_role("button", name="Predict").click()
    expect(row.first).to_contain_text("age")


def test_an_answer_is_explained_where_somebody_asks_why(paper: PaperServer, viewer: Viewer) -> None:
    viewer.open(paper)
    form = viewer.page.locator("#question")
    form.get_by_label("Version").select_option("v1")
    form.get_by_label("and why").check()
    form.get_by_role("button", name="Predict").click()
    told = form.locator(".contributions")
    # The score of a paper model depends on its first feature alone.
    expect(told.locator("dt").first).to_have_text("age")
    found = paper.ask("POST", "/v1/models/explain", json={"instances": [ROW], "version": "v1"}).json()
    shown = float(told.locator("dd").first.inner_text().split()[0])
    assert shown == pytest.approx(found["explanations"][0]["contributions"]["age"], rel=0.01)


@pytest.mark.parametrize("path", ["/", "/dashboard", "/dashboard/"])
@needs("curl")
def test_the_command_gets_the_same_prediction(paper: PaperServer, viewer: Viewer, path: str) -> None:
    viewer.open(paper, path)
    form = viewer.page.locator("#question")
    form.get_by_label("plan").select_option('it\'s "large"')
    form.get_by_label("Version").select_option("v1")
    form.get_by_text("The same in a terminal").click()
    command = form.locator("pre").inner_text()
    done = subprocess.run(["sh", "-euc", command], capture_output=True, check=True, timeout=60)
    answer = json.loads(done.stdout)
    expected = paper.predict(1, instances=[{**ROW, "plan": 'it\'s "large"'}], version="v1")[0]
    assert (answer["version"], answer["predictions"]) == ("v1", expected["predictions"])


def test_the_other_environment_is_shown(paper: PaperServer, viewer: Viewer) -> None:
    viewer.open(paper)
    viewer.page.get_by_label("Environment").select_option("staging")
    expect(viewer.page.locator("#ab-test-facts")).to_contain_text("staging")
    expect(viewer.page.locator("#shares")).to_contain_text("staging")


@pytest.mark.slow
def test_a_connection_that_is_lost_is_said_and_heals(paper: PaperServer, viewer: Viewer) -> None:
    viewer.allowed = re.compile("net::ERR|status of 503")
    viewer.open(paper)
    paper.kill()
    expect(viewer.page.locator("#connection")).to_have_text("connection lost; trying again")
    paper.start()
    expect(viewer.page.locator("#connection")).to_have_text("live")
    expect(viewer.row("v1")).to_contain_text("ready")


def test_a_hidden_page_asks_nothing(paper: PaperServer, viewer: Viewer) -> None:
    viewer.open(paper)
    page = viewer.page
    page.evaluate(
        """() => {
          Object.defineProperty(document, 'hidden', { configurable: true, get: () => window.away });
          window.away = true;
          document.dispatchEvent(new Event('visibilitychange'));
        }"""
    )
    asked: list[str] = []
    page.wait_for_timeout(1500)
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(3000)
    assert asked == []
    with page.expect_response(re.compile("/v1/dashboard")):
        page.evaluate("() => { window.away = false; document.dispatchEvent(new Event('visibilitychange')); }")


def test_nothing_serious_keeps_anybody_from_using_it(paper: PaperServer, viewer: Viewer) -> None:
    viewer.open(paper)
    viewer.page.get_by_text("Change the split").click()
    viewer.page.get_by_text("Load a version").click()
    assert viewer.serious() == []
    viewer.page.get_by_role("button", name="Unload v2").click()
    assert viewer.serious() == []


def test_a_phone_scrolls_only_downwards(paper: PaperServer, phone: Viewer) -> None:
    phone.open(paper)
    phone.page.get_by_text("Change the split").click()
    assert phone.overflow() == 0
    assert phone.serious() == []


def test_the_keyboard_is_enough(paper: PaperServer, viewer: Viewer) -> None:
    paper.ask("POST", SPLIT, json={"weights": {"v1": 1}, "active": "v1"})
    viewer.open(paper)
    page = viewer.page
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the figures")).to_be_focused()
    button = page.get_by_role("button", name="Activate v2")
    for _ in range(60):
        page.keyboard.press("Tab")
        if button.evaluate("button => button === document.activeElement"):
            break
    expect(button).to_be_focused()
    viewer.confirm_by_keyboard("by keyboard")
    viewer.says("v2 is the active version")
    assert paper.ask("GET", SPLIT).json()["why"] == "by keyboard"
