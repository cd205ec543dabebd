"""`shokado replay` as it is typed, over the files of a log, against versions of the model store."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from configuration.log_settings import LogSettings
from runners.artefacts.card import Task
from shokado.cli.app import app
from shokado.lifecycle.replaying.logged_calls import REPLAY_PREFIX
from tests.support.cards import make_card
from tests.support.paper_log import KINDS, Kind, PaperLog, logistic, paper_card, put_version

pytestmark = pytest.mark.usefixtures("own_store")
V1 = paper_card()
runner = CliRunner()


def drawn(count: int, seed: int = 1) -> list[list[Any]]:
    """Rows of a width, a city of two, and an age."""
    random = np.random.default_rng(seed)
    widths = random.normal(size=count).astype(np.float32).tolist()
    return [[width, int(random.random() < 0.5), int(random.integers(20, 80))] for width in widths]


def scored(rows: list[list[Any]]) -> np.ndarray:
    """What the model of `V1` makes of them."""
    return logistic(np.array([row[0] for row in rows]))


@pytest.fixture
def log(tmp_path: Path) -> PaperLog:
    return PaperLog(tmp_path / "log")


def run(log: PaperLog, *options: str, against: str = "v3") -> Result:
    target = str(log.folder.with_name("replay"))
    command = ["replay", target, "--log", str(log.folder), "--against", against, *options]
    return runner.invoke(app, command, env={"COLUMNS": "200"})


def report(log: PaperLog) -> Any:
    return json.loads((log.folder.with_name("replay") / "report.json").read_text())


def test_a_version_that_scores_alike_is_within_all_limits(log: PaperLog) -> None:
    put_version(paper_card("v3"))
    rows = drawn(1200)
    log.write(V1, rows, scored(rows))
    done = run(log, "--max-difference", "0.01", "--max-disagreement", "0.01", "--max-errors", "0.01")
    assert done.exit_code == 0, done.output
    found = report(log)
    assert found["verdict"] == "PASS"
    assert (found["overall"]["rows"], found["overall"]["failed"]) == (1200, 0)
    assert found["overall"]["difference"]["value"] < 1e-6
    assert found["overall"]["disagreement"]["value"] == 0
    # Nobody disagreed of 1,200: exactly, 0.31 % may.
    assert found["overall"]["disagreement"]["high"] == pytest.approx(1 - 0.025 ** (1 / 1200))
    assert "v3: PASS" in done.stdout
    page = (log.folder.with_name("replay") / "report.html").read_text()
    assert "Replay against v3" in page
    assert "<script src" not in page
    assert "<link" not in page


def test_what_differs_is_measured_row_by_row_and_by_segment(log: PaperLog) -> None:
    """In Basel the scores were a tenth lower than the candidate's, elsewhere the same."""
    put_version(paper_card("v3"))
    rows = drawn(4000)
    lower = np.array([0.1 * row[1] for row in rows])
    log.write(V1, rows, scored(rows) - lower)
    done = run(log, "--by", "city", "--by", "age", "--max-difference", "0.02")
    assert done.exit_code == 1, done.output
    found = report(log)
    assert found["verdict"] == "FAIL"
    overall = found["overall"]
    assert overall["difference"]["value"] == pytest.approx(lower.mean(), abs=1e-6)
    assert overall["shifts"]["score"]["value"] == pytest.approx(lower.mean(), abs=1e-6)
    assert overall["difference"]["low"] < lower.mean() < overall["difference"]["high"]
    after, before = scored(rows) > 0.5, scored(rows) - lower > 0.5
    assert overall["disagreement"]["value"] == pytest.approx((after != before).mean())
    by = {table["by"]: {group["group"]: group for group in table["groups"]} for table in found["tables"]}
    assert by["city"].keys() == {"Bern", "Basel"}
    assert by["city"]["Basel"]["difference"]["value"] == pytest.approx(0.1, abs=1e-6)
    assert by["city"]["Bern"]["difference"]["value"] == pytest.approx(0, abs=1e-6)
    assert sum(group["rows"] for group in by["age"].values()) == 4000
    assert len(by["age"]) == 5, "ages are in bins"
    assert all(600 < group["rows"] < 1000 for group in by["age"].values())
    assert [one["difference"] for one in found["largest"]] == pytest.approx([0.1] * 20, abs=1e-6)
    assert "Mean absolute difference by city" in (log.folder.with_name("replay") / "report.html").read_text()


def test_few_rows_are_neither_within_nor_beyond(log: PaperLog) -> None:
    put_version(paper_card("v3"))
    rows = drawn(100)
    log.write(V1, rows, scored(rows) - 0.05)
    done = run(log, "--max-disagreement", "0.1")
    assert done.exit_code == 3, done.output
    assert "INCONCLUSIVE" in done.stdout
    assert "more rows would tell" in done.stderr
    assert run(log).exit_code == 0, "without a limit there is nothing to judge"
    assert report(log)["verdict"] is None


def test_labels_say_which_version_was_right(log: PaperLog) -> None:
    """The candidate is always right, and the version that answered in four of five cases."""
    put_version(paper_card("v3"))
    rows = drawn(1000)
    right = (scored(rows) > 0.5).astype(int)
    flipped = np.arange(1000) % 5 == 0
    answered = np.where(flipped, 1 - scored(rows), scored(rows))
    log.write(V1, rows, answered, labels={at: int(label) for at, label in enumerate(right[:800])} | {801: "blue"})
    done = run(log, "--max-accuracy-loss", "0.01")
    assert done.exit_code == 0, done.output
    quality = report(log)["overall"]["quality"]
    assert (quality["labels"], quality["original"], quality["candidate"]) == (800, 0.8, 1.0)
    assert quality["difference"]["value"] == pytest.approx(0.2)
    assert 0.17 < quality["difference"]["low"] < 0.2 < quality["difference"]["high"] < 0.23
    assert "1 labels are none of the model's" in done.stdout


def test_rows_of_one_unit_count_as_alike(log: PaperLog) -> None:
    put_version(paper_card("v3"))
    rows = [row for row in drawn(80) for _ in range(10)]
    # Eight of eighty users differ, each in all of its rows.
    away = np.repeat(np.arange(80) % 10 == 0, 10)
    log.write(V1, rows, np.where(away, 1 - scored(rows), scored(rows)), units=[f"u{at // 10}" for at in range(800)])
    assert run(log).exit_code == 0
    overall = report(log)["overall"]
    assert (overall["units"], overall["rows"]) == (80, 800)
    low, high = overall["disagreement"]["low"], overall["disagreement"]["high"]
    assert (low, high) == pytest.approx((0.044, 0.188), abs=0.004), "as 8 of 80, not as 80 of 800"


def test_what_the_log_hides_is_not_replayed_and_the_setting_is_named(log: PaperLog) -> None:
    put_version(paper_card("v3"))
    put_version(paper_card("v4", ["width"]))
    rows = drawn(300)
    hiding = LogSettings(share=1, hash=("city",), drop=("age",))
    log.write(V1, rows, scored(rows), settings=hiding)
    refused = run(log)
    assert refused.exit_code == 2
    assert "300 rows: the log hashes city and the log drops age, which v3 takes" in refused.stderr
    assert "log.hash and log.drop in serving.yaml" in refused.stderr
    assert "SHOKADO_LOG__HASH='[]' SHOKADO_LOG__DROP='[]' make serve" in refused.stderr
    assert not log.folder.with_name("replay").exists()
    # What the candidate does not take may be hidden, and a hash still tells rows apart.
    assert run(log, "--by", "city", against="v4").exit_code == 0
    (hashes,) = [table for table in report(log)["tables"] if table["by"] == "city"]
    assert len(hashes["groups"]) == 2
    by_age = run(log, "--by", "age", against="v4")
    assert by_age.exit_code == 2
    assert "The log drops age" in by_age.stderr
    log.write(V1, rows, scored(rows))
    assert run(log).exit_code == 0
    (left_out,) = report(log)["left_out"]
    assert (left_out["rows"], left_out["setting"]) == (300, "log.hash and log.drop")
    assert report(log)["overall"]["rows"] == 300


def test_what_was_not_logged_is_left_out_and_counted(log: PaperLog) -> None:
    """What the version that answered did not take, levels it did not know, scores it did not have, replays."""
    open_city = KINDS["city"] | {"other": True}
    features: list[Kind] = ["width", open_city, "age"]
    known = paper_card(features=features)
    put_version(paper_card("v3"))
    rows = drawn(60)
    log.write(known, rows, scored(rows))
    log.write(known, [[0.5, 2, 40]] * 7, [0.6] * 7)
    log.write(paper_card("v2", ["width", "age"]), [[0.5, 40]] * 5, [0.6] * 5)
    log.write(V1, rows[:4], [np.nan] * 4)
    log.write(V1, rows[:3], scored(rows[:3]), request_id=f"{REPLAY_PREFIX}x-1")
    log.write(make_card(Task.REGRESSION, version="v9", model="paper"), [[1.0, 2.0]] * 2, [1.0] * 2)
    log.write(paper_card(model="other"), rows[:1], [0.5])
    done = run(log, against="paper:v3")
    assert done.exit_code == 0, done.output
    found = {one["reason"]: one["rows"] for one in report(log)["left_out"]}
    assert found == {
        "city has a level that v1 does not know, and so does not log": 7,
        "v2 does not take city, which v3 takes": 5,
        "it has no score in the log": 4,
        "an earlier replay sent it": 3,
        "v9 and v3 give other task: regression; binary": 2,
        "it was asked of the model other": 1,
    }
    assert "left out: 7 rows of 7 requests: city has a level" in done.stdout
    assert report(log)["overall"]["rows"] == 60


def test_levels_that_both_lack_are_the_same_to_both(log: PaperLog) -> None:
    features: list[Kind] = ["width", KINDS["city"] | {"other": True}, "age"]
    put_version(paper_card("v3", features=features))
    log.write(paper_card(features=features), [[0.5, 2, 40]] * 60, logistic(np.full(60, 0.5)))
    assert run(log).exit_code == 0
    assert report(log)["overall"]["rows"] == 60


def test_rows_that_the_candidate_refuses_are_errors_of_its_own(log: PaperLog) -> None:
    """It knows one city less."""
    put_version(paper_card("v3", features=["width", KINDS["city"] | {"levels": ["Bern"]}, "age"]))
    rows = drawn(400)
    log.write(V1, rows, scored(rows))
    done = run(log, "--max-errors", "0.1", "--by", "city")
    assert done.exit_code == 1, done.output
    found = report(log)
    basel = sum(row[1] for row in rows)
    (failed,) = found["failed"]
    assert (failed["code"], failed["requests"]) == ("unknown_level", basel)
    assert "'city'" in failed["message"]
    assert found["overall"]["errors"]["value"] == pytest.approx(basel / 400)
    (cities,) = [table for table in found["tables"] if table["by"] == "city"]
    assert {group["group"]: group["failed"] for group in cities["groups"]} == {"Bern": 0, "Basel": basel}


def test_where_every_request_fails_the_report_says_so(log: PaperLog) -> None:
    put_version(paper_card("v3", features=["width", KINDS["city"] | {"levels": ["Chur"]}, "age"]))
    rows = drawn(50)
    log.write(V1, rows, scored(rows))
    assert run(log, "--by", "age", "--max-difference", "1").exit_code == 3
    assert report(log)["overall"]["errors"]["value"] == 1
    assert run(log, "--max-errors", "0.5").exit_code == 1


def test_truths_and_numbers_are_given_as_the_candidate_takes_them(log: PaperLog) -> None:
    as_number = {"name": "member"}
    put_version(paper_card("v3", features=[as_number, "width"]))
    rows = [[0.5, at % 2] for at in range(200)]
    scores = logistic(np.array([float(row[1]) for row in rows]))
    log.write(paper_card(features=["width", "member"]), rows, scores)
    assert run(log, "--max-difference", "0.02").exit_code == 0
    assert report(log)["overall"]["difference"]["value"] < 1e-6
    assert report(log)["failed"] == []


def test_values_have_errors_and_no_accuracy(log: PaperLog) -> None:
    """The candidate gives the width itself; what was answered lies 2 above, and the truth 1 above."""
    examples = {"rows": [[1.0, 0, 40], [3.0, 0, 40]], "scores": [1.0, 3.0]}
    card = paper_card(task=Task.REGRESSION, classes=[], examples=examples)
    put_version(paper_card("v3", task=Task.REGRESSION, classes=[], examples=examples))
    rows = drawn(1500)
    widths = np.array([row[0] for row in rows])
    log.write(card, rows, widths + 2, labels={at: width + 1 for at, width in enumerate(widths.tolist())})
    assert run(log, "--max-difference", "3").exit_code == 0
    found = report(log)
    assert found["quality_name"] == "mean squared error"
    assert found["overall"]["quality"]["original"] == pytest.approx(1, rel=1e-5)
    assert found["overall"]["quality"]["candidate"] == pytest.approx(1, rel=1e-5)
    assert found["overall"]["disagreement"]["value"] == 1
    refused = run(log, "--max-accuracy-loss", "0.1")
    assert refused.exit_code == 2
    assert "v3 gives values, which have no accuracy" in refused.stderr


def test_of_many_rows_whole_units_are_drawn_and_the_same_ones_each_time(log: PaperLog) -> None:
    put_version(paper_card("v3"))
    rows = drawn(4000)
    log.write(V1, rows, scored(rows), units=[f"u{at // 4}" for at in range(4000)])
    assert run(log, "--most", "1000").exit_code == 0
    first = report(log)
    assert 800 < first["overall"]["rows"] < 1200
    assert first["overall"]["rows"] == 4 * first["overall"]["units"]
    assert (first["share"], first["replayable_rows"]) == (0.25, 4000)
    assert run(log, "--most", "1000").exit_code == 0
    assert report(log) == first


def test_only_what_one_version_answered_is_replayed(log: PaperLog) -> None:
    put_version(paper_card("v3"))
    rows = drawn(100)
    log.write(V1, rows, scored(rows))
    log.write(paper_card("v2"), rows, scored(rows) / 2)
    assert run(log).exit_code == 0
    (versions,) = report(log)["tables"]
    assert [(group["group"], group["rows"]) for group in versions["groups"]] == [("v1", 100), ("v2", 100)]
    assert run(log, "--version", "v2").exit_code == 0
    assert report(log)["overall"]["rows"] == 100
    nobody = run(log, "--version", "v7")
    assert nobody.exit_code == 2
    assert "The log has no requests in that time that v7 has answered" in nobody.stderr


def test_names_out_of_the_log_are_text_on_the_page(log: PaperLog) -> None:
    name = "</script><script>alert(1)</script>"
    features: list[Kind] = ["width", KINDS["city"] | {"levels": ["Bern", name]}, "age"]
    put_version(paper_card("v3", features=features))
    rows = drawn(200)
    log.write(paper_card(features=features), rows, scored(rows))
    assert run(log, "--by", "city").exit_code == 0
    assert name not in (log.folder.with_name("replay") / "report.html").read_text()


def test_what_is_missing_is_said_with_the_next_command(log: PaperLog, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = drawn(50)
    log.write(V1, rows, scored(rows))
    absent = run(log)
    assert absent.exit_code == 2
    assert "There is no paper:v3 in the model store" in absent.stderr
    assert "shokado models list paper" in absent.stderr
    log.write(paper_card(model="other"), rows, scored(rows))
    two = run(log)
    assert two.exit_code == 2
    assert "The log has requests to other, paper: say of which model" in two.stderr
    put_version(paper_card("v3"))
    assert run(log, against="paper:v3").exit_code == 0
    misspelt = run(log, "--by", "citty", against="paper:v3")
    assert misspelt.exit_code == 2
    assert "No version of the log takes citty; the nearest is city" in misspelt.stderr
    monkeypatch.setitem(sys.modules, "plotly", None)
    without = run(log, against="paper:v3")
    assert without.exit_code == 2
    assert "make models" in without.stderr


@pytest.mark.parametrize(
    "options", [["--max-p95-ms", "5"], ["--key-file", "key"], ["--since", "soon"], ["--most", "0"]]
)
def test_what_makes_no_sense_is_wrong_usage(options: list[str]) -> None:
    assert runner.invoke(app, ["replay", "--against", "v3", *options]).exit_code == 2


def test_where_nobody_listens_the_address_is_named(log: PaperLog) -> None:
    rows = drawn(5)
    log.write(V1, rows, scored(rows))
    done = run(log, "--url", "http://127.0.0.1:9")
    assert done.exit_code == 2
    assert "No server answers at http://127.0.0.1:9" in done.stderr
    assert "curl http://127.0.0.1:9/readyz" in done.stderr
