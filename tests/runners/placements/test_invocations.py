"""What MLflow's scoring server is sent and answers: values as clients say them, values and labels as scores."""

import json
from typing import Any

import numpy as np
import pytest

from runners.artefacts.card import Task
from runners.inputs.formats import row_format_of
from runners.inputs.schema import Feature
from runners.placements.inference import Mismatch
from runners.placements.invocations import UnfitValue, read_predictions, scores_of, write_batch

FEATURES = (
    Feature(name="age", nullable=True),
    Feature(name="visits", type="integer", nullable=True),
    Feature(name="member", type="boolean"),
    Feature(name="port", type="category", levels=("C", "Q", "S"), nullable=True),
)
TEXT = (Feature(name="message", type="text"),)


def sent(features: tuple[Feature, ...], *rows: Any) -> Any:
    """The frame that a server is sent for rows of JSON."""
    row_format = row_format_of(features)
    batch = row_format.join([row_format.pack_values(list(rows))], len(rows))
    return json.loads(write_batch(features, row_format, batch))["dataframe_split"]


def test_a_frame_has_the_values_that_clients_send() -> None:
    rows = [[40.2, 3, True, "S"], [None, None, False, None], [-1e-7, 2**24, True, "C"]]
    frame = sent(FEATURES, *rows)
    assert frame == {"columns": ["age", "visits", "member", "port"], "data": rows}
    assert [type(value) for value in frame["data"][0]] == [float, int, bool, str]
    assert sent(FEATURES, {"port": "Q", "member": 1, "visits": 0, "age": 7})["data"] == [[7.0, 0, True, "Q"]]


def test_a_text_is_a_column_of_its_own() -> None:
    assert sent(TEXT, "win", "")["data"] == [["win"], [""]]


def test_a_model_of_numbers_alone_gets_numbers() -> None:
    assert sent((Feature(name="width"), Feature(name="count", type="integer")), [0.1, 2.0])["data"] == [[0.1, 2]]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([1.0, 3.7, True, "S"], "'visits' is 3.7, where a whole number belongs"),
        ([1.0, 3, 2, "S"], "'member' is 2, where true or false belongs"),
    ],
)
def test_what_the_server_would_make_another_value_of_is_not_sent(row: list[Any], said: str) -> None:
    with pytest.raises(UnfitValue, match=said):
        sent(FEATURES, row)


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        ("[1, 2.5, null]", [1, 2.5, None]),
        ('[{"score": 1.5}, {"score": true}]', [1.5, True]),
        ('[["low"], ["high"]]', ["low", "high"]),
        ("[]", []),
    ],
)
def test_a_prediction_is_one_value(predictions: str, expected: list[Any]) -> None:
    assert read_predictions(f'{{"predictions": {predictions}}}'.encode()) == expected


def test_nan_is_read_though_it_is_no_json() -> None:
    first, second = read_predictions(b'{"predictions": [NaN, 1.5]}')
    assert np.isnan(first)
    assert second == 1.5


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[1.5]", "does not answer with predictions"),
        (b"\xff", "does not answer with predictions"),
        (b'{"predictions": {"a": [1]}}', "does not answer with predictions"),
        (b'{"predictions": [[1, 2]]}', "2 outputs a row"),
        (b'{"predictions": [{"mean": 1, "deviation": 2}]}', r"2 outputs a row \(mean, deviation\)"),
        (b'{"predictions": [[[1]]]}', "gives a list where"),
    ],
)
def test_what_is_no_prediction_is_named(body: bytes, said: str) -> None:
    with pytest.raises(Mismatch, match=said):
        read_predictions(body)


def test_values_are_scores() -> None:
    found = scores_of(Task.REGRESSION, (), [1, 2.5, None, 2**24 + 1, 2**25, 1e300])
    assert found.scores.dtype == np.float32
    assert found.scores[:2].tolist() == [1.0, 2.5]
    assert found.scores[4] == 2**25
    assert sorted(found.failures) == [2, 3, 5]
    with pytest.raises(Mismatch, match="gives labels"):
        scores_of(Task.REGRESSION, (), [1.0, "high"])


def test_the_predicted_label_has_all_of_the_score() -> None:
    found = scores_of(Task.BINARY, ("no", "yes"), ["yes", "no", "maybe"])
    assert found.scores[:2].tolist() == [1.0, 0.0]
    assert found.failures == {2: "the model gave a label that is none of its 2"}
    found = scores_of(Task.MULTICLASS, (1, 2, 3), [3, 1])
    assert found.scores.tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    assert scores_of(Task.BINARY, (False, True), [True, 1]).failures.keys() == {1}, "1 is no truth value"
