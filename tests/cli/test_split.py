"""`shokado split preview`, against a real server: it tells what a change then does."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from shokado.cli.app import app
from shokado.dialects.head import MAX_UNIT_CHARACTERS
from shokado.lifecycle.rollout import unit_moves
from tests.support import http
from tests.support.server import ROW, Server, serving

SPLIT = "/v1/traffic-split"
MOVED = re.compile(r"production: ([\d,]+) of ([\d,]+) units \(([\d.]+)%\) would get another version")


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    # Where a test of this folder has run before, the environment names that one's store.
    with serving(environment={"SHOKADO_WORKERS": "1", "BENTOML_HOME": str(models)}) as running:
        yield running


@pytest.fixture
def fifth(server: Server) -> int:
    """The generation in which v2 has a fifth of the units, by hash."""
    weights = {"weights": {"v1": 80, "v2": 20}, "strategy": "hash", "salt": "spring"}
    answer = http.post(server.url + SPLIT, json=weights, timeout=20)
    assert answer.status_code == 200
    generation: int = answer.json()["generation"]
    return generation


def run(server: Server, *words: str, **how: Any) -> tuple[int, str]:
    command = ["split", "preview", *words, "--url", server.url]
    done = CliRunner().invoke(app, command, env={"GATEWAY_KEY": ""}, **how)
    return done.exit_code, " ".join(done.output.split())


def file_of(folder: Path, units: list[str]) -> str:
    file = folder / "users.txt"
    file.write_text("\n".join(units), encoding="utf-8-sig")
    return str(file)


def versions_of(server: Server, units: list[str]) -> list[str]:
    with httpx.Client(base_url=server.url, timeout=20) as client:
        bodies = ({"instances": [ROW], "unit": unit} for unit in units)
        return [client.post("/v1/models/predict", json=body).json()["version"] for body in bodies]


def test_as_many_move_as_was_told(server: Server, fifth: int, tmp_path: Path) -> None:
    units = [f"Ünit {number}" for number in range(120)]
    code, said = run(server, "--weights", "v1=50,v2=50", "--units", file_of(tmp_path, units))
    assert code == 0, said
    found = MOVED.match(said)
    assert found is not None, said
    assert f"compared with generation {fifth}" in said
    assert re.search(r"version share now then v1 80.00% 50.00% v2 20.00% 50.00%", said)
    before = versions_of(server, units)
    changed = http.post(server.url + SPLIT, json={"v1": 50, "v2": 50}, timeout=20).json()
    server.wait_for_generation(changed["generation"], workers=1)
    after = versions_of(server, units)
    moved = [unit for unit, one, other in zip(units, before, after, strict=True) if one != other]
    assert (int(found[1]), int(found[2])) == (len(moved), len(units))
    assert f"v1 v2 {len(moved)}" in said
    assert f"{moved[0]}, " in said
    assert f"stay: {after.count('v1')} with v1, {before.count('v2')} with v2" in said


def test_a_long_file_is_asked_about_piece_by_piece(server: Server, fifth: int, tmp_path: Path) -> None:
    units = [f"user-{number}" for number in range(2 * unit_moves.UNITS_A_QUESTION + 7)]
    file = file_of(tmp_path, [*units, "", "  user-3  "])
    code, said = run(server, "--weights", "v1=0,v2=100", "--units", file, "--examples", "2")
    found = MOVED.match(said)
    assert (code, found is not None) == (0, True), said
    assert found is not None
    assert found[2] == f"{len(units):,}", "blank lines and repeated units do not count"
    assert 0.75 < int(found[1].replace(",", "")) / len(units) < 0.85
    assert re.search(r"user-\d+, user-\d+, \.\. ", said)
    code, same = run(server, "--weights", "v1=0,v2=100", "--units", "-", "--examples", "2", input="\n".join(units))
    assert (code, same) == (0, said)


def test_units_are_made_up_where_none_are_given(server: Server, fifth: int) -> None:
    code, said = run(server, "--weights", "v1=50,v2=50")
    assert code == 0, said
    assert re.match(r"production: \d+ of 1,000 made-up units", said)
    code, said = run(server, "--weights", "v1=80,v2=20", "--strategy", "random")
    assert (code, "A unit does not decide here" in said) == (0, True), said
    code, said = run(server, "--off", "--active", "v1")
    assert (code, "v2 v1" in said) == (0, True), said


def test_recent_requests_are_looked_at(server: Server, fifth: int) -> None:
    server.wait_for_generation(fifth, workers=1)
    versions_of(server, [f"guest-{number}" for number in range(60)])
    code, said = run(server, "--weights", "v1=50,v2=50", "--recent")
    assert code == 0, said
    assert re.match(r"production: [\d.]+% of the requests \([\d.]+% to [\d.]+%\) would have got another version", said)
    assert re.search(r"v1 v2 [\d.]+% \d+ version traffic now then", said)
    assert "units were looked at" in said
    code, said = run(server, "--salt", "autumn", "--recent")
    assert (code, "this is an example" in said) == (0, True), said
    code, said = run(server, "--weights", "v2=1", "--recent", "--environment", "staging")
    assert (code, said) == (0, "staging: nobody has asked in the last minutes")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "say what to change"),
        (("--weights", "v1"), "no weight such as v1=50"),
        (("--weights", "v1=-1"), "no weight such as v1=50"),
        (("--weights", "v1=1,v1=2"), "two weights"),
        (("--weights", "v1=nan"), "no weight such as v1=50"),
        (("--weights", "v1=1", "--recent", "--units", "users.txt"), "one of both"),
        (("--weights", "v1=1", "--strategy", "luck"), "luck"),
    ],
)
def test_what_makes_no_question_is_said_before_anybody_is_asked(words: tuple[str, ...], says: str) -> None:
    done = CliRunner().invoke(app, ["split", "preview", *words, "--url", "http://127.0.0.1:9"], env={"COLUMNS": "200"})
    assert (done.exit_code, says in done.output) == (2, True), done.output


def test_what_the_server_refuses_and_what_cannot_be_read_is_said(server: Server, fifth: int, tmp_path: Path) -> None:
    code, said = run(server, "--weights", "v9=1")
    assert (code, "v9" in said) == (1, True), said
    code, said = run(server, "--weights", "v1=1", "--units", str(tmp_path / "none.txt"))
    assert (code, "cannot be read: No such file" in said) == (1, True), said
    code, said = run(server, "--weights", "v1=1", "--units", file_of(tmp_path, [" ", ""]))
    assert (code, "has no units" in said) == (1, True), said
    assert unit_moves.MAX_UNIT_CHARACTERS == MAX_UNIT_CHARACTERS
    code, said = run(server, "--weights", "v1=1", "--units", file_of(tmp_path, ["a", "x" * 257]))
    assert (code, "line 2: a unit has at most 256 characters" in said) == (1, True), said
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\n")
    code, said = run(server, "--weights", "v1=1", "--units", str(tmp_path / "bytes.txt"))
    assert (code, "cannot be read" in said) == (1, True), said


def test_every_command_has_examples() -> None:
    done = CliRunner().invoke(app, ["split", "preview", "--help"])
    assert (done.exit_code, "shokado split preview --weights" in done.output) == (0, True)
