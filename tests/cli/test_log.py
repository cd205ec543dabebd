"""`shokado log` as it is typed, over the files of a log."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from configuration.log_settings import LogSettings
from runners.artefacts.card import Card
from shokado.cli.app import app
from shokado.request_log.log_writer import LogWriter
from tests.request_log.records import encoded, request_of
from tests.support.cards import make_card

runner = CliRunner()
CARD = make_card()


def write(folder: Path, *ids: str, card: Card = CARD) -> LogWriter:
    """One row for each id, in a segment that is left open."""
    writer = LogWriter(LogSettings(share=1), folder, "-".join(ids), bytes(32))
    for number, name in enumerate(ids):
        request = request_of(card, [[number, 2]], [0.75], prediction_id=name, at=1000.0 + number)
        writer.write(encoded(request), {1: card})
    return writer


def test_files_are_listed_with_their_rows(tmp_path: Path) -> None:
    write(tmp_path, "p-1", "p-2").end_segment()
    open_one = write(tmp_path, "p-3")
    listed = runner.invoke(app, ["log", "list", str(tmp_path)], env={"COLUMNS": "200"})
    assert listed.exit_code == 0
    rows = [line.split("│") for line in listed.stdout.splitlines() if ".segment" in line]
    assert [(cells[4].strip(), cells[5].strip()) for cells in rows] == [("2", ""), ("1", "open")]
    open_one.end_segment()


def test_a_damaged_file_is_named_and_the_others_are_listed(tmp_path: Path) -> None:
    write(tmp_path, "p-1").end_segment()
    (tmp_path / "0000000000001-x.segment").write_bytes(b"no segment at all")
    listed = runner.invoke(app, ["log", "list", str(tmp_path)], env={"COLUMNS": "200"})
    assert listed.exit_code == 0
    assert "damaged" in listed.stdout
    tailed = runner.invoke(app, ["log", "tail", str(tmp_path)])
    assert tailed.exit_code == 1
    assert "0000000000001-x.segment: not a segment of a request log" in tailed.stderr


def test_the_last_rows_are_printed_as_json(tmp_path: Path) -> None:
    write(tmp_path, "p-1", "p-2", "p-3").end_segment()
    tailed = runner.invoke(app, ["log", "tail", "-n", "2", str(tmp_path)])
    assert tailed.exit_code == 0
    rows = [json.loads(line) for line in tailed.stdout.splitlines()]
    assert [row["prediction_id"] for row in rows] == ["p-2", "p-3"]
    assert rows[0]["time"] == "1970-01-01T00:16:41.000+00:00"
    assert (rows[0]["features"], rows[0]["scores"], rows[0]["label"]) == ({"width": 1, "count": 2}, {"score": 0.75}, 1)


@pytest.mark.parametrize("begun", [True, False])
def test_rows_are_followed_as_they_come(tmp_path: Path, begun: bool) -> None:
    writer = write(tmp_path, "p-1") if begun else None
    command = [sys.executable, "-m", "shokado", "log", "tail", str(tmp_path), "-n", "1", "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        if writer is not None:
            assert json.loads(process.stdout.readline())["prediction_id"] == "p-1"
            writer.write(encoded(request_of(CARD, [[1, 2]], [0.5], prediction_id="p-2")), {1: CARD})
        else:
            writer = write(tmp_path, "p-2")
        assert json.loads(process.stdout.readline())["prediction_id"] == "p-2"
        writer.end_segment()
        writer.write(encoded(request_of(CARD, [[1, 2]], [0.5], prediction_id="p-3")), {1: CARD})
        assert json.loads(process.stdout.readline())["prediction_id"] == "p-3"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0


def test_an_export_is_one_table(tmp_path: Path) -> None:
    write(tmp_path / "log", "p-1", "p-2").end_segment()
    target = tmp_path / "table"
    exported = runner.invoke(app, ["log", "export", str(tmp_path / "log"), str(target)])
    assert exported.exit_code == 0
    assert exported.stdout.splitlines() == [f"{target}/day=1970-01-01/version=v1/rows.parquet  2 rows"]
    assert pd.read_parquet(target)["prediction_id"].tolist() == ["p-1", "p-2"]
    again = runner.invoke(app, ["log", "export", str(tmp_path / "log"), str(target)])
    assert again.exit_code == 1
    assert "is not empty; name another folder" in again.stderr


def test_where_there_is_no_log_the_setting_is_named(tmp_path: Path) -> None:
    for command, rest in (("list", ()), ("tail", ()), ("export", (str(tmp_path / "table"),))):
        result = runner.invoke(app, ["log", command, str(tmp_path / "none"), *rest])
        assert result.exit_code == 1
        assert "there is no request log; log.share in serving.yaml is 0" in result.stderr
        assert "SHOKADO_LOG__SHARE=1 make serve" in result.stderr
    configured = runner.invoke(app, ["log", "list"], env={"SHOKADO_LOG__FOLDER": str(tmp_path / "nowhere")})
    assert f"{tmp_path}/nowhere" in configured.stderr.replace("\n", "")


def test_what_was_sent_is_read_where_it_is(tmp_path: Path) -> None:
    write(tmp_path / "log", "p-1", "p-2").end_segment()
    address = f"file://{tmp_path}/log"
    listed = runner.invoke(app, ["log", "list", address], env={"COLUMNS": "200"})
    assert "│ 2    │" in listed.stdout
    tailed = runner.invoke(app, ["log", "tail", address, "-n", "1"])
    assert json.loads(tailed.stdout)["prediction_id"] == "p-2"
    exported = runner.invoke(app, ["log", "export", address, str(tmp_path / "table")])
    assert exported.exit_code == 0, exported.stderr
    assert pd.read_parquet(tmp_path / "table")["prediction_id"].tolist() == ["p-1", "p-2"]


@pytest.mark.parametrize(
    ("address", "said"),
    [("gs://bucket/log", "gs:// needs the package gcsfs, which is not installed"), ("x3://bucket", "fsspec knows")],
)
def test_what_an_address_needs_is_said(address: str, said: str, tmp_path: Path) -> None:
    for command in (["list", address], ["tail", address], ["export", address, str(tmp_path / "table")]):
        result = runner.invoke(app, ["log", *command])
        assert result.exit_code == 1
        assert said in result.stderr
        assert "make sinks" in result.stderr


def test_of_requests_with_many_rows_as_many_are_printed_as_are_asked_for(tmp_path: Path) -> None:
    writer = write(tmp_path, "p-0")
    for number in range(1, 40):
        rows = [[number, 2]] * 1000
        request = request_of(CARD, rows, [0.5] * 1000, prediction_id=f"p-{number}", at=number + 1000.0)
        writer.write(encoded(request), {1: CARD})
    for options in ([], ["--follow"]):
        command = [sys.executable, "-m", "shokado", "log", "tail", str(tmp_path), "-n", "3", *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
            assert process.stdout is not None
            printed = [json.loads(process.stdout.readline())["prediction_id"] for _ in range(3)]
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)
        assert printed == ["p-39"] * 3
    writer.end_segment()


@pytest.mark.parametrize("named", [[], ["a", "b", "c"]])
def test_an_export_needs_to_know_where_to(named: list[str]) -> None:
    assert runner.invoke(app, ["log", "export", *named]).exit_code == 2
