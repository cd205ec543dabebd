"""`shokado log estimate` as it is typed, over the files of a log."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shokado.cli.app import app
from tests.lifecycle.test_estimating import SHARES, World, events

runner = CliRunner()


@pytest.fixture
def log(tmp_path: Path) -> str:
    """Of 1970: v2 earns 0.4, and v1 as well in the first hour, and then 0.6."""
    world = World(tmp_path)
    world.hour(SHARES, {"v1": events(300, 750), "v2": events(100, 250)})
    world.hour({"v1": 0.5, "v2": 0.5}, {"v1": events(300, 500), "v2": events(200, 500)})
    world.hour(SHARES, {"v2": events(9, 9)}, reason="PINNED")
    world.estimate()
    return str(tmp_path)


def test_what_one_version_had_earned_is_told_beside_what_was_earned(log: str) -> None:
    told = runner.invoke(app, ["log", "estimate", log, "--version", "v2", "--against", "v1"])
    assert told.exit_code == 0, told.output
    first, second, third, fourth, fifth = told.stdout.splitlines()
    assert first.startswith("had v2 served everything: reward 0.4 (0.3")
    assert second.startswith("less that of v1: -0.1 (-0.1")
    assert third == "as it was: 0.4 where v2 answered, 0.45 over all answers"
    assert fourth == (
        "of 2,000 requests in production, 1970-01-01T01:00:00+00:00 to 1970-01-01T02:00:00+00:00, 2 generations; "
        "2,000 outcomes, 750 of v2, whose share was 0.25 at least"
    )
    assert fifth.startswith("left out: 9 requests: not dealt out")


def test_a_program_is_told_the_same(log: str) -> None:
    told = runner.invoke(app, ["log", "estimate", log, "--version", "v2", "--json", "--confidence", "0.9"])
    assert told.exit_code == 0
    content = json.loads(told.stdout)
    assert content["had_served"]["low"] < content["had_served"]["value"] == 0.4 < content["had_served"]["high"]
    assert (content["instead"], content["confidence"], content["own_observations"]) == (None, 0.9, 750)
    wider = json.loads(runner.invoke(app, ["log", "estimate", log, "--version", "v2", "--json"]).stdout)
    assert wider["had_served"]["high"] > content["had_served"]["high"]


def test_too_little_and_a_time_without_a_share_have_each_a_status(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.hour(SHARES, {"v1": events(30, 75), "v2": events(10, 25)})
    assert not world.estimate().is_told
    told = runner.invoke(app, ["log", "estimate", str(tmp_path), "--version", "v2"])
    assert told.exit_code == 3
    assert told.stdout.startswith("had v2 served everything: reward 0.4 (too little was seen for an interval)\n")
    world.hour({"v1": 1.0}, {"v1": events(30, 75)})
    refused = runner.invoke(app, ["log", "estimate", str(tmp_path), "--version", "v2"])
    assert refused.exit_code == 1
    assert "v2 had no share in generation 2" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--version", "v2", "--metric", "error_rate"], "error_rate is not in the log"),
        (["--version", "v2", "--against", "v2"], "are the same version"),
        (["--version", "v2", "--since", "soon"], "is no time such as 90m"),
        ([], "Missing option '--version'"),
    ],
)
def test_wrong_usage(log: str, arguments: list[str], says: str) -> None:
    result = runner.invoke(app, ["log", "estimate", log, *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert says in result.stderr


def test_nothing_of_the_window_is_told(log: str) -> None:
    result = runner.invoke(app, ["log", "estimate", log, "--version", "v2", "--since", "24h"])
    assert result.exit_code == 1
    assert "no request of the window was dealt out at random" in result.stderr
