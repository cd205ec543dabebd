"""The file that `shokado serve` writes: a valid configuration, commented truly, and the person's own once changed."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from configuration.settings import Settings, load_settings
from runners.artefacts.artefact import Artefact
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.importing.version import Imported, ImportOutcome
from shokado.lifecycle.serving.bringing import Brought
from shokado.lifecycle.serving.order import ServeOrder
from shokado.lifecycle.serving.serving_file import refuse_edited, text_of, write
from tests.support.cards import make_card

COMMENTED_OUT = re.compile(r"^( *)# (\w+: .*?)(  #.*)?$", re.MULTILINE)


def brought(address: str, label: str, uri: str = "models:/paper/3") -> Brought:
    card = make_card(source={"uri": uri, "run_id": "r1", "flavor": "xgboost", "framework": "xgboost 3.2.0"})
    artefact = Artefact(label, f"paper:{label}", Path(), card)
    return Brought(address, Imported(artefact, ImportOutcome.ALREADY_THERE))


def order(folder: Path, **given: Any) -> ServeOrder:
    return ServeOrder(("models:/paper@champion", "models:/paper/4"), config=folder / "paper.yaml", **given)


VERSIONS = [brought("models:/paper@champion", "v3"), brought("models:/paper/4", "v4", "models:/paper/4")]


def written(made: ServeOrder) -> Settings:
    write(made.file, text_of(made, VERSIONS))
    return load_settings(made.file)


def test_the_file_says_what_was_ordered(tmp_path: Path) -> None:
    settings = written(order(tmp_path, split=(90.0, 10.5), workers=2))
    production = settings.environments["production"]
    assert (settings.model, settings.worker_count) == ("paper", 2)
    assert {label: version.aliases for label, version in settings.versions.items()} == {"v3": ("champion",), "v4": ()}
    assert (production.active, production.weights) == ("v3", {"v3": 90, "v4": 10.5})
    text = order(tmp_path).file.read_text()
    assert "# shokado serve models:/paper@champion models:/paper/4 --split 90,10.5 --workers 2\n" not in text
    assert "models:/paper@champion models:/paper/4 --split 90,10.5 --workers 2\n" in text
    assert "paper:v3, from models:/paper/3, which was models:/paper@champion\n" in text


def test_a_server_keeps_no_rows_where_none_may_be_kept(tmp_path: Path) -> None:
    assert written(order(tmp_path)).explanations.keep_rows
    assert not written(order(tmp_path, keep_rows=False)).explanations.keep_rows


def test_the_version_with_the_largest_weight_is_the_active_one(tmp_path: Path) -> None:
    assert written(order(tmp_path, split=(10.0, 90.0))).environments["production"].active == "v4"
    assert written(order(tmp_path)).environments["production"].active == "v3"


def test_what_is_not_ordered_has_its_default_also_in_each_line_that_is_commented_out(tmp_path: Path) -> None:
    made = order(tmp_path)
    settings = written(made)
    text = made.file.read_text()
    lines = COMMENTED_OUT.findall(text)
    keys = {line.partition(":")[0] for _, line, _ in lines}
    assert keys == {"engine", "placement", "shadow", "store", "batching", "limits", "grpc", "access", "explanations"}
    made.file.write_text(COMMENTED_OUT.sub(r"\1\2", text))
    assert load_settings(made.file) == settings
    minimal = {
        key: value for key, value in yaml.safe_load(text).items() if key in ("model", "versions", "environments")
    }
    assert settings == Settings(**minimal)


names = st.from_regex(r"[a-z0-9]([-._a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)


@given(
    labels=st.lists(names, min_size=2, max_size=2, unique=True),
    model=names,
    weights=st.tuples(*[st.floats(0, 1e300)] * 2),
)
def test_any_name_that_the_store_takes_and_any_weight_can_be_read_again(
    labels: list[str], model: str, weights: tuple[float, float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """YAML takes `1e5`, `null`, `on` and `12:30` for something else unless they stand in quotes."""
    if model == "latest" or not any(weights):
        return
    made = ServeOrder(("models:/x/1", "models:/x/2"), weights, model, tmp_path_factory.getbasetemp() / "any.yaml")
    write(made.file, text_of(made, [brought("models:/x/1", labels[0]), brought("models:/x/2", labels[1])]))
    settings = load_settings(made.file)
    assert (settings.model, list(settings.versions)) == (model, labels)
    found = settings.environments["production"].weights
    assert [found[label] for label in labels] == pytest.approx(list(weights), rel=1e-12)


def test_a_file_that_nobody_changed_is_written_over(tmp_path: Path) -> None:
    first, second = order(tmp_path), order(tmp_path, split=(90.0, 10.0))
    assert write(first.file, text_of(first, VERSIONS))
    assert not write(first.file, text_of(first, VERSIONS))
    refuse_edited(second)
    assert write(second.file, text_of(second, VERSIONS))
    assert list(tmp_path.iterdir()) == [first.file]


def test_it_is_the_same_file_wherever_the_server_listens(tmp_path: Path) -> None:
    assert text_of(order(tmp_path), VERSIONS) == text_of(order(tmp_path, port=3001, host="0.0.0.0"), VERSIONS)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("random", "hash"),
        lambda text: text + "\n",
        lambda text: text.replace("# sha256", "#sha256"),
        lambda text: "model: paper\n",
        lambda text: "",
    ],
    ids=["a value", "a line's end", "the mark", "another file", "nothing left"],
)
def test_a_file_that_was_changed_stays(change: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = order(tmp_path, port=3001)
    write(made.file, change(text_of(made, VERSIONS)))
    with pytest.raises(LifecycleError, match=r"paper\.yaml was changed by hand") as refused:
        refuse_edited(made)
    assert refused.value.next_command == "shokado serve --config paper.yaml --port 3001"
    refuse_edited(order(tmp_path, replace=True))


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(LifecycleError, match=r"There is no folder .*/no"):
        refuse_edited(order(tmp_path / "no"))
    made = order(tmp_path)
    made.file.mkdir()
    with pytest.raises(LifecycleError, match="cannot be read"):
        refuse_edited(made)
    with pytest.raises(LifecycleError, match=r"paper\.yaml cannot be written: Is a directory"):
        write(made.file, "")
    assert list(tmp_path.iterdir()) == [made.file]


def test_a_link_stays_one(tmp_path: Path) -> None:
    made = order(tmp_path)
    made.file.symlink_to(tmp_path / "kept.yaml")
    written(made)
    assert made.file.is_symlink()
    assert (tmp_path / "kept.yaml").is_file()
