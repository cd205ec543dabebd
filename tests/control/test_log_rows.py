"""`GET /v1/log`: the last rows over HTTP, and what of them is told."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configuration.log_settings import LogSettings
from shokado.request_log.log_writer import LogWriter
from tests.control.site import Site, open_site, settings
from tests.request_log.records import encoded, request_of
from tests.support.problems import code_of

SHARES = {"v1": 0.75, "v2": 0.25}


def write(site: Site, *ats: float) -> LogWriter:
    card = site.workers[0].cards["v2"]
    writer = LogWriter(site.settings.log, Path(site.settings.log.folder), "other", bytes(32))
    for at in ats:
        writer.write(encoded(request_of(card, [[1, 2], [3, 4]], [0.75, 0.25], at=at, shares=SHARES)), {1: card})
    return writer


@pytest.fixture(params=[False, True])
def logged(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    log = LogSettings(share=0.5, folder=str(tmp_path / "log"), drop=("count",), show_values=request.param)
    with open_site(tmp_path / "site", settings(log=log)) as site:
        site.join()
        yield site


def test_values_and_units_are_told_where_the_settings_say_so(logged: Site) -> None:
    write(logged, 1000.0, 2000.0)
    content = logged.get("/v1/log?limit=3")
    told = logged.settings.log.show_values
    assert (content["share"], content["values_told"], content["damaged"]) == (0.5, told, [])
    assert [(row["time"][:19], row["row"]) for row in content["rows"]] == [
        ("1970-01-01T00:33:20", 0), ("1970-01-01T00:33:20", 1), ("1970-01-01T00:16:40", 0),
    ]  # fmt: skip
    first: dict[str, Any] = content["rows"][0]
    assert first["feature_names"] == ["width", "count"]
    assert first["features"] == ({"width": 1.0, "count": None} if told else None)
    assert first["unit"] == ("user-7" if told else None)
    assert (first["version"], first["scores"], first["prediction"]) == ("v2", {"score": 0.75}, 1)
    assert (first["prediction_id"], first["reason"], first["generation"]) == ("p-1", "SPLIT", 3)
    assert first["propensity"] == 0.25


@pytest.mark.parametrize("logged", [False], indirect=True)
def test_what_cannot_be_read_is_told(logged: Site) -> None:
    writer = write(logged, 1000.0)
    writer.end_segment()
    (path,) = Path(logged.settings.log.folder).glob("*.segment")
    path.write_bytes(b"something else")
    content = logged.get("/v1/log")
    assert content["rows"] == []
    assert path.name in content["damaged"][0]


def test_where_nothing_is_recorded_there_are_no_rows(site: Site) -> None:
    content = site.get("/v1/log")
    assert (content["share"], content["rows"]) == (0, [])


@pytest.mark.parametrize("limit", ["0", "501", "x", "-1"])
def test_a_limit_that_there_is_not_is_refused(site: Site, limit: str) -> None:
    answer = site.ask("GET", f"/v1/log?limit={limit}")
    assert (answer.status_code, code_of(answer)) == (422, "invalid")
