"""Exports: one line of pandas reads what was asked, what was answered, and what was right."""

from pathlib import Path

import pandas as pd
import pytest

from configuration.log_settings import LogSettings
from runners.artefacts.card import Task
from shokado.request_log.exporting import export
from shokado.request_log.log_writer import LogWriter
from shokado.request_log.records import LoggedFeedback
from tests.request_log.records import encoded, request_of
from tests.request_log.test_log_writer import KEY, LEVELS
from tests.support.cards import make_card

DAY_S = 86_400.0


def test_versions_of_other_features_are_one_table_with_its_labels(tmp_path: Path) -> None:
    first = make_card(version="v1")
    second = make_card(version="v2", **LEVELS)
    third = make_card(Task.MULTIOUTPUT, version="v3")
    writer = LogWriter(LogSettings(share=1, hash=("age",)), tmp_path / "log", "a", KEY)
    writer.write(
        encoded(
            request_of(first, [[1.5, 2], [2.5, 3]], [0.25, 0.75], prediction_id="p-1", shares={"v1": 0.9}),
            request_of(second, [[30, 1, 1]], [0.5], card=2, prediction_id="p-2", at=1_000_000 + DAY_S),
            request_of(third, [[1, 2]], [[4, 5]], card=3, prediction_id="p-3"),
            LoggedFeedback(2_000_000.0, "p-1", 1, "1", 0.5),
        ),
        {1: first, 2: second, 3: third},
    )
    counts = export(tmp_path / "log", tmp_path / "table")
    assert counts == {
        "day=1970-01-12/version=v1/rows.parquet": 2,
        "day=1970-01-13/version=v2/rows.parquet": 1,
        "day=1970-01-12/version=v3/rows.parquet": 1,
    }
    table = pd.read_parquet(tmp_path / "table").sort_values(["prediction_id", "row"]).reset_index(drop=True)
    assert table["version"].astype(str).tolist() == ["v1", "v1", "v2", "v3"]
    assert table["feature.width"].tolist()[:2] == [1.5, 2.5]
    assert pd.isna(table["feature.width"][2])
    assert table["feature.city"][2] == "Bern"
    assert table["feature.member"][2] == 1
    assert len(table["feature.age"][2]) == 32
    assert table["score"].tolist()[:3] == [0.25, 0.75, 0.5]
    assert table["score.cost"][3] == 5
    assert table["prediction"].tolist()[:2] == ["0", "1"]
    assert table["label"].isna().tolist() == [True, False, True, True]
    assert table["label"][1] == "1"
    assert table["reward"].tolist()[1] == 0.5
    assert table["time"][0] == pd.Timestamp(1_000_000, unit="s", tz="UTC")
    assert table["latency_ms"][0] == 2
    assert table["propensity"].tolist()[:2] == [0.9, 0.9]
    assert table["propensity"].isna().tolist() == [False, False, True, True]


def test_a_feature_of_two_kinds_is_a_text(tmp_path: Path) -> None:
    number = make_card(features=[{"name": "city"}, {"name": "age"}])
    level = make_card(version="v2", **LEVELS)
    writer = LogWriter(LogSettings(share=1), tmp_path / "log", "a", KEY)
    requests = [request_of(number, [[7, 30.5]], [0.1]), request_of(level, [[None, 0, 0]], [0.2], card=2)]
    writer.write(encoded(*requests), {1: number, 2: level})
    export(tmp_path / "log", tmp_path / "table")
    table = pd.read_parquet(tmp_path / "table").sort_values("version")
    assert table["feature.city"].tolist() == ["7.0", "Köln"]
    assert table["feature.age"].tolist()[0] == 30.5


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "mine").touch()
    with pytest.raises(FileExistsError, match="is not empty"):
        export(tmp_path / "log", tmp_path / "table")
