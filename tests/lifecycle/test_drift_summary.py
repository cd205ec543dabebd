"""What is said of versions that cannot be compared, and how often their log is read; Evidently is for none of this."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from configuration.log_settings import LogSettings
from runners.artefacts.card import Card
from shokado.lifecycle.detecting.drift_report import DriftOrder, TooFewRows
from shokado.lifecycle.detecting.drift_summary import UntoldVersion, make_reports
from shokado.lifecycle.detecting.logged_window import rows_of_imports, windows_between
from shokado.lifecycle.importing import reference_rows
from shokado.request_log.log_writer import LogWriter
from shokado.request_log.segments import Segment, segments_in
from tests.request_log.records import encoded, request_of
from tests.support.cards import make_card

CARD = make_card(examples={"rows": [[1.0, 2.0]], "scores": [0.25]})
NOW = time.time()


def write(folder: Path, version: str, rows: int, ago_s: float, **changes: Any) -> Card:
    """Log so many rows as answered by a version so long ago: their number, and its root as the score."""
    card = CARD.model_copy(update={"version": version, **changes})
    writer = LogWriter(LogSettings(share=1), folder, f"{Path(version).name}-{ago_s:.0f}", bytes(32))
    values = np.arange(rows, dtype=np.float32)
    writer.write(encoded(request_of(card, [[v, 0] for v in values], np.sqrt(values), at=NOW - ago_s)), {1: card})
    writer.end_segment()
    return card


def order(*versions: str) -> DriftOrder:
    return DriftOrder(versions, 100, None, 1000, 0.1, 0.01)


@dataclass(frozen=True, slots=True)
class CountedSegment(Segment):
    opened: list[str] = field(default_factory=list)

    def open(self) -> IO[bytes]:
        self.opened.append(self.path.name)
        return self.path.open("rb")


class CountedFolder:
    """A folder that lies elsewhere, and knows how often its files were fetched."""

    name = "counted"

    def __init__(self, folder: Path) -> None:
        self.opened: list[str] = []
        self._folder = folder

    def segments(self) -> list[Segment]:
        return [
            CountedSegment(one.path, one.size_bytes, one.is_open, one.written_at, self.opened)
            for one in segments_in(self._folder)
        ]


def test_the_log_is_read_once_for_all_versions(tmp_path: Path) -> None:
    for version in ("v1", "v2", "v3"):
        write(tmp_path, version, 30, 10)
    folder = CountedFolder(tmp_path)
    windows = windows_between(folder, NOW - 100, NOW)
    assert {version: window.of for version, window in windows.items()} == {"v1": 30, "v2": 30, "v3": 30}
    assert sorted(folder.opened) == sorted(path.name for path in tmp_path.glob("*.segment"))


def test_versions_are_told_apart_by_their_labels_and_imports(tmp_path: Path) -> None:
    old = write(tmp_path, "v1", 30, 50, model="old")
    new = write(tmp_path, "v1", 20, 10)
    write(tmp_path, "v2", 10, 20)
    write(tmp_path, "v2", 10, 500)
    windows = windows_between(tmp_path, NOW - 100, NOW)
    assert [(name, one.of, one.others) for name, one in windows.items()] == [("v1", 20, 30), ("v2", 10, 0)]
    assert windows["v1"].card == new
    assert list(windows_between(tmp_path, NOW - 100, NOW, ["v2"])) == ["v2"]
    (before,) = rows_of_imports(tmp_path, NOW - 100, NOW, [old.model_dump_json().encode()]).values()
    assert (before.card, before.of) == (old, 30)


def test_many_versions_take_the_memory_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two features each; rows and scores that stay belong together."""
    monkeypatch.setattr(reference_rows, "MAX_VALUES", 1200)
    for version in ("v1", "v2", "v3"):
        write(tmp_path, version, 1000, 10)
    (alone,) = windows_between(tmp_path, NOW - 100, NOW, ["v1"]).values()
    windows = windows_between(tmp_path, NOW - 100, NOW)
    assert [len(one.rows) for one in (alone, *windows.values())] == [600, 200, 200, 200]
    for window in windows.values():
        assert window.of == 1000
        np.testing.assert_allclose(np.sqrt(window.rows[:, 0]), window.scores[:, 0])


def test_what_cannot_be_compared_is_told_with_its_reason(tmp_path: Path) -> None:
    for version, rows in (("v1", 300), ("v2", 50), ("a/v3", 300)):
        write(tmp_path / "log", version, rows, 10)
    write(tmp_path / "log", "v1", 199, 500)
    summary, found = make_reports(order(), tmp_path / "log", NOW, tmp_path / "drift")
    assert [str(one.error).partition(".")[0] for one in found if isinstance(one, UntoldVersion)] == [
        "No folder can be called 'a/v3', as the log calls a version",
        "Too few rows: the log before the window has 199 rows of this import of v1, and 200 are needed",
        "Too few rows: the window of the log has 50 rows of v2, and 200 are needed",
    ]
    assert [(one.version, one.verdict, one.rows) for one in summary.versions] == [
        ("a/v3", "not watched", 300), ("v1", "too few rows", 300), ("v2", "too few rows", 50),
    ]  # fmt: skip
    assert (summary.drifted, summary.untold) == ([], ["a/v3", "v1", "v2"])
    assert json.loads((tmp_path / "drift" / "summary.json").read_text()) == summary.model_dump(mode="json")
    assert [path.name for path in (tmp_path / "drift").iterdir()] == ["summary.json"]


def test_a_version_that_is_named_twice_and_answered_nothing_is_told_once(tmp_path: Path) -> None:
    write(tmp_path / "log", "v1", 300, 10)
    summary, _ = make_reports(order("v9", "v9"), tmp_path / "log", NOW, tmp_path / "drift")
    assert [(one.version, one.verdict, one.rows) for one in summary.versions] == [("v9", "too few rows", 0)]


def test_an_empty_window_is_no_window_without_drift(tmp_path: Path) -> None:
    write(tmp_path / "log", "v1", 300, 500)
    with pytest.raises(TooFewRows, match="the window of the log has none of any version, and 200 are needed"):
        make_reports(order(), tmp_path / "log", NOW, tmp_path / "drift")
