"""The route of examples: rows of a version's card as requests have them, with what must be answered for them."""

from pathlib import Path

import pytest

from runners.artefacts.configured import elsewhere
from shokado.worker.versions.fleet import Fleet
from tests.control.site import Site, open_site, settings


def test_a_version_tells_rows_and_what_they_must_be_answered_with(site: Site) -> None:
    card = site.workers[0].parts.fleet.artefacts["v1"].card
    found = site.get("/v1/models/a/examples")
    first, last = card.examples.rows[0], card.examples.rows[-1]
    assert (found["version"], found["digest"]) == ("v1", site.get("/v1/models/v1")["digest"])
    assert found["rows"] == [dict(zip(card.feature_names, row, strict=True)) for row in (first, last)]
    assert found["predictions"] == [card.examples.scores[0], card.examples.scores[-1]]
    assert found["tolerance"] == [max(receipt.tolerance for receipt in card.verification.values())]


def test_no_scores_of_another_version_are_told(tmp_path: Path) -> None:
    placed = {"placement": "remote", "remote": {"url": "http://127.0.0.1:9"}}
    chosen = settings(versions={"v1": {}, "v2": placed, "v3": {}})
    with open_site(tmp_path, chosen) as site:
        fleet = site.join().parts.fleet
        assert isinstance(fleet, Fleet)
        fleet._slots["v2"].artefact = elsewhere("v2", chosen, fleet.artefacts["v1"].card)
        found = site.get("/v1/models/v2/examples")
        assert (len(found["rows"]), found["predictions"], found["tolerance"]) == (2, None, [0.0])


@pytest.mark.parametrize("name", ["v9", "paper"])
def test_what_there_is_not_is_refused(site: Site, name: str) -> None:
    assert site.ask("GET", f"/v1/models/{name}/examples").status_code == 404
