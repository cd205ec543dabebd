"""Segments in an object store: as they are here, and read there as here."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pandas as pd
import pytest

from configuration.log_settings import LogSettings
from shokado.request_log.last_rows import last_rows
from shokado.request_log.log_writer import LogWriter
from shokado.request_log.logged_rows import rows_in
from shokado.request_log.records import LoggedFeedback
from shokado.request_log.segments import segments_in
from shokado.request_log.shipper import ShipOrder, ShipReport
from shokado.request_log.sinks.object_store import ObjectStore, PackageMissing, check_address
from tests.request_log.records import encoded, request_of
from tests.request_log.sinks.s3_server import SECRET, S3Server, s3_server
from tests.support.cards import make_card

CARD = make_card()


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def log(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    writer = LogWriter(LogSettings(share=1), folder, "a", bytes(32))
    for number in range(3):
        request = request_of(CARD, [[number, 2]], [0.75], prediction_id=f"p-{number}", at=float(number))
        writer.write(encoded(request), {1: CARD})
        writer.write(encoded(LoggedFeedback(9.0, f"p-{number}", 0, "1", 0.5)), {})
        writer.end_segment()
    return folder


def put(log: Path, address: str) -> ObjectStore:
    sink = ObjectStore(address)
    for segment in segments_in(log):
        for step in sink.steps(segment):
            step()
    return sink


@pytest.fixture(params=["file", "memory"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"file://{tmp_path}/far/away" if request.param == "file" else f"memory://{tmp_path.name}"


def test_what_was_put_is_read_as_it_was(log: Path, address: str) -> None:
    assert ObjectStore(address).segments() == [], "an address where nothing is, is empty"
    sink = put(log, address)
    put(log, address)
    assert [(found.path.name, found.size_bytes) for found in sink.segments()] == [
        (segment.path.name, segment.size_bytes) for segment in segments_in(log)
    ]
    assert list(rows_in(ObjectStore(address))) == list(rows_in(log))
    for number in (1, 2, 9):
        assert last_rows(ObjectStore(address), number) == last_rows(log, number)


def ship(s3: S3Server, log: Path, bucket: str = "", timeout_s: float = 20.0) -> list[ShipReport]:
    """What the process that sends tells of it."""
    order = ShipOrder(str(log), f"s3://{bucket or s3.bucket}/{log.parent.name}", "toy", "default", timeout_s, 1024, 0.5)
    ended = s3.run("-m", "shokado.request_log.shipper", given=msgspec.json.encode(order))
    assert ended.returncode == 0, ended.stderr.decode()
    return [msgspec.json.decode(line, type=ShipReport) for line in ended.stdout.splitlines()]


@pytest.mark.slow
def test_a_bucket_gets_the_files_as_they_are_and_a_command_reads_them_there(
    s3: S3Server, log: Path, tmp_path: Path
) -> None:
    assert sum(report.segments for report in ship(s3, log)) == 3
    keys = s3.keys(tmp_path.name)
    assert keys == [f"{tmp_path.name}/{segment.path.name}" for segment in segments_in(log)]
    assert [s3.content(key) for key in keys] == [segment.path.read_bytes() for segment in segments_in(log)]
    address = f"s3://{s3.bucket}/{tmp_path.name}"
    done = s3.run("-m", "shokado", "log", "export", address, str(tmp_path / "table"))
    assert done.returncode == 0, done.stderr.decode()
    table = pd.read_parquet(tmp_path / "table")
    assert table["prediction_id"].tolist() == ["p-0", "p-1", "p-2"]
    assert table["label"].tolist() == ["1"] * 3, "labels are joined"
    assert table["reward"].tolist() == [0.5] * 3
    listed = s3.run("-m", "shokado", "log", "list", address).stdout.decode()
    assert sum(".segment" in line for line in listed.splitlines()) == 3
    assert b'"prediction_id":"p-2"' in s3.run("-m", "shokado", "log", "tail", address, "-n", "1").stdout


@pytest.mark.slow
def test_a_bucket_that_there_is_not_is_a_failure_that_tells_no_secret(s3: S3Server, log: Path) -> None:
    program = (
        "import sys; from pathlib import Path;"
        "from shokado.request_log.segments import segments_in;"
        "from shokado.request_log.sinks.object_store import ObjectStore;"
        "next(ObjectStore('s3://nowhere/log').steps(segments_in(Path(sys.argv[1]))[0]))()"
    )
    failed = s3.run("-c", program, str(log)).stderr.decode()
    assert "SinkFailure" in failed
    assert "bucket" in failed
    assert SECRET not in failed
    refused = s3.run("-m", "shokado", "log", "list", "s3://nowhere/log")
    assert (refused.returncode, SECRET in refused.stderr.decode()) in ((0, False), (1, False))


def test_a_segment_that_was_removed_meanwhile_is_no_failure(log: Path, address: str) -> None:
    (first, *_) = segments_in(log)
    first.path.unlink()
    (step,) = ObjectStore(address).steps(first)
    with pytest.raises(FileNotFoundError):
        step()


def test_what_a_folder_has_half_of_is_not_read(log: Path, tmp_path: Path) -> None:
    address = f"file://{tmp_path}/there"
    put(log, address)
    (first, *_) = segments_in(log)
    (tmp_path / "there" / f"9{first.path.name}.part").write_bytes(first.path.read_bytes()[:50])
    assert len(ObjectStore(address).segments()) == 3


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("az", "adlfs")])
def test_an_address_is_checked_without_its_package(scheme: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    for there in (True, False):
        monkeypatch.setattr(
            "importlib.util.find_spec", lambda name, there=there: (there or None) if name == package else found(name)
        )
        if there:
            check_address(f"{scheme}://bucket/folder")
        else:
            with pytest.raises(PackageMissing, match=f"{scheme}:// needs the package {package}, which is not"):
                check_address(f"{scheme}://bucket/folder")
    assert package not in sys.modules


def test_an_address_that_nobody_knows_is_refused() -> None:
    with pytest.raises(PackageMissing, match=r"x3:// is none of the addresses that fsspec knows"):
        check_address("x3://bucket/folder")
