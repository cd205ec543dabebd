"""Artefacts: all configured versions are found in the store, or one line says what is wrong and what to run."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configuration.settings import Settings
from runners.artefacts import configured
from runners.artefacts.artefact import Artefact, ArtefactError, ArtefactMissing, check_alike, check_files
from runners.artefacts.card import Card, Task, write_card
from runners.artefacts.configured import find_artefacts
from runners.artefacts.repository import find_artefact
from runners.inputs.schema import Feature
from tests.conftest import HOME
from tests.support.cards import make_card

OWN = f"own-{os.getpid()}"
MARGIN_AND_NOT = (Task.BINARY, Task.BINARY_MARGIN)


def settings(*tags: str | None) -> Settings:
    """Settings that serve one version of `customers` per BentoML tag, called v1, v2, .."""
    versions = {f"v{number}": {"tag": tag} for number, tag in enumerate(tags, start=1)}
    environments: dict[str, Any] = {"production": {"active": "v1", "weights": {"v1": 1}}}
    return Settings.model_validate({"model": "customers", "versions": versions, "environments": environments})


@pytest.fixture
def stored(trees: Artefact) -> Iterator[Artefact]:
    """A copy of `customers:v1` in the store under a name of its own, for tests that change its card."""
    folder = HOME / "models" / OWN / "v1"
    shutil.copytree(trees.folder, folder)
    description = folder / "model.yaml"
    description.write_text(description.read_text().replace("name: customers", f"name: {OWN}"))
    yield Artefact("v1", f"{OWN}:v1", folder, trees.card)
    shutil.rmtree(folder.parent)


def refusal(*tags: str) -> str:
    with pytest.raises(ArtefactError) as refused:
        find_artefacts(settings(*tags))
    return str(refused.value)


def test_every_configured_version_is_found(trees: Artefact) -> None:
    found = find_artefacts(settings(None, None))
    assert list(found) == ["v1", "v2"]
    assert found["v1"] == Artefact("v1", "customers:v1", trees.folder, trees.card)
    assert found["v2"].tag == "customers:v2"
    assert found["v2"].card.version == "v2"


def test_two_versions_may_share_an_artefact(trees: Artefact) -> None:
    found = find_artefacts(settings("customers:v1", "customers:v1"))
    assert {artefact.folder for artefact in found.values()} == {trees.folder}


def test_a_missing_model_is_one_line_that_says_what_to_run(trees: Artefact) -> None:
    said = refusal("customers:v1", "customers:v99")
    assert "customers:v99" in said
    assert "make models" in said
    assert "\n" not in said


def test_in_an_image_the_advice_helps_there(trees: Artefact, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(configured, "_MAKEFILE", tmp_path / "Makefile")
    said = refusal("customers:v1", "customers:v99")
    assert "make models" not in said
    assert "customers:v1" in said.partition("; ")[2]
    assert said.endswith("are in this bento; build one that holds it, in a checkout, with: make image")


def test_a_missing_card_is_one_line_that_says_which_and_what_to_run(stored: Artefact) -> None:
    (stored.folder / "card.json").unlink()
    said = refusal(stored.tag)
    assert str(stored.folder / "card.json") in said
    assert "make models" in said
    assert "\n" not in said


def test_a_card_of_an_unknown_format_is_one_line(stored: Artefact) -> None:
    (stored.folder / "card.json").write_text('{"format": 99}')
    said = refusal(stored.tag)
    assert str(stored.folder / "card.json") in said
    assert "\n" not in said


def other_features(card: Card) -> dict[str, Any]:
    return {"features": tuple(Feature(name=f"another {feature.name}") for feature in card.features)}


def renamed_class(card: Card) -> dict[str, Any]:
    return {"classes": ("no", "yes")}


@pytest.mark.parametrize(
    ("change", "what"),
    [(other_features, "they have no feature in common"), (renamed_class, "their classes differ")],
)
def test_versions_that_differ_in_what_goes_in_or_out_are_refused(change: Any, what: str, stored: Artefact) -> None:
    write_card(stored.card.model_copy(update=change(stored.card)), stored.folder)
    said = refusal("customers:v1", stored.tag)
    assert f"{stored.tag} and customers:v1 cannot serve side by side: {what}" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("card", "what"),
    [
        (make_card(Task.MULTIOUTPUT, outputs=["speed", "price"]), "outputs"),
        (make_card(Task.REGRESSION), "task"),
    ],
)
def test_versions_that_call_their_values_otherwise_are_refused(card: Card, what: str) -> None:
    several = Artefact("v1", "paper:v1", Path(), make_card(Task.MULTIOUTPUT))
    check_alike([several, several])
    with pytest.raises(ArtefactError, match=f"cannot serve side by side: their {what} differ"):
        check_alike([several, Artefact("v2", "paper:v2", Path(), card)])


def test_a_margin_is_no_version_of_a_probability() -> None:
    classes = make_card(Task.BINARY_MARGIN).classes
    pair = [Artefact("v1", "paper:v1", Path(), make_card(task, classes=classes)) for task in MARGIN_AND_NOT]
    with pytest.raises(ArtefactError, match="their task differ"):
        check_alike(pair)


def test_versions_may_describe_their_features_differently(stored: Artefact) -> None:
    features = tuple(feature.model_copy(update={"description": "new words"}) for feature in stored.card.features)
    write_card(stored.card.model_copy(update={"features": features}), stored.folder)
    assert set(find_artefacts(settings("customers:v1", stored.tag))) == {"v1", "v2"}


def test_the_beginning_of_a_version_is_not_the_version(stored: Artefact) -> None:
    """BentoML itself takes it for the version where only one begins so."""
    beginning = stored.tag.removesuffix("1")
    assert f"no model {beginning!r} in the BentoML model store" in refusal(beginning)
    with pytest.raises(ArtefactMissing):
        find_artefact("v1", beginning)


def test_an_import_under_another_label_has_the_same_digest(stored: Artefact, trees: Artefact) -> None:
    receipts = {kind: receipt.model_copy(update={"rows": 1}) for kind, receipt in trees.card.verification.items()}
    examples = trees.card.examples.model_copy(update={"scores": trees.card.examples.scores[::-1]})
    changes = {"version": "v7", "verification": receipts, "examples": examples, "metrics": {"auc": 1.0}}
    write_card(trees.card.model_copy(update=changes), stored.folder)
    assert find_artefact("v7", stored.tag).digest == trees.digest


def other_file(card: Card) -> dict[str, Any]:
    return {"files": {kind: file.model_copy(update={"sha256": "0" * 64}) for kind, file in card.files.items()}}


def other_source(card: Card) -> dict[str, Any]:
    return {"source": card.source.model_copy(update={"uri": "models:/customers/9"})}


def other_rule(card: Card) -> dict[str, Any]:
    return {"positive_from": 0.5}


@pytest.mark.parametrize("change", [other_features, renamed_class, other_file, other_source, other_rule])
def test_another_artefact_has_another_digest(change: Any, stored: Artefact, trees: Artefact) -> None:
    write_card(trees.card.model_copy(update=change(trees.card)), stored.folder)
    assert find_artefact("v1", stored.tag).digest != trees.digest


def test_files_are_those_that_the_card_describes(stored: Artefact) -> None:
    check_files(stored)
    path = stored.folder / "model.ubj"
    content = path.read_bytes()
    for damaged in (content[:-1], content[:-1] + bytes([content[-1] ^ 1]), b""):
        path.write_bytes(damaged)
        with pytest.raises(ArtefactError, match=r"model\.ubj: not the file that its card describes"):
            check_files(stored)
    path.unlink()
    with pytest.raises(ArtefactError, match=r"model\.ubj: No such file"):
        check_files(stored)


def with_remote(*, url: str = "http://other:3000", tag: str = "customers:none", v1: str | None = None) -> Settings:
    """v2 is in another server, whose artefact this machine need not have."""
    chosen = settings(v1, tag).model_dump()
    chosen["versions"]["v2"] |= {"placement": "remote", "remote": {"url": url}}
    return Settings.model_validate(chosen)


def test_a_remote_version_uses_its_card_where_the_store_has_it() -> None:
    found = find_artefacts(with_remote(tag="customers:v2"))
    assert (found["v2"].tag, found["v2"].card.version, found["v2"].in_store) == ("customers:v2", "v2", True)


def test_a_remote_version_without_an_artefact_takes_and_gives_what_the_others_do(trees: Artefact) -> None:
    remote = find_artefacts(with_remote())["v2"]
    assert not remote.in_store
    assert (remote.version, remote.card.version) == ("v2", "v2")
    assert remote.tag == remote.card.source.uri == "http://other:3000/v2/models/customers/versions/v2"
    assert (remote.card.features, remote.card.classes) == (trees.card.features, trees.card.classes)
    assert (remote.card.verification, remote.card.metrics, remote.card.size_bytes) == ({}, {}, 0)
    assert trees.card.model_fields_set <= remote.card.model_fields_set


def test_another_address_is_another_artefact() -> None:
    one, other = (find_artefacts(with_remote(url=url))["v2"] for url in ("http://one", "http://other"))
    assert one.digest != other.digest


def test_one_version_at_least_must_be_in_the_store() -> None:
    chosen = settings("customers:none").model_dump()
    chosen["versions"]["v1"] |= {"placement": "remote", "remote": {"url": "http://other"}}
    with pytest.raises(ArtefactMissing, match=r"no version has an artefact .* make models"):
        find_artefacts(Settings.model_validate(chosen))


def test_a_version_that_runs_here_must_be_in_the_store() -> None:
    with pytest.raises(ArtefactMissing, match="customers:gone"):
        find_artefacts(with_remote(v1="customers:gone", tag="customers:v2"))
