"""What a scoring server answers, as JSON of MLflow's or as tensors of MLServer's: values and labels as scores."""

import json
from typing import Any

import numpy as np
import pytest

from runners.artefacts.card import Task
from runners.inputs.schema import Feature
from runners.placements.column_tensors import ColumnTensors
from runners.placements.inference import Mismatch, TensorDescription
from runners.placements.invocations import Invocations
from runners.placements.predicted import Predicted, predicted_of, scores_of

INVOCATIONS = Invocations(["age"])
TENSORS = ColumnTensors((Feature(name="age"),), [TensorDescription("age", "FP64", [-1, 1])])


def column(name: str, datatype: str, shape: list[int], data: list[Any], content_type: str | None = None) -> Any:
    return {
        "name": name,
        "datatype": datatype,
        "shape": shape,
        "data": data,
        "parameters": {"content_type": content_type},
    }


def told(*outputs: Any) -> Predicted:
    return TENSORS.read(json.dumps({"model_name": "m", "outputs": outputs}).encode())


@pytest.mark.parametrize(
    ("predictions", "rows", "names"),
    [
        ("[1, 2.5, null]", [[1], [2.5], [None]], ()),
        ('[{"score": 1.5}, {"score": true}]', [[1.5], [True]], ("score",)),
        ('[["low"], ["high"]]', [["low"], ["high"]], ()),
        ('[{"mean": 1, "deviation": 2}]', [[1, 2]], ("mean", "deviation")),
        ('[{"0": 1, "1": 2}]', [[1, 2]], ()),
        ("[]", [], ()),
    ],
)
def test_predictions_of_json(predictions: str, rows: list[Any], names: tuple[str, ...]) -> None:
    assert INVOCATIONS.read(f'{{"predictions": {predictions}}}'.encode()) == Predicted(rows, names)


def test_predictions_of_tensors() -> None:
    assert told(column("output-1", "FP64", [2, 1], [1.5, None], "np")).rows == [[1.5], [None]]
    assert told(column("output-1", "FP64", [2], [1.5, 2])).rows == [[1.5], [2]]
    assert told(column("output-1", "BYTES", [2, 1], ["low", "größe"], "str")).rows == [["low"], ["größe"]]
    assert told(column("label", "BYTES", [2, 1], ['"low"', "null"], "pd_json")).rows == [["low"], [None]]
    assert told(column("output-1", "FP64", [2, 2], [1, 2, 3, 4])) == Predicted([[1, 2], [3, 4]])
    frame = told(column("mean", "FP64", [2, 1], [1, 2]), column("deviation", "FP64", [2, 1], [3, 4]))
    assert frame == Predicted([[1, 3], [2, 4]], ("mean", "deviation"))


def test_nan_is_read_though_it_is_no_json() -> None:
    (first,), (second,) = INVOCATIONS.read(b'{"predictions": [NaN, 1.5]}').rows
    assert np.isnan(first)
    assert second == 1.5


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[1.5]", "does not answer with predictions"),
        (b"\xff", "does not answer with predictions"),
        (b'{"predictions": {"a": [1]}}', "does not answer with predictions"),
        (b'{"predictions": [[[1]]]}', "gives a list where"),
        (b'{"predictions": [{"a": 1}, {"b": 1}]}', "the same outputs for each row"),
        (b'{"predictions": [{"a": 1}, 2]}', "the same outputs for each row"),
    ],
)
def test_what_is_no_prediction_is_named(body: bytes, said: str) -> None:
    with pytest.raises(Mismatch, match=said):
        INVOCATIONS.read(body)


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ([], "without outputs"),
        ([column("a", "FP64", [2, 1], [1])], r"output a has 1 values, and its shape \[2, 1\] says otherwise"),
        ([column("a", "FP64", [], [1])], "says otherwise"),
        ([column("a", "FP64", [1], [1]), column("b", "FP64", [2], [1, 2])], "do not have as many rows"),
        ([column("a", "BYTES", [1], ["low"], "pd_json")], "output a is no JSON"),
        ([column("a", "BYTES", [1], ['{"b": 1}'], "pd_json")], "gives a dict where"),
        ([{"name": "a", "datatype": "FP64", "shape": [1]}], "does not answer with tensors of JSON"),
    ],
)
def test_tensors_that_are_no_predictions_are_named(outputs: list[Any], said: str) -> None:
    with pytest.raises(Mismatch, match=said):
        told(*outputs)


def test_values_are_scores() -> None:
    values = [1, 2.5, None, 2**24 + 1, 2**25, 1e300, 10**400]
    found = scores_of(Task.REGRESSION, (), (), predicted_of([[value] for value in values]))
    assert found.scores.dtype == np.float32
    assert found.scores.shape == (7,)
    assert found.scores[:2].tolist() == [1.0, 2.5]
    assert found.scores[4] == 2**25
    assert sorted(found.failures) == [2, 3, 5, 6]
    with pytest.raises(Mismatch, match="gives labels"):
        scores_of(Task.REGRESSION, (), (), predicted_of([[1.0], ["high"]]))


def test_several_values_are_a_score_each() -> None:
    outputs = ("mean", "deviation")
    found = scores_of(Task.MULTIOUTPUT, (), outputs, predicted_of([[1, 2], [3, None]], outputs))
    assert found.scores[0].tolist() == [1.0, 2.0]
    assert sorted(found.failures) == [1]
    assert scores_of(Task.MULTIOUTPUT, (), outputs, predicted_of([[1, 2]])).scores.tolist() == [[1.0, 2.0]]
    for rows, names, said in (
        ([[1]], (), r"gives 1 outputs a row, where 2 \(mean, deviation\) belongs"),
        ([[1, 2]], ("deviation", "mean"), r"gives 2 outputs a row \(deviation, mean\), where 2"),
        ([[1, "low"]], outputs, r"of its 2 outputs a row \(mean, deviation\) not all are numbers"),
        ([[1, 2], [1]], (), "as many outputs for each row"),
    ):
        with pytest.raises(Mismatch, match=said):
            scores_of(Task.MULTIOUTPUT, (), outputs, predicted_of(rows, names))
    with pytest.raises(Mismatch, match="gives 2 outputs a row, where one number or label belongs"):
        scores_of(Task.REGRESSION, (), (), predicted_of([[1, 2]]))


def test_the_predicted_label_has_all_of_the_score() -> None:
    found = scores_of(Task.BINARY, ("no", "yes"), (), predicted_of([["yes"], ["no"], ["maybe"]]))
    assert found.scores[:2].tolist() == [1.0, 0.0]
    assert found.failures == {2: "the model gave a label that is none of its 2"}
    found = scores_of(Task.MULTICLASS, (1, 2, 3), (), predicted_of([[3], [1]]))
    assert found.scores.tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    truths = predicted_of([[True], [1]])
    assert scores_of(Task.BINARY, (False, True), (), truths).failures.keys() == {1}, "1 is no truth value"
