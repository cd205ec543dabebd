"""Jobs of batches, of which a small program stands for Ray: what is known of each, whoever asks and whatever dies."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configuration.batch_settings import BatchSettings
from shokado.batches.batch_jobs import DIED, AskedBatch, BatchJob, BatchJobs, CannotStart, TooManyBatches
from shokado.batches.batch_report import BatchReport, BatchState, write_report
from tests.support.server import ROOT
from tests.support.waiting import wait_until

PROGRAM = f'''#!{sys.executable}
"""Says what it was given, then waits for the file `go`, and ends as that says."""
import json, os, pathlib, sys, time
sys.path.insert(0, {str(ROOT)!r})
from shokado.batches.batch_report import BatchReport, BatchState, write_report
report = pathlib.Path(next(a for a in sys.argv if a.startswith("--report=")).removeprefix("--report="))
(report.parent / "given.json").write_text(json.dumps([sys.argv[1:], dict(os.environ), os.getpriority(0, 0)]))
write_report(report, BatchReport(BatchState.RUNNING, 10, 4, {{"v1": 3}}, {{"not_a_number": 1}}, 2.5))
go = report.parent / "go"
while not go.exists():
    time.sleep(0.02)
state = BatchState(go.read_text())
error = "alas" if state == "failed" else None
write_report(report, BatchReport(state, 10, 10, {{"v1": 9}}, {{"not_a_number": 1}}, 2.5, error))
'''


def order(at: float = 0.0, **changes: object) -> AskedBatch:
    content: dict[str, Any] = {
        "model": "m", "input": "/in", "output": "/out", "version": "v1", "environment": None, "unit": None,
        "keep": [], "by": "me", "at": at or time.time(),
    }  # fmt: skip
    return AskedBatch(**{**content, **changes})


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[BatchJobs]:
    program = tmp_path / "scores"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    settings = BatchSettings(input=("/in",), output=("/out",), command=("scores",), max_running=2, kept=4, cpus=3)
    made = BatchJobs(settings, tmp_path / "batches", tmp_path)
    yield made
    for job in made.all():
        made.cancel(job.id)


def folder(jobs: BatchJobs, job: BatchJob) -> Path:
    return jobs._folder / job.id


def state(jobs: BatchJobs, job: BatchJob) -> BatchState:
    found = jobs.find(job.id)
    assert found is not None
    return found.report.state


def reaches(jobs: BatchJobs, job: BatchJob, wanted: BatchState) -> None:
    wait_until(lambda: state(jobs, job) is wanted, 60)


def test_a_job_is_what_its_process_says(jobs: BatchJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOKADO_STORE", "redis://:secret@host")
    job = jobs.start(order(keep=["--id", "b"]), None)
    assert job.report.state in (BatchState.PLANNING, BatchState.RUNNING)
    reaches(jobs, job, BatchState.RUNNING)
    found = jobs.find(job.id)
    assert found is not None
    assert (found.report.rows, found.report.done, found.report.rows_per_s) == (10, 4, 2.5)
    given, environment, niceness = json.loads((folder(jobs, job) / "given.json").read_text())
    assert given == [
        "batch", "run", "--model=m", "--cpus=3", f"--report={folder(jobs, job) / 'report.json'}", "--version=v1",
        "--keep=--id", "--keep=b", "--", "/in", "/out",
    ]  # fmt: skip
    assert not [name for name in environment if name.startswith("SHOKADO_")]
    assert niceness >= 0
    (folder(jobs, job) / "go").write_text("succeeded")
    reaches(jobs, job, BatchState.SUCCEEDED)
    assert [one.id for one in jobs.all()] == [job.id]


def test_a_split_is_handed_over_as_it_was_told(jobs: BatchJobs) -> None:
    job = jobs.start(order(version=None, unit="user"), b'{"weights": {}}')
    reaches(jobs, job, BatchState.RUNNING)
    given, _, _ = json.loads((folder(jobs, job) / "given.json").read_text())
    assert {"--split", f"--split-file={folder(jobs, job) / 'split.json'}", "--unit=user"} <= set(given)
    assert (folder(jobs, job) / "split.json").read_bytes() == b'{"weights": {}}'


def test_a_failure_is_told_in_its_words(jobs: BatchJobs) -> None:
    job = jobs.start(order(), None)
    (folder(jobs, job) / "go").write_text("failed")
    reaches(jobs, job, BatchState.FAILED)
    found = jobs.find(job.id)
    assert found is not None
    assert found.report.error == "alas"


def test_a_process_that_is_killed_has_failed_and_whoever_asks_knows(jobs: BatchJobs, tmp_path: Path) -> None:
    job = jobs.start(order(), None)
    reaches(jobs, job, BatchState.RUNNING)
    os.kill(int((folder(jobs, job) / "process").read_text()), signal.SIGKILL)
    another = BatchJobs(jobs._settings, jobs._folder, tmp_path)
    reaches(another, job, BatchState.FAILED)
    found = another.find(job.id)
    assert found is not None
    assert (found.report.error, found.report.done) == (DIED, 4)


def test_one_that_is_cancelled_ends_with_all_that_it_started(jobs: BatchJobs) -> None:
    job = jobs.start(order(), None)
    reaches(jobs, job, BatchState.RUNNING)
    jobs.cancel(job.id)
    assert state(jobs, job) is BatchState.CANCELLED
    jobs.cancel(job.id)
    again = jobs.start(order(), None)
    (folder(jobs, again) / "go").write_text("succeeded")
    reaches(jobs, again, BatchState.SUCCEEDED)
    jobs.cancel(again.id)
    assert state(jobs, again) is BatchState.SUCCEEDED, "what is over stays as it is"


def test_it_goes_on_when_who_started_it_is_killed(jobs: BatchJobs, tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from configuration.batch_settings import BatchSettings\n"
        "from tests.batches.test_batch_jobs import BatchJobs, order\n"
        f"settings = BatchSettings(input=('/in',), output=('/out',), command=('scores',))\n"
        f"jobs = BatchJobs(settings, Path({str(jobs._folder)!r}), Path({str(tmp_path)!r}))\n"
        "print(jobs.start(order(), None).id, flush=True)\n"
        "time.sleep(600)"
    )
    starter = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    found = jobs.find(starter.stdout.readline().strip())
    starter.kill()
    starter.wait(timeout=20)
    assert found is not None
    reaches(jobs, found, BatchState.RUNNING)
    (folder(jobs, found) / "go").write_text("succeeded")
    reaches(jobs, found, BatchState.SUCCEEDED)


def test_no_more_run_than_may_and_the_oldest_are_forgotten(jobs: BatchJobs) -> None:
    first, second = jobs.start(order(1), None), jobs.start(order(2), None)
    with pytest.raises(TooManyBatches):
        jobs.start(order(3), None)
    (folder(jobs, second) / "go").write_text("succeeded")
    reaches(jobs, second, BatchState.SUCCEEDED)
    for at in (3, 4, 5):
        job = jobs.start(order(at), None)
        (folder(jobs, job) / "go").write_text("succeeded")
        reaches(jobs, job, BatchState.SUCCEEDED)
    assert [one.order.at for one in jobs.all()] == [5, 4, 3, 1], "one that runs is not forgotten"
    assert state(jobs, first) is BatchState.RUNNING


def test_what_cannot_be_started_leaves_nothing(jobs: BatchJobs, tmp_path: Path) -> None:
    (tmp_path / "scores").chmod(0o644)
    with pytest.raises(CannotStart, match="make batch"):
        jobs.start(order(), None)
    (tmp_path / "scores").write_text("#!/nowhere\n")
    (tmp_path / "scores").chmod(0o755)
    with pytest.raises(CannotStart, match="cannot be started"):
        jobs.start(order(), None)
    assert jobs.all() == []


@pytest.mark.parametrize("name", ["..", "../../etc", "", "lock", "1234567890123-abcdef01"])
def test_an_id_is_no_path(jobs: BatchJobs, name: str) -> None:
    assert jobs.find(name) is None


def test_a_report_of_another_release_is_none(jobs: BatchJobs) -> None:
    job = jobs.start(order(), None)
    reaches(jobs, job, BatchState.RUNNING)
    (folder(jobs, job) / "report.json").write_text('{"state": "dancing"}')
    assert state(jobs, job) is BatchState.PLANNING
    write_report(folder(jobs, job) / "report.json", BatchReport(BatchState.RUNNING))
    assert state(jobs, job) is BatchState.RUNNING
