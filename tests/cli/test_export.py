"""`shokado models export` and `restore`: what was verified lies elsewhere and comes back the same."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runners.artefacts import repository
from shokado.cli.app import app
from tests.request_log.sinks.s3_server import S3Server, s3_server
from tests.support.server import ROOT
from tests.support.waiting import wait_until

EXPORTED = ["background.json", "card.json", "model.onnx", "model.ubj", "reference.json"]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3"), "models") as running:
        yield running


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["models", *words])
    return done.exit_code, " ".join(done.output.split())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name in EXPORTED}


def test_versions_are_exported_and_come_back_the_same(home: Path, tmp_path: Path) -> None:
    target, stored = tmp_path / "far" / "away", home / "models" / "customers"
    code, said = run("export", "customers:v1", "customers:v2", "--to", str(target))
    assert code == 0, said
    assert f"customers:v1 exported {target}/customers/v1" in said
    for version in ("v1", "v2"):
        folder = target / "customers" / version
        assert contents(folder) == contents(stored / version)
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    assert run("export", "customers:v1", "--to", str(target))[1].endswith(
        f"customers:v1 already exported {target}/customers/v1"
    )

    before = contents(stored / "v1")
    shutil.rmtree(stored / "v1")
    code, said = run("restore", f"{target}/customers/v1")
    assert (code, "customers:v1 restored from " in said) == (0, True), said
    assert contents(stored / "v1") == before
    assert repository.look_up("customers", "v1") is not None
    assert repository.find_artefact("v1", "customers:v1").digest
    code, said = run("restore", f"{target}/customers/v1")
    assert (code, "customers:v1 already there" in said) == (0, True), said


def test_without_names_what_is_configured_is_exported(home: Path, tmp_path: Path) -> None:
    code, said = run("export", "--to", f"file://{tmp_path}/all")
    assert code == 0, said
    assert sorted(path.name for path in (tmp_path / "all" / "customers").iterdir()) == ["v1", "v2"]


@pytest.mark.slow
def test_an_address_of_the_registry_is_imported_and_exported(home: Path, tmp_path: Path) -> None:
    code, said = run("export", "models:/customers/1", "--as", "v7", "--to", str(tmp_path / "out"))
    assert code == 0, said
    assert "customers:v7 exported" in said
    assert (tmp_path / "out" / "customers" / "v7" / "SHA256SUMS").exists()


def test_another_artefact_is_not_overwritten(home: Path, tmp_path: Path) -> None:
    stored, target = home / "models" / "customers", tmp_path / "out"
    assert run("export", "customers:v1", "--to", str(target))[0] == 0
    shutil.rmtree(target / "customers" / "v1")
    shutil.copytree(stored / "v1", target / "customers" / "v1")
    other = target / "customers" / "v1"
    (other / "SHA256SUMS").write_text(f"{hashlib.sha256(b'other').hexdigest()}  card.json\n")
    code, said = run("export", "customers:v1", "--to", str(target))
    assert (code, "has another artefact: name another target, or add --replace" in said) == (1, True), said
    code, said = run("export", "customers:v1", "--to", str(target), "--replace")
    assert (code, "customers:v1 replaced" in said) == (0, True), said
    assert contents(other) == contents(stored / "v1")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda folder: (folder / "SHA256SUMS").unlink(), "has no whole artefact: there is no SHA256SUMS"),
        (lambda folder: (folder / "model.onnx").write_bytes(b"x"), "model.onnx is damaged: its SHA-256 is"),
        (lambda folder: (folder / "model.ubj").unlink(), "cannot be used: FileNotFoundError"),
        (lambda folder: (folder / "SHA256SUMS").write_text("x"), "SHA256SUMS is no list of digests"),
        (lambda folder: with_file(folder, "evil.pkl"), "has files that no artefact has: evil.pkl"),
        (lambda folder: without_line(folder, "model.ubj"), "is no artefact that could be served"),
    ],
)
def test_what_is_not_whole_is_not_restored(harm: object, told: str, home: Path, tmp_path: Path) -> None:
    assert run("export", "customers:v1", "--to", str(tmp_path / "out"))[0] == 0
    folder = tmp_path / "out" / "customers" / "v1"
    harm(folder)  # type: ignore[operator]
    shutil.rmtree(home / "models" / "customers" / "v1")
    code, said = run("restore", str(folder))
    assert (code, told in said) == (1, True), said
    assert not (home / "models" / "customers" / "v1").exists()


def with_file(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"x")
    with (folder / "SHA256SUMS").open("a") as sums:
        sums.write(f"{hashlib.sha256(b'x').hexdigest()}  {name}\n")


def without_line(folder: Path, name: str) -> None:
    (folder / name).unlink()
    lines = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    (folder / "SHA256SUMS").write_text("".join(line for line in lines if name not in line))


def test_a_damaged_version_is_not_exported(home: Path, tmp_path: Path) -> None:
    (home / "models" / "customers" / "v1" / "model.onnx").write_bytes(b"x")
    code, said = run("export", "customers:v2", "customers:v1", "--to", str(tmp_path / "out"))
    assert (code, "customers:v1 cannot be served" in said) == (1, True), said
    assert not (tmp_path / "out").exists(), "neither is the other one"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("export", "customers:v9"), "The store has no customers:v9. next: shokado models list"),
        (("export", "customers:v1", "--to", "s3x://a/b"), "s3x:// is none of the addresses that fsspec knows"),
        (("export", "customers:v1", "--to", "/proc/nothing"), "/proc/nothing/customers/v1 cannot be used"),
        (("restore", "/nowhere"), "/nowhere has no whole artefact"),
    ],
)
def test_what_cannot_be_is_said(words: tuple[str, ...], told: str, home: Path) -> None:
    code, said = run(*words)
    assert (code, told in said) == (1, True), said


@pytest.mark.slow
def test_a_bucket_holds_what_was_exported(home: Path, s3: S3Server, tmp_path: Path) -> None:
    done = s3.run("-m", "shokado", "models", "export", "customers:v2", "--to", "s3://models/exports")
    assert done.returncode == 0, done.stderr.decode()
    before = contents(home / "models" / "customers" / "v2")
    folder = "exports/customers/v2"
    assert s3.keys("exports") == sorted(f"{folder}/{name}" for name in [*before, "SHA256SUMS"])
    assert {name: s3.content(f"{folder}/{name}") for name in before} == before
    shutil.rmtree(home / "models" / "customers" / "v2")
    done = s3.run("-m", "shokado", "models", "restore", "s3://models/exports/customers/v2")
    assert done.returncode == 0, done.stderr.decode()
    assert contents(home / "models" / "customers" / "v2") == before
    lost = s3.run("-m", "shokado", "models", "export", "customers:v2", "--to", "s3://nowhere/exports")
    assert lost.returncode == 1
    assert b"s3://nowhere/exports/customers/v2 cannot be used" in lost.stderr


@pytest.mark.slow
def test_whoever_is_killed_leaves_nothing_that_is_taken(home: Path, tmp_path: Path) -> None:
    """It is killed when its first file is there, and the next export makes it whole."""
    target = tmp_path / "out"
    folder = target / "customers" / "v1"
    command = [sys.executable, "-m", "shokado", "models", "export", "customers:v1", "--to", str(target)]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    wait_until(lambda: (folder / "card.json").exists() or process.poll() is not None, 60, look_every_s=0.0005)
    process.send_signal(signal.SIGKILL)
    process.wait(20)
    if not (folder / "SHA256SUMS").exists():
        assert run("restore", str(folder))[0] == 1
    code, said = run("export", "customers:v1", "--to", str(target))
    assert code == 0, said
    assert contents(folder) == contents(home / "models" / "customers" / "v1")
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
