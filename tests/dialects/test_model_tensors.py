"""The tensors of a model, by its task."""

import numpy as np
import pytest

from runners.artefacts.card import Card, Task
from runners.inputs.schema import Feature
from shokado.dialects.model_tensors import WantedOutput, chosen_outputs, input_tensors, output_tensors, values_of
from shokado.dialects.problem import Problem
from tests.support.cards import toy_card
from tests.transports.predictions import prediction

BINARY = toy_card()
LABELS = toy_card(Task.MULTICLASS, ("a", "b", "c"))
VALUE = toy_card(Task.REGRESSION, ())
SEVERAL = toy_card(Task.MULTIOUTPUT, ())
TAGS = toy_card(Task.MULTILABEL)
MARGINS, ANOMALY = toy_card(Task.MULTICLASS_MARGIN, ("a", "b", "c")), toy_card(Task.ANOMALY, (-1, 1))


def shown(card: Card) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(tensor.name, tensor.datatype, tensor.shape) for tensor in output_tensors(card)]


def wanted(*names: str, top: int | None = None) -> list[WantedOutput]:
    return [WantedOutput(name, top) for name in names]


def test_a_model_gives_what_its_task_has() -> None:
    assert shown(BINARY) == [("predictions", "FP32", (-1,)), ("classes", "INT64", (-1,))]
    assert shown(LABELS) == [("predictions", "FP32", (-1, 3)), ("classes", "BYTES", (-1,))]
    assert shown(toy_card(classes=(0, "many"))) == [("predictions", "FP32", (-1,)), ("classes", "BYTES", (-1,))]
    assert shown(VALUE) == [("predictions", "FP32", (-1,))]
    assert shown(SEVERAL) == [("predictions", "FP32", (-1, 2))]
    assert shown(MARGINS) == [("predictions", "FP32", (-1, 3)), ("classes", "BYTES", (-1,))]
    assert shown(TAGS) == [("predictions", "FP32", (-1, 2)), ("classes", "INT64", (-1, 2))]
    assert shown(ANOMALY) == [("predictions", "FP32", (-1,)), ("classes", "INT64", (-1,))]


def test_a_model_takes_a_matrix_or_texts() -> None:
    (matrix,) = input_tensors(BINARY)
    assert (matrix.name, matrix.datatype, matrix.shape) == ("input", "FP32", (-1, 3))
    (texts,) = input_tensors(BINARY.model_copy(update={"features": (Feature(name="message", type="text"),)}))
    assert (texts.name, texts.datatype, texts.shape) == ("message", "BYTES", (-1,))


def test_outputs_come_in_the_order_that_they_are_asked_for() -> None:
    chosen = chosen_outputs(BINARY, wanted("classes", "predictions"))
    assert [tensor.name for tensor in chosen] == ["classes", "predictions"]
    assert chosen_outputs(BINARY, []) == output_tensors(BINARY)


@pytest.mark.parametrize(
    ("of", "names", "says"),
    [
        (BINARY, ["logits"], "no output 'logits'; there are predictions, classes"),
        (VALUE, ["classes"], "no output 'classes'; there are predictions"),
        (BINARY, ["classes", "classes"], "twice"),
    ],
)
def test_an_output_that_is_not_there_or_named_twice_is_refused(of: Card, names: list[str], says: str) -> None:
    with pytest.raises(Problem, match=says) as caught:
        chosen_outputs(of, wanted(*names))
    assert caught.value.status == 400


def test_values_are_scores_and_labels() -> None:
    made = prediction(LABELS, [[0.25, 0.5, 0.25]])
    scores, labels = (values_of(tensor, made) for tensor in output_tensors(LABELS))
    assert (scores.tolist(), labels) == ([[0.25, 0.5, 0.25]], ["b"])
    assert values_of(output_tensors(BINARY)[1], prediction(BINARY, [0.25, 0.75])) == [0, 1]
    tags = toy_card(Task.MULTILABEL, ("no", "yes"))
    assert values_of(output_tensors(tags)[1], prediction(tags, [[0.25, 0.75]])) == [["no", "yes"]]
    mixed = toy_card(classes=(0, "many"))
    assert values_of(output_tensors(mixed)[1], prediction(mixed, [0.25, 0.75])) == ["0", "many"]


@pytest.mark.parametrize(("top", "width"), [(1, 1), (3, 3), (2**70, 3)])
def test_classifications_are_texts_of_no_more_classes_than_there_are(top: int, width: int) -> None:
    (tensor,) = chosen_outputs(LABELS, wanted("predictions", top=top))
    assert (tensor.datatype, tensor.shape) == ("BYTES", (-1, width))
    values = values_of(tensor, prediction(LABELS, [[0.25, 0.5, 0.25]]))
    assert values.tolist() == [["0.5:1:b", "0.25:0:a", "0.25:2:c"][:width]]


def test_classifications_have_the_best_first_with_all_digits() -> None:
    binary = toy_card(classes=("no", "yes"))
    (tensor,) = chosen_outputs(binary, wanted("predictions", top=2))
    found = values_of(tensor, prediction(binary, [0.75, 0.25, 0.5, 1e-9])).tolist()
    assert found[:3] == [["0.75:1:yes", "0.25:0:no"], ["0.75:0:no", "0.25:1:yes"], ["0.5:0:no", "0.5:1:yes"]]
    assert np.float32(found[3][1].split(":")[0]) == np.float32(1e-9)


@pytest.mark.parametrize(
    ("of", "name", "says"),
    [
        (VALUE, "predictions", "output 'predictions': .* a regression model gives values"),
        (SEVERAL, "predictions", "output 'predictions': .* a multioutput model gives values"),
        (TAGS, "predictions", "output 'predictions': .* a multilabel model gives several labels"),
        (MARGINS, "predictions", "output 'predictions': .* a multiclass_margin model gives no probabilities"),
        (ANOMALY, "predictions", "output 'predictions': .* an anomaly model gives no probabilities"),
        (LABELS, "classes", "output 'classes': .* ask for that of predictions"),
    ],
)
def test_a_classification_of_what_has_no_scores_of_classes_is_refused(of: Card, name: str, says: str) -> None:
    with pytest.raises(Problem, match=says) as caught:
        chosen_outputs(of, wanted(name, top=1))
    assert (caught.value.status, caught.value.code) == (400, "no_classification")
