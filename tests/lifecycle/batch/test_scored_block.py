"""A block becomes a part: of every kind of model the scores of its engine, and each row of it once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from configuration.settings import EngineChoice
from runners.artefacts.artefact import Artefact
from runners.artefacts.scores import labels_of
from runners.engines.engine import Engine, open_engine
from runners.inputs.rows import Rows
from shokado.lifecycle.batch import opened_version, part_files
from shokado.lifecycle.batch.batch_plan import REJECTED, BatchPlan
from shokado.lifecycle.batch.locations import Location
from shokado.lifecycle.batch.opened_version import OpenedVersion, open_version, pack_artefact
from shokado.lifecycle.batch.part_files import BlockDone, read_done
from shokado.lifecycle.batch.planning import BatchOrder, new_plan
from shokado.lifecycle.batch.scored_block import score_block
from shokado.lifecycle.errors import BatchRefused
from shokado.lifecycle.importing.version import Imported
from tests.lifecycle.batch.test_planning import split_of


def table_of(artefact: Artefact, rows: int) -> pd.DataFrame:
    """Rows of the card's examples, as JSON has them."""
    examples = artefact.card.examples.rows
    named = [artefact.card.row_format.named(examples[row % len(examples)]) for row in range(rows)]
    return pd.DataFrame(named)


class Batch:
    """A plan over one file, and its blocks scored in this process."""

    def __init__(self, frame: pd.DataFrame, folder: Path, order: BatchOrder, kind: str = "parquet") -> None:
        (folder / "in").mkdir()
        path = folder / "in" / f"rows.{kind}"
        frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path, row_group_size=7)
        self.source, self.output = Location(str(folder / "in")), Location(str(folder / "out"))
        planned = new_plan(replace(order, block_rows=7), self.source)
        self.plan: BatchPlan = planned.plan
        engines = {one.version: one.engine for one in self.plan.versions}
        self.versions = {
            version: open_version(pack_artefact(one, engines[version]), 1000)
            for version, one in planned.artefacts.items()
        }

    def score(self) -> list[BlockDone]:
        return [score_block(self.plan, block, self.versions, self.source, self.output) for block in self.plan.blocks]

    @property
    def scored(self) -> pd.DataFrame:
        return pd.read_parquet(self.output.path)

    @property
    def rejected(self) -> pd.DataFrame:
        return pd.read_parquet(self.output.at(REJECTED))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("model", ["customers", "iris", "diabetes", "spam"])
def test_scores_are_those_of_the_engine_row_by_row(
    model: str, kind: str, prepared: dict[str, Imported], tmp_path: Path
) -> None:
    artefact = prepared[f"{model}:v1"].artefact
    frame = table_of(artefact, 20)
    batch = Batch(frame, tmp_path, BatchOrder(model, "v1", engine=EngineChoice.ONNXRUNTIME), kind)
    done = batch.score()
    assert [one.scored for one in done] == [{"v1": 7}, {"v1": 7}, {"v1": 6}]
    engine = open_engine(artefact.folder, artefact.card, EngineChoice.ONNXRUNTIME)
    row_format = artefact.card.row_format
    rows = frame.to_dict("records")
    expected = np.concatenate([engine.predict(row_format.join([row_format.pack_values([row])], 1)) for row in rows])
    found = batch.scored
    names = ["score"] if expected.ndim == 1 else [f"score.{name}" for name in artefact.card.classes]
    scores = found[names].to_numpy(np.float32).squeeze()
    if model == "spam":
        # Sums of its terms differ in the last digit with the rows that are scored together, as between requests.
        np.testing.assert_allclose(scores, expected, atol=1e-6)
    else:
        assert np.array_equal(scores, expected)
    assert found["row"].tolist() == list(range(20))
    if artefact.card.classes:
        assert found["prediction"].tolist() == labels_of(artefact.card, expected.tolist())
    else:
        assert "prediction" not in found


def test_a_row_that_cannot_be_taken_is_rejected_and_the_order_stays(
    prepared: dict[str, Imported], tmp_path: Path
) -> None:
    frame = table_of(prepared["iris:v1"].artefact, 20).assign(number=range(20))
    frame.iloc[3, 1] = np.nan
    frame.iloc[8, 0] = np.inf
    batch = Batch(frame, tmp_path, BatchOrder("iris", "v1", keep=("number",)))
    first, second, third = batch.score()
    assert [first.rejected, second.rejected, third.rejected] == [{"not_a_number": 1}, {"not_finite": 1}, {}]
    rejected = batch.rejected
    assert rejected["row"].tolist() == rejected["number"].tolist() == [3, 8]
    assert rejected["feature"].tolist() == [frame.columns[1], frame.columns[0]]
    assert rejected["what"][0].startswith(f"row 3, feature {frame.columns[1]!r}: ")
    assert batch.scored["row"].tolist() == batch.scored["number"].tolist() == sorted({*range(20)} - {3, 8})


@pytest.mark.parametrize("strategy", ["hash", "random"])
def test_the_rows_of_a_split_are_scored_by_their_versions_in_the_order_of_the_input(
    strategy: str, prepared: dict[str, Imported], tmp_path: Path
) -> None:
    frame = table_of(prepared["iris:v1"].artefact, 40).assign(user=[f"u{row % 11}" for row in range(40)])
    sticky = strategy == "hash"
    split = split_of(strategy=strategy)
    batch = Batch(frame, tmp_path, BatchOrder("iris", None, split, "user" if sticky else None, ("user",)))
    batch.score()
    found = batch.scored
    assert found["row"].tolist() == list(range(40))
    assert set(found["version"]) == {"v1", "v2"}
    assert set(found["reason"]) == {"STICKY" if sticky else "SPLIT"}
    if sticky:
        assert (found.groupby("user")["version"].nunique() == 1).all()
    for version, rows in found.groupby("version"):
        engine = batch.versions[str(version)].engine
        row_format = batch.versions[str(version)].row_format
        records = frame.loc[rows["row"], list(row_format.feature_names)].to_dict("records")
        scores = engine.predict(row_format.join([row_format.pack_values(records)], len(records)))
        names = [f"score.{name}" for name in batch.versions["v1"].card.classes]
        assert np.array_equal(rows[names].to_numpy(np.float32), scores)
    before = found
    batch.score()
    pd.testing.assert_frame_equal(batch.scored, before)


class Failing:
    """An engine that fails with rows whose first value is 666, and with all of them once it is broken."""

    name = "failing"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.is_broken = False

    def predict(self, rows: Rows) -> Any:
        if self.is_broken or (rows[:, 0] == 666).any():
            raise RuntimeError("the beast")
        return self._engine.predict(rows)


@pytest.fixture
def failing(prepared: dict[str, Imported], tmp_path: Path) -> Batch:
    frame = table_of(prepared["iris:v1"].artefact, 700)
    frame.iloc[::4, 0] = 666
    batch = Batch(frame, tmp_path, BatchOrder("iris", "v1"))
    opened = batch.versions["v1"]
    batch.versions["v1"] = OpenedVersion(opened.card, Failing(opened.engine), 1000)  # type: ignore[arg-type]
    return batch


def test_rows_that_the_model_fails_with_are_rejected_however_many_and_no_other(
    failing: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of 700 rows together: a search by halves gives up before it has found them all."""
    batch = np.concatenate(
        [failing.versions["v1"].row_format.batch(failing.versions["v1"].card.examples.rows[:1])] * 700
    )
    batch[::4, 0] = 666
    scores, failures = failing.versions["v1"].score(batch)
    assert sorted(failures) == list(range(0, 700, 4))
    assert failures[4] == "RuntimeError: the beast"
    assert (scores[1] == scores[699]).all()
    monkeypatch.setattr(opened_version, "SCORED_ROWS", 5)
    assert sorted(failing.versions["v1"].score(batch)[1]) == list(range(0, 700, 4))
    done = failing.score()
    assert sum(one.rejected["no_score"] for one in done) == 175
    assert sorted([*failing.scored["row"], *failing.rejected["row"]]) == list(range(700))


def test_a_model_that_fails_with_its_own_example_ends_the_batch_and_leaves_no_part(failing: Batch) -> None:
    failing.versions["v1"].engine.is_broken = True  # type: ignore[attr-defined]
    with pytest.raises(BatchRefused, match="v1 cannot score its own example any more: RuntimeError: the beast"):
        failing.score()
    assert failing.output.names() <= {REJECTED}
    assert not failing.output.names(REJECTED)


def test_a_block_that_ends_on_its_way_leaves_nothing_and_a_part_says_what_it_is(
    prepared: dict[str, Imported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = table_of(prepared["iris:v1"].artefact, 7)
    frame.iloc[3, 1] = np.nan
    batch = Batch(frame, tmp_path, BatchOrder("iris", "v1"))
    (block,) = batch.plan.blocks
    monkeypatch.setattr(part_files.PartWriter, "reject", lambda *_: None)
    with pytest.raises(AssertionError, match="6 rows came of 7"):
        batch.score()
    assert not batch.output.names() - {REJECTED}
    monkeypatch.undo()
    (done,) = batch.score()
    assert read_done(batch.output, batch.plan.id, block) == done
    with pytest.raises(BatchRefused, match="of another batch"):
        read_done(batch.output, "another", block)
    Path(batch.output.at(block.part)).write_bytes(b"PAR1")
    assert read_done(batch.output, batch.plan.id, block) is None


def test_rejected_rows_of_an_earlier_end_do_not_stay(prepared: dict[str, Imported], tmp_path: Path) -> None:
    batch = Batch(table_of(prepared["iris:v1"].artefact, 7), tmp_path, BatchOrder("iris", "v1"))
    (block,) = batch.plan.blocks
    batch.output.write(batch.output.at(REJECTED, block.part), b"of a process that was killed before its part was there")
    batch.score()
    assert not batch.output.names(REJECTED)
