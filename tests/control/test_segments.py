"""Figures by segment over HTTP: who may ask by what, and what feedback may say."""

from collections.abc import Iterator
from typing import Any

import pytest

from shokado.access.keys import Role
from shokado.control.http.authorization import role_for
from tests.control.site import Site, open_site, settings
from tests.support.problems import code_of, message_of
from tests.transports.predictions import prediction

SEGMENTS = {"width": {"cuts": [1]}, "count": {}, "sex": {"levels": ["f", "m"]}}


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A worker that tells figures apart by features of the rows, and by one that comes with feedback."""
    chosen = settings(segments={"features": SEGMENTS})
    with open_site(tmp_path_factory.mktemp("segmented"), chosen) as site:
        site.join()
        yield site


def made(site: Site, *scores: float, version: str = "v1") -> str:
    worker = site.workers[0]
    answered = prediction(worker.cards[version], list(scores), version)
    answered.rows = worker.cards[version].row_format.pack([[float(at), 1.0] for at in range(len(scores))])
    return worker.ids.make(answered)


def levels(site: Site, by: str, version: str = "v1") -> Any:
    return {one["level"]: one for one in site.get(f"/v1/metrics/{version}?by={by}")["segments"]["levels"]}


def test_feedback_counts_for_the_levels_of_its_row_once(segmented: Site) -> None:
    one = made(segmented, 0.9, 0.1, 0.9)
    entries = [
        {"prediction_id": one, "index": index, "label": 1, "segments": {"sex": sex}}
        for index, sex in enumerate(("f", None, "f"))
    ]
    assert segmented.post("/v1/feedback", entries).json()["accepted"] == 3
    assert segmented.post("/v1/feedback", entries).json()["duplicate"] == 3
    found = levels(segmented, "width")
    assert {level: (of["labels"], of["rates"]["accuracy"]["value"]) for level, of in found.items()} == {
        "below 1": (1, 1.0),
        "1 and above": (2, 0.5),
    }
    assert {level: of["labels"] for level, of in levels(segmented, "sex").items()} == {"(missing)": 1, "f": 2}
    told = segmented.get("/v1/metrics/v1?by=width&limit=0.2")["segments"]
    assert (told["by"], told["limit"], told["error_rate"], told["intervals"]) == ("width", 0.2, 0.05, 24)
    assert told["spreads"]["demographic_parity"]["verdict"] == "UNKNOWN"
    assert levels(segmented, "width", "v2") == {}
    assert segmented.get("/v1/metrics/v2?by=width")["segments"]["unseen"] == ["below 1", "1 and above"]


def test_without_by_there_are_no_segments(segmented: Site) -> None:
    assert segmented.get("/v1/metrics/v1")["segments"] is None


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ("height", "'height': segments.features has width, count, sex; name it there"),
        ("count", "version v1 has no levels of 'count': in segments.features, a number needs cuts or levels"),
        ("", "'': segments.features"),
    ],
)
def test_other_features_are_refused(segmented: Site, by: str, words: str) -> None:
    refused = segmented.ask("GET", f"/v1/metrics/v1?by={by}")
    assert (refused.status_code, code_of(refused)) == (422, "unknown_segment")
    assert words in message_of(refused)


def test_where_none_are_set_up_it_is_said(site: Site) -> None:
    refused = site.ask("GET", "/v1/metrics/v1?by=width")
    assert (refused.status_code, code_of(refused)) == (422, "unknown_segment")
    assert "segments.features is empty" in message_of(refused)


@pytest.mark.parametrize("query", [b"by=width", b"limit=0.1&by=width", b"b%79=width", b"by=", b"by", b"by=a&by=b"])
def test_figures_of_a_level_are_for_admins(query: bytes) -> None:
    assert role_for("GET", "/v1/metrics/v1", open_metrics=True, query=query) is Role.ADMIN


@pytest.mark.parametrize("query", [b"", b"window_s=5", b"window_s=by", b"BY=width"])
def test_others_are_for_whoever_predicts(query: bytes) -> None:
    assert role_for("GET", "/v1/metrics/v1", open_metrics=True, query=query) is Role.PREDICT


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "inf", "x"])
def test_a_limit_is_a_number_above_0(segmented: Site, limit: str) -> None:
    assert segmented.ask("GET", f"/v1/metrics/v1?by=width&limit={limit}").status_code == 422


@pytest.mark.parametrize("segments", [{"sex": ["f"]}, {"sex": {"a": 1}}, ["sex"], "sex", {"age": 3}, {"width": 3}])
def test_segments_that_cannot_be_counted_reject_the_entry(segmented: Site, segments: Any) -> None:
    entry = {"prediction_id": made(segmented, 0.5), "label": 1, "segments": segments}
    refused = segmented.post("/v1/feedback", entry)
    assert (refused.status_code, code_of(refused)) == (422, "feedback_invalid")
