"""A version can be given traffic when every worker that lives has it ready."""

import pytest

from shokado.dispatch.change import ConflictingChange
from shokado.dispatch.request import UnknownVersion
from shokado.dispatch.state import VersionReport
from shokado.stores.store import WorkerReport
from shokado.worker.readiness import joined


def found(**states: str) -> dict[str, VersionReport]:
    return {version: VersionReport("0" * 64, state, None, 0.0) for version, state in states.items()}


def worker(number: int, **states: str) -> WorkerReport:
    return WorkerReport(f"w{number}", "web-1", number, 1, 0.0, found(**states))


def test_ready_everywhere_is_ready() -> None:
    versions = joined(found(v1="ready"), [worker(1, v1="ready"), worker(2, v1="ready")], {"a": "v1"})
    assert versions.ready("a") == "v1"


def test_without_reports_this_worker_decides() -> None:
    versions = joined(found(v1="ready", v2="starting"), [], {})
    assert dict(versions.states) == {"v1": "ready", "v2": "starting"}


def test_the_first_worker_that_is_behind_is_named() -> None:
    reports = [worker(1, v1="ready"), worker(2, v1="draining"), worker(3, v1="failed")]
    versions = joined(found(v1="ready"), reports, {})
    with pytest.raises(ConflictingChange, match="v1 is draining in worker 2 on web-1"):
        versions.ready("v1")


def test_a_worker_that_starts_holds_nobody_up() -> None:
    """Or a rollback would wait whenever a machine joins, and for ever where one never gets up."""
    reports = [worker(1, v1="ready", v2="ready"), worker(2, v1="starting", v2="starting"), worker(3)]
    versions = joined(found(v1="ready", v2="ready"), reports, {})
    assert (versions.ready("v1"), versions.ready("v2")) == ("v1", "v2")


def test_a_worker_that_has_not_heard_of_a_version_is_behind() -> None:
    versions = joined(found(v3="ready"), [worker(1, v1="ready")], {})
    assert versions.states["v3"] == "unknown in worker 1 on web-1"


def test_what_a_version_is_counts_where_all_workers_have_the_same() -> None:
    def having(**digests: str) -> dict[str, VersionReport]:
        return {version: VersionReport(digest, "ready", None, 0.0) for version, digest in digests.items()}

    reports = [WorkerReport(f"w{at}", "web-1", at, 1, 0.0, having(v1="a", v2=of)) for at, of in enumerate("bcb")]
    versions = joined(having(v1="a", v2="b", v3="d"), reports, {})
    assert versions.artefacts == {"v1": "a", "v2": "", "v3": "d"}


def test_what_is_not_ready_here_is_told_as_it_is_here() -> None:
    assert joined(found(v1="failed"), [worker(2, v1="starting")], {}).states["v1"] == "failed"


def test_what_only_others_have_is_unknown() -> None:
    with pytest.raises(UnknownVersion):
        joined(found(v1="ready"), [worker(2, v9="ready")], {}).resolve("v9")
