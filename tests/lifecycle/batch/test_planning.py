"""Plans: what is refused before anything is scored, what blocks there are, and which other batch is not this one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from configuration.settings import EngineChoice
from runners.artefacts import repository
from runners.artefacts.card import Card
from shokado.client.answers import Split
from shokado.lifecycle.batch.batch_plan import BatchPlan, read_plan, write_plan
from shokado.lifecycle.batch.locations import Location
from shokado.lifecycle.batch.planning import BatchOrder, new_plan, same_plan
from shokado.lifecycle.errors import BatchRefused
from shokado.lifecycle.importing.version import Imported

ORDER = BatchOrder("iris", "v1")


@pytest.fixture
def card(prepared: dict[str, Imported]) -> Card:
    return prepared["iris:v1"].artefact.card


@pytest.fixture
def frame(card: Card) -> pd.DataFrame:
    rows = np.random.default_rng(0).random((50, len(card.feature_names)))
    return pd.DataFrame(rows, columns=list(card.feature_names)).assign(user="u", number=range(50), share=0.5)


def split_of(**changes: Any) -> Split:
    """Half of the units each."""
    told = {
        "active": "v1", "weights": {"v1": 1, "v2": 1}, "shares": {"v1": 0.5, "v2": 0.5}, "strategy": "hash",
        "enabled": True, "salt": "s", "shadow": None, "environment": "production", "generation": 3, "percent": {},
        "updated_at": None, "by": "", "action": "", "why": "",
    }  # fmt: skip
    return Split(**{**told, **changes})


def planned(folder: Path, order: BatchOrder = ORDER) -> BatchPlan:
    return new_plan(order, Location(str(folder))).plan


def test_blocks_are_all_rows_of_all_files_once_and_cut_where_files_can_be(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.to_csv(tmp_path / "b.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet", row_group_size=15)
    (tmp_path / "_old").mkdir()
    frame.to_csv(tmp_path / "_old" / "c.csv", index=False)
    frame[:0].to_csv(tmp_path / "d.csv", index=False)
    plan = planned(tmp_path, replace(ORDER, block_rows=20))
    assert [file.name for file in plan.files] == ["a.parquet", "b.csv", "d.csv"]
    assert [(block.file, block.first_row, block.rows) for block in plan.blocks] == [
        (0, 0, 15), (0, 15, 15), (0, 30, 20), (1, 0, 20), (1, 20, 20), (1, 40, 10)
    ]  # fmt: skip
    assert plan.rows == 100
    assert len({block.part for block in plan.blocks}) == 6
    assert [block.part for block in plan.blocks] == sorted(block.part for block in plan.blocks)


def test_a_plan_that_was_written_is_the_same_when_it_is_read(frame: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    frame.to_csv(tmp_path / "in" / "a.csv", index=False)
    layer = {"name": "l", "from": 0.25, "to": 0.5, "outside": "v1"}
    order = BatchOrder("iris", None, split_of(layer=layer), "user", ("number",))
    plan = planned(tmp_path / "in", order)
    output = Location(str(tmp_path / "out"))
    assert read_plan(output) is None
    write_plan(output, plan)
    read = read_plan(output)
    assert read == plan
    assert read is not None
    assert read.id == plan.id
    assert read.split is not None
    assert read.split.routing.layer is not None
    assert read.split.routing.layer.outside == "v1"


Change = Callable[[pd.DataFrame], pd.DataFrame]
REFUSED: dict[str, tuple[Change, dict[str, Any], str]] = {
    "a feature is missing": (lambda f: f.drop(columns=f.columns[0]), {}, "is missing, which v1 takes; there are"),
    "no feature at all": (lambda f: f[["user"]], {}, "no column is a feature of v1, which takes"),
    "another kind": (lambda f: f.assign(**{f.columns[0]: "x"}), {}, "cannot be scored by v1: it is of"),
    "no such column to keep": (lambda f: f, {"keep": ("name",)}, "no column 'name'"),
    "a name that parts have": (lambda f: f.assign(row=1), {"keep": ("row",)}, "parts have a column of that name"),
    "twice": (lambda f: f, {"keep": ("user", "user")}, "names a column twice"),
    "no such version": (lambda f: f, {"version": "v9"}, "no iris:v9 in the model store"),
    "no such model": (lambda f: f, {"model": "iris2"}, "no iris2:v1 in the model store"),
    "no unit": (lambda f: f, {"version": None, "split": split_of()}, "is by units: say which column"),
    "no such unit": (lambda f: f, {"version": None, "split": split_of(), "unit": "who"}, "no column 'who'"),
    "a unit of fractions": (lambda f: f, {"version": None, "split": split_of(), "unit": "share"}, "cannot be the unit"),
    "a unit that does not count": (
        lambda f: f, {"version": None, "split": split_of(strategy="random"), "unit": "user"}, "is not by units",
    ),
    "no rows": (lambda f: f[:0], {}, "has no rows"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "wanted", "why"), REFUSED.values(), ids=REFUSED)
def test_what_all_rows_would_be_refused_for_is_refused(
    change: Change, wanted: dict[str, Any], why: str, frame: pd.DataFrame, tmp_path: Path
) -> None:
    change(frame).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(BatchRefused, match=why):
        planned(tmp_path, replace(ORDER, **wanted))


def test_what_is_no_table_is_refused(prepared: dict[str, Imported], frame: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(BatchRefused, match="There is no table at"):
        planned(tmp_path)
    with pytest.raises(BatchRefused, match="There is no table at"):
        planned(tmp_path / "nothing")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(BatchRefused, match=r"a\.parquet is no Parquet file that can be read"):
        planned(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BatchRefused, match=r"notes\.txt is none of"):
        planned(tmp_path)
    with pytest.raises(BatchRefused, match="none of the addresses that fsspec knows"):
        Location("nowhere://a/b")


def test_a_location_knows_what_lies_within_it(tmp_path: Path) -> None:
    here = Location(str(tmp_path))
    assert here.is_below(here)
    assert Location(f"{tmp_path}/a/b/").is_below(here)
    assert not here.is_below(Location(f"{tmp_path}/a"))
    assert not Location(f"{tmp_path}2").is_below(here)
    assert not Location("memory://a").is_below(Location("/"))


def test_a_column_that_two_files_have_of_two_kinds_is_not_kept(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.to_parquet(tmp_path / "a.parquet")
    frame.astype({"number": str}).to_parquet(tmp_path / "b.parquet")
    assert planned(tmp_path, replace(ORDER, keep=("user",))).keep == ["user"]
    with pytest.raises(BatchRefused, match=r"b\.parquet: 'number' is of"):
        planned(tmp_path, replace(ORDER, keep=("number",)))


def test_going_on_is_for_the_same_input_versions_and_options(
    frame: pd.DataFrame, tmp_path: Path, prepared: dict[str, Imported], monkeypatch: pytest.MonkeyPatch
) -> None:
    frame.to_csv(tmp_path / "a.csv", index=False)
    source = Location(str(tmp_path))
    plan = planned(tmp_path, replace(ORDER, block_rows=7, engine=EngineChoice.ONNXRUNTIME))
    assert same_plan(plan, ORDER, source).plan == plan, "the size of blocks is the plan's where none is asked for"
    for order, why in [
        (replace(ORDER, block_rows=8), "--block-rows was 7, not 8"),
        (replace(ORDER, version="v2"), "v1 was to score, and is not now; v2 is to score, and was not then"),
        (replace(ORDER, version=None), "its rows were scored by v1 alone"),
        (replace(ORDER, max_text_characters=9), "--max-text-characters was"),
        (replace(ORDER, engine=EngineChoice.XGBOOST), "v1 was scored by onnxruntime, not xgboost"),
    ]:
        with pytest.raises(BatchRefused, match=why):
            same_plan(plan, order, source)
    frame.to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(BatchRefused, match=r"b\.csv is new"):
        same_plan(plan, ORDER, source)
    (tmp_path / "b.csv").unlink()
    other = prepared["iris:v2"].artefact
    found = repository.look_up("iris", "v1")
    assert found is not None
    changed = replace(found, card=other.card.model_copy(update={"version": "v1"}))
    monkeypatch.setattr(repository, "look_up", lambda *_: changed)
    with pytest.raises(BatchRefused, match="v1 is another import than it was"):
        same_plan(plan, ORDER, source)


def test_a_split_goes_on_as_it_was_planned(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.to_csv(tmp_path / "a.csv", index=False)
    source = Location(str(tmp_path))
    order = BatchOrder("iris", None, split_of(), "user")
    plan = new_plan(order, source).plan
    assert [one.version for one in plan.versions] == ["v1", "v2"]
    assert same_plan(plan, replace(order, split=None), source).plan == plan
    with pytest.raises(BatchRefused, match="its units were of the column user, not number"):
        same_plan(plan, replace(order, split=None, unit="number"), source)
    off = new_plan(BatchOrder("iris", None, split_of(enabled=False)), source).plan
    assert [one.version for one in off.versions] == ["v1"], "the active one alone"
