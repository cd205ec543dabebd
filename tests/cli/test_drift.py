"""`shokado drift report` as it is typed, over the files of a log, in the environment that has Evidently."""

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from configuration.log_settings import LogSettings
from runners.artefacts.card import Card
from shokado.cli.app import app
from shokado.request_log.log_writer import LogWriter
from tests.end_to_end.test_open_inference_clients import environment_of
from tests.request_log.records import encoded, request_of
from tests.support.cards import make_card
from tests.support.server import ROOT

CARD = make_card(
    format=3,
    features=[
        {"name": "width"},
        {"name": "city", "type": "category", "levels": ["Bern", "Basel"], "nullable": True},
        {"name": "member", "type": "boolean"},
    ],
    examples={"rows": [[1.0, 0, 1]], "scores": [0.25]},
)
FOUR_EXAMPLES = {"rows": [[1.0, 0, 1, 1.8]], "scores": [0.25]}
HOUR_S = 3600.0


def table(seed: int, rows: int, shift: float = 0.0, missing: float = 0.0) -> pd.DataFrame:
    """Rows as they are trained on: normal widths, of two cities."""
    random = np.random.default_rng(seed)
    city = random.choice(np.array(["Bern", "Basel"], dtype=object), rows)
    city[random.random(rows) < missing] = None
    return pd.DataFrame({"width": random.normal(shift, 1, rows), "city": city, "member": random.random(rows) < 0.5})


def rows_of(frame: pd.DataFrame) -> list[list[Any]]:
    codes = {"Bern": 0, "Basel": 1, None: None}
    return [
        [width, codes[city if isinstance(city, str) else None], int(member), *more]
        for width, city, member, *more in frame.itertuples(index=False)
    ]


def write(
    folder: Path, frame: pd.DataFrame, ago_s: float, *, card: Card = CARD, settings: LogSettings | None = None
) -> None:
    """Log the rows as answered so long ago; their scores rise with the width."""
    writer = LogWriter(settings or LogSettings(share=1), folder, f"w{ago_s:.0f}", bytes(32))
    scores = 1 / (1 + np.exp(-frame["width"].to_numpy()))
    writer.write(encoded(request_of(card, rows_of(frame), scores, at=time.time() - ago_s)), {1: card})
    writer.end_segment()


def run(log: Path, target: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = ["drift", "report", str(target), "--log", str(log), *options]
    return subprocess.run(
        [environment_of("drift"), "-m", "shokado", *command],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip


def verdicts(report: Path) -> dict[str, str]:
    columns: Sequence[dict[str, str]] = json.loads((report / "verdict.json").read_text())["columns"]
    return {column["name"]: column["verdict"] for column in columns}


def values(report: Path) -> dict[str, float]:
    """What Evidently's JSON says of each column."""
    metrics = json.loads((report / "report.json").read_text())["metrics"]
    return {metric["config"]["column"]: metric["value"] for metric in metrics if "column" in metric["config"]}


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    table(1, 4000, missing=0.1).to_parquet(tmp_path / "training.parquet")
    return tmp_path / "training.parquet"


@pytest.mark.slow
def test_rows_like_those_of_the_file_have_not_drifted(tmp_path: Path, reference: Path) -> None:
    write(tmp_path / "log", table(2, 3000, missing=0.1), 60)
    write(tmp_path / "log", table(3, 3000, shift=3), 3 * HOUR_S)
    done = run(tmp_path / "log", tmp_path / "drift", "--since", "1h", "--reference", str(reference))
    assert done.returncode == 0, done.stderr
    assert set(verdicts(tmp_path / "drift" / "v1").values()) == {"none"}
    assert values(tmp_path / "drift" / "v1").keys() == {"feature.width", "feature.city", "feature.member"}
    assert "v1: none, by 3000 rows beside 4000" in done.stdout
    assert "feature.width" in (tmp_path / "drift" / "v1" / "report.html").read_text()


@pytest.mark.slow
def test_what_has_shifted_is_named_and_nothing_else(tmp_path: Path, reference: Path) -> None:
    frame = table(2, 3000, shift=1, missing=0.1)
    # One value far away, in whose bins of equal width all others would be one.
    frame.loc[0, "width"] = 1e9
    write(tmp_path / "log", frame, 60)
    done = run(tmp_path / "log", tmp_path / "drift", "--reference", str(reference))
    assert done.returncode == 1, done.stderr
    told = json.loads((tmp_path / "drift" / "v1" / "verdict.json").read_text())
    assert (told["verdict"], told["drifted"]) == ("drift", ["feature.width"])
    found = values(tmp_path / "drift" / "v1")
    # Of a normal column shifted by its deviation the true index is 1.
    assert 0.7 < found["feature.width"] < 1.4
    assert found["feature.city"] < 0.05
    metrics = json.loads((tmp_path / "drift" / "v1" / "report.json").read_text())["metrics"]
    assert metrics[0]["value"]["count"] == 1, "Evidently counts the same columns"


@pytest.mark.slow
def test_values_that_go_missing_are_drift(tmp_path: Path, reference: Path) -> None:
    write(tmp_path / "log", table(2, 3000, missing=0.9), 60)
    done = run(tmp_path / "log", tmp_path / "drift", "--reference", str(reference))
    assert done.returncode == 1, done.stderr
    assert {name for name, one in verdicts(tmp_path / "drift" / "v1").items() if one == "drift"} == {"feature.city"}


@pytest.mark.slow
def test_the_log_is_compared_with_what_it_was_before(tmp_path: Path) -> None:
    masked = LogSettings(share=1, hash=("city",), drop=("member",))
    write(tmp_path / "log", table(1, 3000), 5 * HOUR_S, settings=masked)
    write(tmp_path / "log", table(2, 3000, shift=1), 60, settings=masked)
    other = make_card(format=3, model="other", features=CARD.features, examples=CARD.examples)
    write(tmp_path / "log", table(3, 10), 90, settings=masked, card=other)
    done = run(tmp_path / "log", tmp_path / "drift", "--since", "1h", "--against", "7d")
    assert done.returncode == 1, done.stderr
    assert verdicts(tmp_path / "drift" / "v1") == {"feature.width": "drift", "score": "drift"}
    assert "left out, as the log has no values of them: city, member" in done.stdout
    assert "left out: 10 rows that another import of v1 has answered" in done.stdout


@pytest.mark.slow
def test_of_few_rows_nothing_is_said(tmp_path: Path, reference: Path) -> None:
    write(tmp_path / "log", table(2, 50, shift=5), 60)
    done = run(tmp_path / "log", tmp_path / "drift", "--version", "v1", "--reference", str(reference))
    assert done.returncode == 2
    assert "the window of the log has 50 rows of v1, and 200 are needed" in done.stderr
    assert "shokado drift report .. --since 7d" in done.stderr
    assert not (tmp_path / "drift" / "v1").exists()


@pytest.mark.slow
def test_all_versions_of_the_log_are_told_in_one_run(tmp_path: Path, reference: Path) -> None:
    """One like its reference, one that has drifted, one of few rows, and one that takes what the file does not have."""
    v2, v3 = (CARD.model_copy(update={"version": version}) for version in ("v2", "v3"))
    v4 = make_card(format=3, version="v4", features=[*CARD.features, {"name": "height"}], examples=FOUR_EXAMPLES)
    log = tmp_path / "log"
    write(log, table(2, 3000, missing=0.1), 60)
    write(log, table(3, 3000, shift=1, missing=0.1), 70, card=v2)
    write(log, table(4, 50, shift=5), 80, card=v3)
    write(log, table(5, 300).assign(height=1.0), 90, card=v4)
    done = run(log, tmp_path / "drift", "--reference", str(reference))
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-2:] == ["cannot be told: v3, v4", "drift: v2"]
    assert "v1: none, by 3000 rows beside 4000" in done.stdout
    assert "v2: drift of feature.width, by 3000 rows beside 4000" in done.stdout
    assert "v3: not compared. Too few rows: the window of the log has 50 rows of v3" in done.stderr
    assert f"v4: not compared. {reference} lacks the column 'height'" in done.stderr
    summary = json.loads((tmp_path / "drift" / "summary.json").read_text())
    assert (summary["drifted"], summary["untold"]) == (["v2"], ["v3", "v4"])
    assert {one["version"]: (one["verdict"], one["rows"]) for one in summary["versions"]} == {
        "v1": ("none", 3000), "v2": ("drift", 3000), "v3": ("too few rows", 50), "v4": ("not watched", 300),
    }  # fmt: skip
    assert {path.name for path in (tmp_path / "drift").iterdir()} == {"v1", "v2", "summary.json"}
    # Evidently is given the index of one version, and then of the other.
    assert values(tmp_path / "drift" / "v1")["feature.width"] < 0.05
    assert 0.7 < values(tmp_path / "drift" / "v2")["feature.width"] < 1.4


@pytest.mark.slow
def test_versions_that_are_named_are_told_and_no_others(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for version, shift in (("v1", 0), ("v2", 1)):
        card = CARD.model_copy(update={"version": version})
        write(log, table(1, 3000), 5 * HOUR_S + shift, card=card)
        write(log, table(2, 3000, shift=shift), 60 + shift, card=card)
    done = run(log, tmp_path / "drift", "--version", "v1", "--version", "v9", "--since", "1h", "--against", "7d")
    assert done.returncode == 2, done.stderr
    assert "the window of the log has 0 rows of v9" in done.stderr
    assert done.stderr.splitlines()[-1] == "cannot be told: v9"
    assert {path.name for path in (tmp_path / "drift").iterdir()} == {"v1", "summary.json"}
    assert verdicts(tmp_path / "drift" / "v1")["feature.width"] == "none"


def test_without_evidently_the_command_that_installs_it_is_named(tmp_path: Path) -> None:
    write(tmp_path, table(2, 50), 60)
    command = ["drift", "report", str(tmp_path / "drift"), "--log", str(tmp_path), "--version", "v1", "--against", "7d"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "make drift" in result.stderr


@pytest.mark.parametrize("options", [[], ["--reference", "a.csv", "--against", "7d"], ["--against", "soon"]])
def test_what_it_is_compared_with_is_said_once(options: list[str]) -> None:
    assert CliRunner().invoke(app, ["drift", "report", "drift", "--version", "v1", *options]).exit_code == 2
