"""The writer: a segment can be read alone, and values that are masked are nowhere in it."""

import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest

from configuration.log_settings import LogSettings
from configuration.settings import SettingsError
from runners.artefacts.card import Card, Task
from shokado.request_log.hash_key import hash_key
from shokado.request_log.log_writer import LogWriter
from shokado.request_log.logged_rows import LoggedRow, feedback_in, rows_in
from shokado.request_log.records import LoggedFeedback, LoggedRequest, LoggedRequests
from shokado.request_log.segments import segments_in
from tests.request_log.records import encoded, request_of
from tests.support.cards import TEXT, make_card

KEY = bytes(range(32))
LEVELS: dict[str, Any] = {
    "format": 3,
    "features": [
        {"name": "age", "nullable": True},
        {"name": "city", "type": "category", "levels": ["Köln", "Bern", ""], "nullable": True},
        {"name": "member", "type": "boolean"},
    ],
    "examples": {"rows": [[1.0, 2.0, 1.0]], "scores": [0.25]},
}


def written(folder: Path, card: Card, *requests: LoggedRequests | LoggedFeedback, **settings: Any) -> list[LoggedRow]:
    writer = LogWriter(LogSettings(share=1, **settings), folder, "a", KEY)
    writer.write(encoded(*requests), {1: card})
    return list(rows_in(folder))


@pytest.mark.parametrize(
    ("task", "scores", "named", "labels"),
    [
        (Task.BINARY, [0.25, 0.75], [{"score": 0.25}, {"score": 0.75}], [0, 1]),
        (Task.REGRESSION, [2.5, -1.0], [{"score": 2.5}, {"score": -1.0}], [None, None]),
        (
            Task.MULTICLASS,
            [[0.5, 0.25, 0.25], [0, 0, 1]],
            [{"low": 0.5, "middle": 0.25, "high": 0.25}, {"low": 0, "middle": 0, "high": 1}],
            ["low", "high"],
        ),
        (
            Task.MULTIOUTPUT,
            [[0.5, 2], [1, 4]],
            [{"speed": 0.5, "cost": 2}, {"speed": 1, "cost": 4}],
            [None, None],
        ),
        (
            Task.MULTILABEL,
            [[0.25, 0.75], [1, 0]],
            [{"loud": 0.25, "old": 0.75}, {"loud": 1, "old": 0}],
            [[0, 1], [1, 0]],
        ),
    ],
)
def test_a_row_is_read_as_it_was_answered(
    tmp_path: Path, task: Task, scores: Any, named: list[Any], labels: list[Any]
) -> None:
    card = (
        make_card(task)
        if task is not Task.MULTICLASS
        else make_card(task, examples={"rows": [[1.0, 2.0]], "scores": [[0.5, 0.25, 0.25]]})
    )
    rows = written(tmp_path, card, request_of(card, [[1.5, 2], [0.1, 3]], scores))
    assert [row.scores for row in rows] == named
    assert [row.label for row in rows] == labels
    assert [row.features for row in rows] == [{"width": 1.5, "count": 2}, {"width": 0.1, "count": 3}]
    first = rows[0]
    assert (first.request_id, first.prediction_id, first.index, first.unit) == ("r-1", "p-1", 0, "user-7")
    assert (first.version, first.environment, first.generation, first.reason) == ("v1", "production", 3, "SPLIT")
    assert (first.at, first.latency_ms) == (1_000_000.0, 2)
    assert rows[1].index == 1


def test_what_a_release_without_shares_has_written_is_read(tmp_path: Path) -> None:
    card = make_card()
    with_shares = encoded(request_of(card, [[1, 2]], [0.5], shares={"v1": 0.25, "v2": 0.75}))
    *before, shares = msgspec.msgpack.decode(with_shares[0])
    assert shares == {"v1": 0.25, "v2": 0.75}
    writer = LogWriter(LogSettings(share=1), tmp_path, "a", KEY)
    writer.write([*with_shares, msgspec.msgpack.encode(before)], {1: card})
    writer.end_segment()
    assert [row.propensity for row in rows_in(tmp_path)] == [0.25, None]


def test_levels_gaps_and_truths_are_spelled_out(tmp_path: Path) -> None:
    card = make_card(**LEVELS)
    rows = written(tmp_path, card, request_of(card, [[None, 1, 1], [31.5, None, 0]], [0.1, 0.9]))
    assert [row.features for row in rows] == [
        {"age": None, "city": "Bern", "member": True},
        {"age": 31.5, "city": None, "member": False},
    ]


def test_texts_are_kept_as_they_are(tmp_path: Path) -> None:
    card = make_card(**TEXT)
    rows = written(tmp_path, card, request_of(card, ["ein Preis ✓", ""], [0.1, 0.9]))
    assert [row.features for row in rows] == [{"message": "ein Preis ✓"}, {"message": ""}]


def test_what_is_masked_is_not_in_the_file(tmp_path: Path) -> None:
    card = make_card(**LEVELS)
    request = request_of(card, [[31.25, 1, 1], [31.25, None, 0]], [0.1, 0.9])
    rows = written(tmp_path, card, request, hash=["city", "age"], drop=["member"], unit="hash")
    assert [row.features["member"] for row in rows] == [None, None]
    assert rows[0].features["age"] == rows[1].features["age"]
    assert len(rows[0].features["age"]) == 32
    assert rows[0].features["city"] not in (rows[0].features["age"], None)
    assert rows[1].features["city"] is None, "a gap is no secret"
    assert rows[0].unit not in ("user-7", "")
    (segment,) = segments_in(tmp_path)
    content = segment.path.read_bytes()
    assert b"user-7" not in content
    assert request.rows[:4] not in content, "the packed age"


def test_requests_in_one_record_are_masked_each_by_its_own_values(tmp_path: Path) -> None:
    card = make_card(**LEVELS)
    both = request_of(card, [[-0.0, 1, 1], [7, 0, 1], [0, 1, 0]], [0.1, 0.2, 0.3])
    requests = [LoggedRequest(f"r-{n}", f"p-{n}", f"user-{n}", "SPLIT", 0.1, count) for n, count in ((1, 1), (2, 2))]
    record = msgspec.structs.replace(both, requests=requests)
    rows = written(tmp_path, card, record, hash=["age"], drop=["city"], unit="hash")
    assert [(row.prediction_id, row.index) for row in rows] == [("p-1", 0), ("p-2", 0), ("p-2", 1)]
    ages = [row.features["age"] for row in rows]
    assert ages[0] == ages[2] != ages[1], "minus zero is zero"
    assert [row.features["member"] for row in rows] == [1, 1, 0]
    assert {row.features["city"] for row in rows} == {None}
    units = [row.unit for row in rows]
    assert units[0] != units[1] == units[2]
    alone = request_of(card, [[7, 0, 1]], [0.1], unit="user-1")
    (row,) = written(tmp_path / "alone", card, alone, hash=["age"], unit="hash")
    assert (row.features["age"], row.unit) == (ages[1], units[0])


def test_a_masked_text_is_not_in_the_file(tmp_path: Path) -> None:
    card = make_card(**TEXT)
    request = request_of(card, ["a very private text"], [0.1])
    (row,) = written(tmp_path / "dropped", card, request, drop=["message"])
    assert row.features == {"message": None}
    (row,) = written(tmp_path / "hashed", card, request, hash=["message"])
    assert len(row.features["message"]) == 32
    for segment in [*segments_in(tmp_path / "dropped"), *segments_in(tmp_path / "hashed")]:
        assert b"private" not in segment.path.read_bytes()


MIXED: dict[str, Any] = {
    "format": 3,
    "features": [{"name": "age", "nullable": True}, {"name": "message", "type": "text"}],
    "examples": {"rows": [[1.0, "hello"]], "scores": [0.25]},
}


def test_masked_texts_beside_numbers_leave_the_others(tmp_path: Path) -> None:
    card = make_card(**MIXED)
    request = request_of(card, [[1.5, "private"], [None, "secret"]], [0.1, 0.2])
    rows = written(tmp_path, card, request, drop=["message"])
    assert [row.features for row in rows] == [{"age": 1.5, "message": None}, {"age": None, "message": None}]
    rows = written(tmp_path / "age", card, request, drop=["age"])
    assert [row.features for row in rows] == [{"age": None, "message": "private"}, {"age": None, "message": "secret"}]


@pytest.mark.parametrize("changes", [{}, LEVELS, TEXT, MIXED])
def test_rows_are_logged_as_they_travel(changes: dict[str, Any]) -> None:
    card = make_card(**changes)
    row_format = card.row_format
    rows = row_format.pack([row_format.listed(row) for row in card.examples.rows])
    batch = row_format.join([rows], len(card.examples.rows))
    assert bytes(row_format.key(rows)) == row_format.to_wire(batch)


def test_another_key_hashes_otherwise(tmp_path: Path) -> None:
    card = make_card()
    settings = LogSettings(share=1, hash=("width",))
    hashes = []
    for number, key in enumerate((KEY, KEY, bytes(32))):
        folder = tmp_path / str(number)
        LogWriter(settings, folder, "a", key).write(encoded(request_of(card, [[1.5, 2]], [0.1])), {1: card})
        hashes.append(next(rows_in(folder)).features["width"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_each_segment_can_be_read_alone(tmp_path: Path) -> None:
    clock = itertools.count(1_000_000, 10).__next__
    first, second = make_card(version="v1"), make_card(version="v2")
    writer = LogWriter(LogSettings(share=1, segment_s=1), tmp_path, "a", KEY, clock)
    for number in range(3):
        requests = [request_of(first, [[number, 0]], [0.1]), request_of(second, [[number, 1]], [0.2], card=2)]
        writer.write(encoded(*requests), {1: first, 2: second})
    segments = segments_in(tmp_path)
    assert len(segments) == 3
    for gone in segments[:2]:
        gone.path.unlink()
    assert [(row.version, row.features) for row in rows_in(tmp_path)] == [
        ("v1", {"width": 2, "count": 0}),
        ("v2", {"width": 2, "count": 1}),
    ]


def test_segments_end_at_their_size_and_the_oldest_go(tmp_path: Path) -> None:
    card = make_card()
    settings = LogSettings(share=1, segment_bytes=4096, max_bytes=2**20)
    writer = LogWriter(settings, tmp_path, "a", KEY)
    for _ in range(600):
        writer.write(encoded(request_of(card, [[1, 2]] * 400, [0.5] * 400)), {1: card})
    writer.drop_old()
    sizes = [segment.size_bytes for segment in segments_in(tmp_path)]
    assert 2**19 < sum(sizes) <= 2**20
    assert max(sizes) < 4096 + 8192


def test_feedback_stands_beside_requests(tmp_path: Path) -> None:
    card = make_card()
    said = LoggedFeedback(5.0, "p-1", 0, "1", 0.5)
    assert len(written(tmp_path, card, request_of(card, [[1, 2]], [0.1]), said)) == 1
    assert list(feedback_in(tmp_path)) == [said]


def test_processes_that_begin_at_once_have_the_same_key(tmp_path: Path) -> None:
    settings = LogSettings(hash=("width",))
    keys = {hash_key(settings, tmp_path / "log", tmp_path) for _ in range(3)}
    assert len(keys) == 1
    assert len(keys.pop()) == 32
    assert [path.name for path in (tmp_path / "log").iterdir()] == ["hash.key"]
    assert (tmp_path / "log" / "hash.key").stat().st_mode & 0o077 == 0


def test_a_key_of_ones_own_is_read_and_a_short_one_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY + b"\n")
    settings = LogSettings(unit="hash", key_file="key")
    assert hash_key(settings, tmp_path / "log", tmp_path) == KEY
    (tmp_path / "key").write_bytes(b"short")
    with pytest.raises(SettingsError, match=r"log\.key_file: .* must hold 32 bytes"):
        hash_key(settings, tmp_path / "log", tmp_path)
    with pytest.raises(SettingsError, match=r"log\.key_file: .*No such file"):
        hash_key(LogSettings(unit="hash", key_file="none"), tmp_path / "log", tmp_path)
