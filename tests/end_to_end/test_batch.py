"""`shokado batch run` as it is typed, on Ray, in the environment that has it, beside a real server's answers."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

from tests.dialects.cases import NAMES
from tests.end_to_end.test_open_inference_clients import environment_of
from tests.request_log.sinks.s3_server import s3_server
from tests.support import http
from tests.support.server import ROOT, Server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PATIENCE_S = 600


def customers(rows: int, seed: int = 0) -> pd.DataFrame:
    """Rows of the default model, each with an id and a unit."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({name: random.integers(0, 100, rows).astype(float) for name in NAMES})
    frame["age"], frame["avg_transaction"] = random.integers(18, 80, rows), random.random(rows).round(3) * 200
    frame.insert(0, "id", np.arange(rows))
    frame["user"] = [f"user-{number}" for number in random.integers(0, rows, rows)]
    return frame


def command(source: Path | str, output: Path | str, *options: str) -> list[str]:
    python = str(environment_of("batch"))
    return [python, "-m", "shokado", "batch", "run", str(source), str(output), "--model", "customers", *options]


def surroundings(**variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **variables}


def run(source: Path | str, output: Path | str, *options: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(source, output, *options),
        env=surroundings(**variables), capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip


def ran(source: Path | str, output: Path | str, *options: str, **variables: str) -> str:
    ended = run(source, output, *options, "--cpus", "2", **variables)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def scored(output: Path) -> pd.DataFrame:
    """What a reader of the folder finds, as it comes."""
    return pd.read_parquet(output)


def rejected(output: Path) -> pd.DataFrame:
    return pd.read_parquet(output / "_rejected")


def answers(server: Server, rows: pd.DataFrame, **more: Any) -> list[dict[str, Any]]:
    """The server's answer to each row, in requests so small that the engine for small ones answers."""
    found: list[dict[str, Any]] = []
    for start in range(0, len(rows), 10):
        body = {"instances": rows[start : start + 10].to_dict("records"), **more}
        answer = http.post(f"{server.url}/v1/models/predict", json=body, timeout=60).json()
        pairs = zip(answer["predictions"], answer["classes"], strict=True)
        found += [{"score": score, "class": name, "version": answer["version"]} for score, name in pairs]
    return found


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of CSV and Parquet files, in folders that say a feature."""
    folder = tmp_path_factory.mktemp("input")
    frame = customers(3000)
    for region, part in frame.groupby(np.arange(3000) // 1000):
        below = folder / f"region={region}"
        below.mkdir()
        rows = part.drop(columns="region")
        rows[:600].to_csv(below / "a.csv", index=False)
        rows[600:].astype({"id": str}).to_parquet(below / "b.parquet", row_group_size=150)
    (folder / "_SUCCESS").touch()
    return folder


def test_numbers_are_those_of_a_server(server: Server, table: Path, tmp_path: Path) -> None:
    said = ran(
        table, tmp_path / "out", "--version", "v1", "--engine", "onnxruntime", "--keep", "id", "--block-rows", "250"
    )
    found = scored(tmp_path / "out").astype({"id": int}).sort_values("id", ignore_index=True)
    assert found["id"].tolist() == list(range(3000))
    rows = customers(3000).assign(region=np.arange(3000) // 1000)
    expected = answers(server, rows[list(NAMES)], version="v1")
    assert found["score"].tolist() == np.array([one["score"] for one in expected], np.float32).tolist()
    assert found["prediction"].tolist() == [one["class"] for one in expected]
    assert set(found["version"]) == {"v1"}
    assert "3,000 rows" in said
    summary = json.loads((tmp_path / "out" / "_shokado" / "summary.json").read_text())
    assert (summary["rows"], summary["scored"], summary["rejected"]) == (3000, {"v1": 3000}, {})
    assert summary["parts"] == len(list((tmp_path / "out").glob("part-*.parquet"))) > 12


def test_with_a_split_each_row_is_scored_by_the_version_that_its_unit_has_at_the_server(
    own_server: Server, tmp_path: Path
) -> None:
    url = f"{own_server.url}/v1/traffic-split"
    http.put(url, json={"weights": {"v1": 60, "v2": 40}, "strategy": "hash", "salt": "autumn"}, timeout=20)
    rows = customers(300, seed=1)
    rows.loc[7, "user"] = None
    rows.to_parquet(tmp_path / "rows.parquet", row_group_size=40)
    options = ["--split", "--unit", "user", "--url", own_server.url, "--engine", "onnxruntime", "--block-rows", "40"]
    ran(tmp_path / "rows.parquet", tmp_path / "out", *options)
    found = scored(tmp_path / "out").set_index("row")
    for row in [row for row in range(300) if row != 7]:
        record = rows.loc[row, list(NAMES)].to_dict()
        body = {"instances": [record], "unit": rows.loc[row, "user"]}
        answer = http.post(f"{own_server.url}/v1/models/predict", json=body, timeout=20).json()
        assert (answer["version"], answer["reason"]) == (found.loc[row, "version"], found.loc[row, "reason"])
        assert np.float32(answer["predictions"][0]) == found.loc[row, "score"]
    assert set(found["version"]) == {"v1", "v2"}
    assert rejected(tmp_path / "out")[["row", "code", "feature"]].to_dict("records") == [
        {"row": 7, "code": "missing_unit", "feature": "user"}
    ]
    # Who goes on asks no server: the plan has the split.
    for part in list((tmp_path / "out").glob("part-*.parquet"))[:3]:
        part.unlink()
    ran(tmp_path / "rows.parquet", tmp_path / "out", *options, "--url", "http://127.0.0.1:9")
    pd.testing.assert_frame_equal(scored(tmp_path / "out").set_index("row"), found)


def test_bad_rows_are_told_as_the_server_tells_them_and_hold_up_no_other(server: Server, tmp_path: Path) -> None:
    rows = customers(50).drop(columns=["id", "user"])
    lines = rows.to_csv(index=False).splitlines()
    bad = {3: "x", 10: "", 20: "inf", 30: "1e60"}
    for row, cell in bad.items():
        lines[row + 1] = ",".join([cell, *lines[row + 1].split(",")[1:]])
    lines[41] += ",7"
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    said = ran(tmp_path / "rows.csv", tmp_path / "out", "--version", "v2", "--block-rows", "20")
    found = rejected(tmp_path / "out").set_index("row")
    for row in bad:
        body = "\n".join([lines[0], lines[row + 1]])
        headers = {"Content-Type": "text/csv", "X-Model-Version": "v2"}
        answer = http.post(f"{server.url}/invocations", content=body.encode(), headers=headers, timeout=20).json()
        assert found.loc[row, "what"] == answer["message"].replace("row 0", f"row {row}"), answer
        assert found.loc[row, "feature"] == NAMES[0]
    assert found.loc[40, "code"] == "malformed"
    assert sorted([*scored(tmp_path / "out")["row"], *found.index]) == list(range(50))
    assert "rejected: malformed" in said
    ended = run(
        tmp_path / "rows.csv", tmp_path / "out", "--version", "v2", "--block-rows", "20", "--max-rejected", "0.05"
    )
    assert (ended.returncode, "5 of 50 rows have no score" in ended.stderr) == (1, True), "it says so again"


@contextlib.contextmanager
def started(*arguments: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """A run under way, whose processes are its own group; ended with all of them."""
    process = subprocess.Popen(
        command(*arguments),
        env=surroundings(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        family = [process.pid, *map_of(process)]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=60)


def map_of(process: "subprocess.Popen[bytes]") -> Sequence[int]:
    try:
        return [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def parts_in(output: Path) -> int:
    return len(list(output.glob("part-*.parquet")))


def has_parts(output: Path, least: int) -> bool:
    return parts_in(output) >= least


def each_once(output: Path, rows: int) -> pd.DataFrame:
    """What is there, each row of which is there once; no reader finds anything else."""
    found = scored(output)
    assert sorted(found["row"]) == list(range(rows))
    assert not list(output.glob(".*")), "no left overs"
    return found.sort_values("row", ignore_index=True)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_driver_that_is_killed_is_gone_on_with_and_no_row_is_there_twice(kind: str, tmp_path: Path) -> None:
    rows, source, output = 60_000, tmp_path / f"rows.{kind}", tmp_path / "out"
    frame = customers(rows)
    frame.to_csv(source, index=False) if kind == "csv" else frame.to_parquet(source, row_group_size=500)
    options = ("--version", "v2", "--block-rows", "500", "--cpus", "2")
    for least in (10, 40):
        with started(source, output, *options) as process:
            wait_until(partial(has_parts, output, least), PATIENCE_S)
            os.kill(process.pid, signal.SIGKILL)
            process.wait(timeout=60)
    assert parts_in(output) < 120, "it was killed on its way"
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("part-*.parquet")}
    (output / ".part-00000-000000000000.parquet-abcd.tmp").write_bytes(b"half")
    damaged = output / min(before)
    damaged.write_bytes(damaged.read_bytes()[:-50])
    said = ran(source, output, *options)
    assert "blocks are done" in said
    after = {path.name: path.stat().st_mtime_ns for path in output.glob("part-*.parquet")}
    same = [name for name in before if name != damaged.name]
    assert {name: after[name] for name in same} == {name: before[name] for name in same}, "what is done stays"
    found = each_once(output, rows)
    ran(source, tmp_path / "whole", *options)
    pd.testing.assert_frame_equal(found, each_once(tmp_path / "whole", rows))


def test_a_worker_that_is_killed_costs_no_row(tmp_path: Path) -> None:
    rows, output = 40_000, tmp_path / "out"
    customers(rows).to_csv(tmp_path / "rows.csv", index=False)
    with started(tmp_path / "rows.csv", output, "--version", "v1", "--block-rows", "400", "--cpus", "2") as process:
        killed = 0
        for least in (5, 30):
            wait_until(partial(has_parts, output, least), PATIENCE_S)
            for child in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if child.cmdline()[:1] == ["ray::_score"] and not killed > least:
                        child.kill()
                        killed += 1
        said, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, said.decode()
    assert killed
    each_once(output, rows)


def test_tables_and_scores_lie_in_an_object_store(models: Path, tmp_path: Path) -> None:
    customers(300).to_csv(tmp_path / "rows.csv", index=False)
    with s3_server(tmp_path) as s3:
        put = "import s3fs, sys; s3fs.S3FileSystem().put(sys.argv[1], 'requests/rows/day=1/rows.csv')"
        assert s3.run("-c", put, str(tmp_path / "rows.csv")).returncode == 0
        addresses, options = ("s3://requests/rows", "s3://requests/scored"), ("--version", "v1", "--block-rows", "100")
        ran(*addresses, *options, **s3.variables)
        parts = [key for key in s3.keys("scored") if "/part-" in key]
        assert len(parts) == 3
        drop = "import s3fs, sys; s3fs.S3FileSystem().rm(sys.argv[1])"
        assert s3.run("-c", drop, f"requests/{parts[1]}").returncode == 0
        assert "2 of 3 blocks are done" in ran(*addresses, *options, **s3.variables)
        get = "import s3fs, sys; s3fs.S3FileSystem().get('requests/scored', sys.argv[1], recursive=True)"
        assert s3.run("-c", get, str(tmp_path / "scored")).returncode == 0
    assert set(each_once(tmp_path / "scored", 300)["file"]) == {"day=1/rows.csv"}


def test_what_is_not_the_same_batch_is_refused_and_nothing_is_changed(models: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "rows.csv", tmp_path / "out"
    customers(40).to_csv(source, index=False)
    ran(source, output, "--version", "v1")
    before = scored(output)
    for options, why in [
        (("--version", "v2"), "v1 was to score, and is not now"),
        (("--version", "v1", "--keep", "id"), "--keep was"),
        (("--version", "v1", "--block-rows", "7"), "--block-rows was 100000"),
    ]:
        ended = run(source, output, *options)
        assert (ended.returncode, why in ended.stderr) == (1, True), ended.stderr
    source.write_text(source.read_text() + source.read_text().splitlines()[-1])
    ended = run(source, output, "--version", "v1")
    assert (ended.returncode, "file rows.csv has changed" in ended.stderr) == (1, True), ended.stderr
    pd.testing.assert_frame_equal(scored(output), before)
    (tmp_path / "other").mkdir()
    shutil.copy(source, tmp_path / "other")
    ended = run(source, tmp_path / "other", "--version", "v1")
    assert (ended.returncode, "has other files, such as rows.csv" in ended.stderr) == (1, True), ended.stderr
