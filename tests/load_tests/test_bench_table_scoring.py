"""The benchmark of batches: what it lets programs score, and what it says of their ends."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from load_tests.bench import batch_loops, table_scoring
from load_tests.bench.reference_model import find_model
from load_tests.bench.table_scoring import RunFailed, watched, write_table


def test_both_files_have_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_scoring, "GROUP_ROWS", 40)
    write_table(100, tmp_path / "rows.csv")
    one, other = pd.read_csv(tmp_path / "rows.csv"), pd.read_parquet(tmp_path / "rows.parquet")
    pd.testing.assert_frame_equal(one.astype(float), other)
    assert (len(one), tuple(one.columns)) == (100, table_scoring.NAMES)


def test_the_loop_scores_all_rows_as_the_model_does(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_loops, "CHUNK_ROWS", 30)
    write_table(100, tmp_path / "rows.csv")
    model = find_model(None)
    for kind in ("csv", "parquet"):
        target = tmp_path / f"from-{kind}"
        batch_loops.main("pandas", str(model.folder / "model.ubj"), tmp_path / f"rows.{kind}", target)
        expected = model.predict(pd.read_csv(tmp_path / "rows.csv").to_numpy())
        np.testing.assert_allclose(table_scoring.scores_in(target), expected, atol=1e-6)


def test_labels_agree_with_the_probabilities_that_they_are_of() -> None:
    probabilities = np.array([0.2, 0.5, 0.9])
    assert table_scoring.agrees(probabilities + 1e-8, probabilities)
    assert table_scoring.agrees(np.array([0.0, 1.0, 1.0]), probabilities)
    assert not table_scoring.agrees(np.array([0.0, 0.0, 1.0]), probabilities)
    assert not table_scoring.agrees(probabilities + 0.1, probabilities)


def test_a_run_is_timed_and_weighed_and_its_failure_told(tmp_path: Path) -> None:
    ended = watched(
        [sys.executable, "-c", "x = bytearray(60 * 2**20); import time; time.sleep(1)"], 1, tmp_path / "log"
    )
    assert ended.seconds > 1
    assert ended.megabytes > 60
    with pytest.raises(RunFailed, match="alas"):
        watched([sys.executable, "-c", "raise SystemExit('alas')"], 1, tmp_path / "log")
