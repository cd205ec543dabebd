"""The route of drift: what it says of versions without a reference, and who may ask."""

import math
from pathlib import Path

import numpy as np
import pytest

from shokado.access.keys import Role
from shokado.control.http.authorization import role_for
from shokado.drift.column_counts import ColumnCounts
from shokado.drift.version_drift import DriftWindow
from shokado.stores.store import StoreUnavailable
from tests.control.site import Site, open_site, settings
from tests.drift.references import TYPED, typed_reference
from tests.monitoring.metrics.test_drifted_columns import told
from tests.support.cards import make_card


def test_a_version_without_a_reference_says_how_to_make_one(site: Site) -> None:
    site.run(site.workers[0].parts.drift.follow())  # type: ignore[union-attr]
    found = site.get("/v1/drift/a?window=day")
    assert (found["version"], found["window"], found["verdict"]) == ("v1", "day", "not watched")
    assert found["note"] == "it has no reference; one is made by: shokado models reference paper:v1 FILE"
    assert (found["features"], found["reference"], found["rows"]) == ({}, None, 0)


def test_where_it_is_off_nothing_is_counted(tmp_path: Path) -> None:
    with open_site(tmp_path, settings(drift={"enabled": False})) as site:
        worker = site.join()
        assert worker.parts.drift is None
        assert len(worker.worker.observers.batches) == 1
        assert site.get("/v1/drift/v1")["note"] == "drift.enabled is false"


@pytest.mark.parametrize(("query", "status"), [("v9", 404), ("v1?window=week", 422)])
def test_what_there_is_not_is_refused(site: Site, query: str, status: int) -> None:
    assert site.ask("GET", f"/v1/drift/{query}").status_code == status


def test_one_worker_of_the_machine_tells_the_metrics(site: Site) -> None:
    worker = site.workers[0].worker
    drift = worker.observing.drift
    assert drift is not None
    site.until(lambda: len(drift._watched) == 3)
    drift._watched["v1"] = ColumnCounts(make_card(**TYPED), typed_reference(np.random.default_rng(1)), "d", 100)
    for window in DriftWindow:
        site.run(worker.observing.tell_drift(window, worker._leads_here))
    found = told(worker.metrics.registry)
    for window in DriftWindow:
        assert (found["rows", "v1", window], found["columns", "v1", window, "too few rows"]) == (0, 3)
    site.break_store()
    with pytest.raises(StoreUnavailable):
        site.run(worker.observing.tell_drift(DriftWindow.HOUR, worker._leads_here))
    assert math.isnan(told(worker.metrics.registry)["rows", "v1", "hour"]), "yesterday's verdict is none"


def test_shares_of_all_clients_rows_are_for_admins() -> None:
    assert role_for("GET", "/v1/drift/{version}", open_metrics=True) is Role.ADMIN
    assert role_for("GET", "/v1/drift/v1", open_metrics=True) is Role.ADMIN
    assert role_for("GET", "/v1/metrics/v1", open_metrics=True) is Role.PREDICT
