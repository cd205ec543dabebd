"""Bringing versions out of a real registry: what they are called, what is not imported twice, what is refused."""

from pathlib import Path

import pytest

from runners.artefacts import repository
from shokado.lifecycle.errors import LifecycleError, SourceNotFound
from shokado.lifecycle.importing.version import Imported, ImportOrder, ImportOutcome, import_version
from shokado.lifecycle.serving.bringing import Brought, bring
from shokado.lifecycle.serving.order import ServeOrder


def brought(*addresses: str, model: str | None = None) -> list[Brought]:
    return bring(ServeOrder(addresses, model=model))


def tags(found: list[Brought]) -> list[str]:
    return [one.artefact.tag for one in found]


def test_what_is_there_is_found_without_the_registry(
    prepared: dict[str, Imported], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    found = brought("models:/iris/2", "models:/iris/1")
    assert tags(found) == ["iris:v2", "iris:v1"]
    assert {one.imported.outcome for one in found} == {ImportOutcome.ALREADY_THERE}
    assert capsys.readouterr().out == ""


def test_an_address_that_moves_is_served_as_what_it_means_now(prepared: dict[str, Imported]) -> None:
    found = brought("models:/iris@champion", "models:/iris/latest")
    assert [(one.artefact.tag, one.aliases) for one in found] == [("iris:v1", ("champion",)), ("iris:v2", ())]


def test_only_what_is_missing_is_imported(prepared: dict[str, Imported], own_store: Path) -> None:
    import_version(ImportOrder("models:/iris/1", "v1"))
    found = brought("models:/iris/1", "models:/iris@challenger")
    assert [one.imported.outcome for one in found] == [ImportOutcome.ALREADY_THERE, ImportOutcome.IMPORTED]
    assert tags(found) == ["iris:v1", "iris:v2"]


def test_a_label_that_has_another_source_gets_a_number(
    prepared: dict[str, Imported], own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_version(ImportOrder("models:/iris/1", "v2"))
    assert tags(brought("models:/iris/2")) == ["iris:v2-2"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert tags(brought("models:/iris/2")) == ["iris:v2-2"], "the same as before, and without the registry"


def test_a_run_is_called_by_the_beginning_of_its_id(prepared: dict[str, Imported], own_store: Path) -> None:
    run = prepared["iris:v2"].artefact.card.source.run_id
    assert tags(brought(f"runs:/{run}/model", model="flower")) == [f"flower:run-{run[:8]}"]


def test_no_rows_are_kept_where_none_may_be(prepared: dict[str, Imported], own_store: Path) -> None:
    (found,) = bring(ServeOrder(("models:/iris/2",), keep_rows=False))
    assert (found.artefact.card.reference is not None, found.artefact.card.background) == (True, None)


def test_rows_that_were_kept_before_are_not_served_silently(prepared: dict[str, Imported]) -> None:
    assert prepared["iris:v2"].artefact.card.background is not None
    for address in ("models:/iris@challenger", "iris:v2"):
        with pytest.raises(LifecycleError, match="iris:v2 was imported before, and keeps rows") as refused:
            bring(ServeOrder((address,), keep_rows=False))
        source = {"iris:v2": "models:/iris/2"}.get(address, address)
        command = f"shokado models import {source} --name iris --as v2 --no-rows --replace"
        assert refused.value.next_command == command


@pytest.mark.parametrize("second", ["models:/iris/1", "models:/iris@challenger"])
def test_two_addresses_of_one_version_are_refused(second: str, prepared: dict[str, Imported]) -> None:
    first = {"models:/iris/1": "models:/iris@champion", "models:/iris@challenger": "models:/iris"}[second]
    with pytest.raises(LifecycleError, match=f"{first} and {second} are both models:/iris/. now: name each"):
        brought(first, second)


def test_nothing_is_imported_where_an_address_means_nothing(prepared: dict[str, Imported], own_store: Path) -> None:
    with pytest.raises(SourceNotFound, match="has no models:/iris/77"):
        brought("models:/iris/2", "models:/iris/77")
    assert repository.artefacts() == []


def test_versions_that_differ_in_what_they_take_are_refused(prepared: dict[str, Imported]) -> None:
    with pytest.raises(LifecycleError, match="cannot serve side by side"):
        brought("models:/iris/2", "models:/customers/2", model="toy")


def test_a_registry_that_is_away_is_said(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(SourceNotFound, match="does not answer"):
        brought("models:/iris/2")
