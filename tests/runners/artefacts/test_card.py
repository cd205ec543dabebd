"""Cards: what is written is read back, and a card that contradicts itself is refused in one line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from runners.artefacts.card import CARD_FILE, Card, CardError, FileKind, Task, read_card, write_card
from tests.support.cards import TEXT, card_content, make_card


@pytest.mark.parametrize("task", Task)
def test_a_card_is_read_as_it_was_written(task: Task, tmp_path: Path) -> None:
    card = make_card(task=task)
    write_card(card, tmp_path)
    assert read_card(tmp_path) == card


@given(scores=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_numbers_are_read_exactly_as_they_were_written(scores: list[float]) -> None:
    examples = {"rows": [[1.0, 2.0]] * len(scores), "scores": scores}
    card = make_card(examples=examples)
    assert Card.model_validate_json(card.model_dump_json()) == card


@pytest.mark.parametrize(
    ("task", "scores"),
    [
        (Task.BINARY, 1),
        (Task.MULTICLASS, 3),
        (Task.REGRESSION, 1),
        (Task.MULTIOUTPUT, 2),
        (Task.BINARY_MARGIN, 1),
        (Task.MULTICLASS_MARGIN, 3),
        (Task.ANOMALY, 1),
    ],
)
def test_the_task_decides_how_many_scores_a_row_has(task: Task, scores: int) -> None:
    assert make_card(task=task).scores_per_row == scores


def test_examples_of_a_text_stay_texts_even_where_they_look_like_numbers(tmp_path: Path) -> None:
    write_card(make_card(**TEXT), tmp_path)
    card = read_card(tmp_path)
    assert card.input_datatype == "BYTES"
    assert card.examples.rows == ("win a prize", "1.5")
    assert make_card().input_datatype == "FP32"


def test_a_card_adds_up_the_size_of_its_files() -> None:
    digest = "0" * 64
    files = {"onnx": {"sha256": digest, "size_bytes": 10}, "ubj": {"sha256": digest, "size_bytes": 5}}
    assert make_card(files=files).size_bytes == 15


def test_a_file_is_named_after_its_kind() -> None:
    assert [kind.file_name for kind in FileKind] == ["model.onnx", "model.ubj", "model.mlmodel"]


def test_a_card_from_before_there_were_rules_gives_a_tie_to_the_first_class() -> None:
    card = make_card()
    assert np.float32(card.positive_from) == np.nextafter(np.float32(0.5), np.float32(1))
    assert card.predicts == "labels"


def test_a_card_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make_card().model = "other"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"colour": "red"}, "colour: Extra"),
    "another format": ({"format": 1}, "format: "),
    "no features": ({"features": []}, "features: "),
    "a feature without a name": ({"features": [{"name": ""}]}, "features.0.name: "),
    "an unknown feature type": ({"features": [{"name": "a", "type": "image"}]}, "features.0.type: "),
    "repeated features": ({"features": [{"name": "a"}, {"name": "a"}]}, "feature names repeat"),
    "a text beside a number": (
        TEXT | {"features": [{"name": "a", "type": "text"}, {"name": "b"}]},
        "texts beside other features belong into a card of format 3",
    ),
    "trees over a text": (
        TEXT | {"files": {"ubj": {"sha256": "0" * 64, "size_bytes": 1}}},
        "cannot take rows of BYTES",
    ),
    "numbers as examples of a text": ({"features": TEXT["features"]}, "example rows must be texts"),
    "texts as examples of numbers": ({"examples": TEXT["examples"]}, "example rows must be numbers"),
    "no files": ({"files": {}}, "files: "),
    "a file that could be code": ({"files": {"pickle": {"sha256": "0" * 64, "size_bytes": 1}}}, "files.pickle"),
    "a short digest": ({"files": {"onnx": {"sha256": "0" * 63, "size_bytes": 1}}}, "files.onnx.sha256: "),
    "an empty file": ({"files": {"onnx": {"sha256": "0" * 64, "size_bytes": 0}}}, "files.onnx.size_bytes: "),
    "an unknown task": ({"task": "ranking"}, "task: "),
    "one class": ({"classes": [1]}, "a binary model cannot have 1 classes"),
    "three classes of a binary model": ({"classes": [0, 1, 2]}, "a binary model cannot have 3 classes"),
    "two classes of several": ({"task": "multiclass"}, "a multiclass model cannot have 2 classes"),
    "classes of a value": ({"task": "regression"}, "a regression model cannot have 2 classes"),
    "several values of before": (
        {"task": "multioutput", "classes": [], "outputs": ["a", "b"]},
        "a multioutput model belongs into a card of format 3",
    ),
    "several values of one name": (
        {"format": 3, "task": "multioutput", "classes": [], "outputs": ["a", "a"]},
        "a multioutput model cannot have the outputs a, a",
    ),
    "a value of several": (
        {"format": 3, "task": "multioutput", "classes": [], "outputs": ["a"]},
        "a multioutput model cannot have the outputs a",
    ),
    "values without names": (
        {"format": 3, "task": "multioutput", "classes": []},
        "a multioutput model cannot have the outputs of no name",
    ),
    "labels of before": ({"task": "multilabel", "outputs": ["a", "b"]}, "belongs into a card of format 3"),
    "labels without names": (
        {"format": 3, "task": "multilabel"},
        "a multilabel model cannot have the outputs of no name",
    ),
    "labels of three classes": (
        {"format": 3, "task": "multilabel", "outputs": ["a", "b"], "classes": [0, 1, 2]},
        "a multilabel model cannot have 3 classes",
    ),
    "margins of before": ({"task": "binary_margin"}, "a binary_margin model belongs into a card of format 3"),
    "several classes of one margin": (
        {"format": 3, "task": "anomaly", "classes": [0, 1, 2]},
        "an anomaly model cannot have 3 classes",
    ),
    "outputs of a classifier": ({"outputs": ["a", "b"]}, "a binary model cannot have the outputs a, b"),
    "a short example": ({"examples": {"rows": [[1.0]], "scores": [0.5]}}, "an example row does not have 2 values"),
    "a lost score": ({"examples": {"rows": [[1.0, 2.0]], "scores": []}}, "another number of scores"),
    "no example": ({"examples": {"rows": [], "scores": []}}, "examples.rows: "),
    "no verification": ({"verification": {}}, "verification: "),
    "no examples at all": ({"examples": None}, "examples: "),
    "an array of no output": ({"predicts": "array"}, "answers with array must name its outputs"),
    "an array of two outputs": (
        {"predicts": "array", "own_outputs": {"a": "column", "b": "column"}},
        "answers with an array cannot have 2 outputs",
    ),
    "a verification of nothing": (
        {"verification": {"onnx": {"rows": 0, "max_abs_difference": 0.0, "tolerance": 1.0}}},
        "verification.onnx.rows: ",
    ),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_a_card_is_refused_with(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / CARD_FILE).write_text(json.dumps(card_content() | changes))
    with pytest.raises(CardError) as refused:
        read_card(tmp_path)
    said = str(refused.value)
    assert said.startswith(f"{tmp_path / CARD_FILE}: ")
    assert message in said
    assert "\n" not in said


@pytest.mark.parametrize("content", [b"", b"not json", b'{"format": 1', b"\xff\xfe", b"[]"])
def test_a_card_that_cannot_be_read_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / CARD_FILE).write_bytes(content)
    with pytest.raises(CardError) as refused:
        read_card(tmp_path)
    assert str(refused.value).startswith(f"{tmp_path / CARD_FILE}: card: ")
    assert "\n" not in str(refused.value)


def test_a_folder_without_a_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="No such file") as refused:
        read_card(tmp_path)
    assert str(refused.value).startswith(str(tmp_path / CARD_FILE))


def test_what_only_several_values_have_is_in_no_other_card() -> None:
    """Servers of before read those, and refuse fields that they do not know."""
    assert '"outputs"' not in make_card().model_dump_json()
    assert '"tolerances"' not in make_card().model_dump_json()
    assert make_card(Task.MULTIOUTPUT).model_dump()["outputs"] == ("speed", "cost")
