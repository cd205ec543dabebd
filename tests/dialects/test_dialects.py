"""The dialects beside the native one, each by itself: good bodies come out packed, bad ones are told in its shape."""

import json
import re
from typing import Any

import numpy as np
import pytest

from configuration.settings import PredictMethod
from runners.artefacts.card import Card, Task
from runners.inputs.rows import RowFormat
from shokado.dialects.addressed_rows import ActiveFeatures, SplitFeatures
from shokado.dialects.batch import Batch
from shokado.dialects.dialect import AnswerFacts, Dialect
from shokado.dialects.dialects import all_dialects
from shokado.dialects.head import RequestHead
from shokado.dialects.kserve_v1 import KServeV1
from shokado.dialects.mlflow import MLflow
from shokado.dialects.native import Native
from shokado.dialects.open_inference import OpenInference
from shokado.dialects.problem import Problem, problem_of
from shokado.dialects.single import Single
from tests.support.cards import NAMES, toy_card
from tests.support.problems import REFUSALS, refused_input
from tests.support.rows import dense_format, text_format
from tests.transports.predictions import FACTS, prediction

ROW_FORMAT = dense_format(NAMES, max_rows=3)
TEXTS = text_format("email_content", max_rows=3, max_text_characters=5)
NAMED = {"width": 2, "depth": 3, "height": 1}
CSV = RequestHead(content_type=b"text/csv")


def rows_of(
    dialect: type[Dialect],
    body: Any,
    head: RequestHead = RequestHead(),  # noqa: B008  # frozen
    of: RowFormat = ROW_FORMAT,
) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = dialect(of).decode(data, head)
    if isinstance(request.rows, list):
        return request.rows
    return np.frombuffer(request.rows, "<f4").reshape(request.row_count, -1).tolist()


def problem_in(dialect: type[Dialect], body: bytes) -> Problem | None:
    try:
        rows_of(dialect, body)
    except REFUSALS as refused:
        return problem_of(refused)
    return None


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        (ActiveFeatures, {"features": NAMED}),
        (Batch, {"instances": [NAMED]}),
        (KServeV1, {"instances": [NAMED]}),
        (KServeV1, {"instances": [[1, 2, 3]], "parameters": {}}),
        (MLflow, {"dataframe_split": {"columns": ["depth", "height", "width"], "index": [0], "data": [[3, 1, 2]]}}),
        (MLflow, {"dataframe_split": {"data": [[1, 2, 3]]}}),
        (MLflow, {"dataframe_records": [NAMED], "params": {"anything": 1}}),
        (MLflow, {"instances": [[1, 2, 3]]}),
        (MLflow, {"inputs": [[1, 2, 3]]}),
        (MLflow, {"inputs": [NAMED]}),
        (MLflow, {"inputs": {"depth": [3], "height": [1], "width": [2]}}),
    ],
)
def test_a_row_comes_out_packed_in_the_features_order(dialect: type[Dialect], body: Any) -> None:
    assert rows_of(dialect, body) == [[1, 2, 3]]


WITH_TRUTH = dense_format(NAMES, max_rows=3, booleans=["width"])


@pytest.mark.parametrize("columns", [[2, 0, 1], ["2", "0", "1"]])
def test_columns_of_a_table_may_have_numbers_for_names(columns: list[Any]) -> None:
    """`to_dict(orient="split")` of a frame that was made of an array has them, and MLflow's server takes them."""
    numbered = dense_format(("0", "1", "2"), max_rows=3)
    body = {"dataframe_split": {"columns": columns, "data": [[3, 1, 2]]}}
    assert rows_of(MLflow, body, of=numbered) == [[1, 2, 3]]


def _truths(where: int) -> list[tuple[type[Dialect], Any, RequestHead]]:
    """A row, in every way to write one, with true for the feature at that place."""
    values: list[Any] = [1, 2, 3]
    values[where] = True
    named = dict(zip(NAMES, values, strict=True))
    tensors = [
        {"name": name, "shape": [1], "datatype": "BOOL" if value is True else "FP32", "data": [value]}
        for name, value in named.items()
    ]
    table = ",".join(NAMES).encode() + b"\n" + ",".join(map(str, values)).encode()
    json_head = RequestHead()
    return [
        (Native, {"instances": [values]}, json_head),
        (Native, {"instances": [named]}, json_head),
        (Single, {"features": values}, json_head),
        (Single, {"features": named}, json_head),
        (Batch, {"instances": [named]}, json_head),
        (KServeV1, {"instances": [values]}, json_head),
        (MLflow, {"dataframe_records": [named]}, json_head),
        (MLflow, {"dataframe_split": {"columns": NAMES, "data": [values]}}, json_head),
        (MLflow, {"instances": [values]}, json_head),
        (MLflow, {"inputs": {name: [value] for name, value in named.items()}}, json_head),
        (MLflow, table, CSV),
        (MLflow, table.lower(), CSV),
        (OpenInference, {"inputs": tensors}, json_head),
        (OpenInference, {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": values}]}, json_head),
    ]


@pytest.mark.parametrize(("dialect", "body", "head"), _truths(1))
def test_a_truth_value_of_a_boolean_feature_is_1(dialect: type[Dialect], body: Any, head: RequestHead) -> None:
    assert rows_of(dialect, body, head, WITH_TRUTH) == [[1, 1, 3]]


@pytest.mark.parametrize(("dialect", "body", "head"), _truths(2))
def test_a_truth_value_elsewhere_is_refused_in_the_same_words(
    dialect: type[Dialect], body: Any, head: RequestHead
) -> None:
    for row_format in (WITH_TRUTH, ROW_FORMAT):
        with refused_input() as refused:
            rows_of(dialect, body, head, row_format)
        assert (refused.value.status, refused.value.code) == (422, "not_a_number")
        assert refused.value.message == "row 0, feature 'depth': true where a number belongs"


def _written(value: str) -> list[tuple[type[Dialect], str]]:
    """Two rows in every dialect and form of JSON, the second with this value for the feature `width`."""
    rows = f"[[1, 2, 3], [1, {value}, 3]]"
    names = '["height", "width", "depth"]'
    named = f'{{"height": 1, "width": {value}, "depth": 3}}'
    columns = f'{{"height": [1, 1], "width": [2, {value}], "depth": [3, 3]}}'
    tensors = [
        f'{{"name": "{name}", "shape": [2], "datatype": "{kind}", "data": [1, {value if name == "width" else 1}]}}'
        for name, kind in zip(NAMES, ("FP32", "INT64", "FP64"), strict=True)
    ]
    tensor = '{"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": %s}]}'
    return [
        (Native, f'{{"instances": {rows}}}'),
        (Single, f'{{"features": {named}}}'),
        (ActiveFeatures, f'{{"features": [1, {value}, 3]}}'),
        (Batch, f'{{"instances": {rows}}}'),
        (KServeV1, f'{{"instances": {rows}}}'),
        (MLflow, f'{{"dataframe_split": {{"columns": {names}, "data": {rows}}}}}'),
        (MLflow, f'{{"dataframe_split": {{"data": {rows}}}}}'),
        (MLflow, f'{{"dataframe_records": [{named}]}}'),
        (MLflow, f'{{"inputs": {columns}}}'),
        (OpenInference, tensor % rows),
        (OpenInference, tensor % f"[1, 2, 3, 1, {value}, 3]"),
        (OpenInference, f'{{"inputs": [{", ".join(tensors)}]}}'),
    ]


NO_MISSING = "the model takes no missing values, so fill it in"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("NaN", f"the value is NaN; {NO_MISSING}"),
        ("Infinity", "the value is infinite; send a finite number"),
        ("-Infinity", "the value is infinite; send a finite number"),
        ("1e999", "the value is infinite; send a finite number"),
        ("null", f"null where a number belongs; {NO_MISSING}"),
        ('""', f"an empty text where a number belongs; {NO_MISSING}"),
        ('"NaN"', f"the text 'NaN' where a number belongs; {NO_MISSING}"),
        ('"-inf"', "the text '-inf' where a number belongs; send a finite number"),
        ('"1.5"', "the text '1.5' where a number belongs; send the number itself, without quotes"),
        ("[1]", "a list where a number belongs"),
        ('{"a": 1}', "an object where a number belongs"),
    ],
)
def test_every_dialect_says_where_the_bad_value_is_and_what_to_send_instead(value: str, says: str) -> None:
    for dialect, body in _written(value):
        with refused_input() as refused:
            rows_of(dialect, body.encode())
        row = 0 if dialect in (Single, ActiveFeatures) or "records" in body else 1
        assert (refused.value.status, refused.value.detail["row"]) == (422, row), body
        assert refused.value.message == f"row {row}, feature 'width': {says}", body


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ('{"instances": {"height": 1}}', 422, "the field 'instances' is an object; a list of rows belongs there"),
        ('{"instances": NaN}', 422, "the field 'instances' is NaN; a list of rows belongs there"),
        ('{"instances": [[1, 2, 3]], "unit": NaN}', 400, "unit: the number is NaN or infinite, which JSON has not"),
    ],
)
def test_what_is_no_list_of_rows_is_told_by_its_field(body: str, status: int, says: str) -> None:
    with refused_input() as refused:
        rows_of(Native, body.encode())
    assert (refused.value.status, refused.value.message) == (status, says)


@pytest.mark.parametrize("table", [b"1,2,3\n", b"1,2,3\n4,5,6\n", b"0,1,2\n1,2,3\n", b"height;width;depth\n1;2;3\n"])
def test_a_table_without_a_header_is_told_what_belongs_there(table: bytes) -> None:
    with refused_input(r"first line .* names no feature; .* commas: height,width,depth") as refused:
        rows_of(MLflow, table, CSV)
    assert (refused.value.status, refused.value.code) == (422, "missing_header")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (b",height,width,depth\n0,1,2,3\n", r"a column of the table has no name; .* to_csv\(index=False\)"),
        (b"height,width,depth\n1,2,3\n1,2\n", "row 1 has 2 values for 3 columns"),
        (b"height,width,depth\n1,2,3,4\n", "row 0 has 4 values for 3 columns"),
        (b"height,width,depth\n1,,3\n", f"row 0, feature 'width': an empty text .*; {NO_MISSING}"),
        (b"height,width,depth\n1,nan,3\n", f"row 0, feature 'width': the value is NaN; {NO_MISSING}"),
        (b"height,width,depth\n1,-inf,3\n", "row 0, feature 'width': the value is infinite; send a finite number"),
    ],
)
def test_a_table_is_told_where_it_is_wrong(table: bytes, says: str) -> None:
    with refused_input(says) as refused:
        rows_of(MLflow, table, CSV)
    assert refused.value.status == 422


def test_half_a_character_beside_the_rows_is_told_by_its_field() -> None:
    for dialect, rows in ((Native, '"instances": [[1, 2, 3]]'), (Single, '"features": [1, 2, 3]')):
        with refused_input("unit: the text holds half a surrogate pair") as refused:
            rows_of(dialect, f'{{{rows}, "unit": "\\ud800x"}}'.encode())
        assert refused.value.status == 422


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        (Native, '{"instances": [[1, 2, 3]], "unit": "u"}'),
        (Single, '{"features": {"width": 2, "depth": 3, "height": 1}, "user_id": "u"}'),
        (ActiveFeatures, '{"features": [1, 2, 3]}'),
        (Batch, '{"instances": [{"width": 2, "depth": 3, "height": 1}], "model_version": "v1"}'),
        (KServeV1, '{"instances": [[1, 2, 3]], "parameters": {"a": "b"}}'),
        (MLflow, '{"dataframe_split": {"columns": ["width", "depth", "height"], "data": [[3, 1, 2]]}}'),
        (MLflow, '{"inputs": {"width": [3], "depth": [1], "height": [2]}, "params": {"a": "b"}}'),
        (
            OpenInference,
            '{"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}], "id": "7"}',
        ),
        (
            OpenInference,
            '{"inputs": [], "outputs": [{"name": "predictions", "parameters": {"classification": 1}}]}',
        ),
    ],
)
def test_half_a_character_anywhere_is_no_more_than_a_bad_body(dialect: type[Dialect], body: str) -> None:
    """In each name and text, and in place of each value, of numbers and of lists."""
    half = "\\ud800"
    places = [(match.start() + 1, match.start() + 1, half) for match in re.finditer(r'"[^"]*"', body)]
    places += [(*match.span(), f'"{half}"') for match in re.finditer(r'"[^"]*"(?!:)|\d+(?![^",]*")|\[[^][]*\]', body)]
    for start, end, put in [*places, (0, len(body), f'"{half}"')]:
        bad = body[:start] + put + body[end:]
        problem = problem_in(dialect, bad.encode())
        assert problem is None or problem.status in (400, 422), bad
        assert problem is None or json.dumps([problem.message, problem.detail], ensure_ascii=False).encode(), bad


@pytest.mark.parametrize(
    "body",
    [b"width,depth,height\n2,3,1\n", b"\xef\xbb\xbfwidth,depth,height\r\n2,3,1", b'"width","depth",height\n2,3e0,1'],
)
def test_a_table_of_csv_has_its_columns_in_any_order(body: bytes) -> None:
    assert rows_of(MLflow, body, CSV) == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed_body"),
        (b"\xff", 400, "malformed_body"),
        (b'"width', 400, "malformed_body"),
        (b"width,depth,height\n", 422, "no_rows"),
        (b"width,depth\n1,2\n", 422, "missing_feature"),
        (b"width,depth,colour\n1,2,3\n", 422, "unknown_feature"),
        (b"width,width,height\n1,2,3\n", 422, "repeated_column"),
        (b"width,depth,height\n1,2\n", 422, "wrong_feature_count"),
        (b"width,depth,height\n1,x,3\n", 422, "not_a_number"),
        (b"width,depth,height\n1,,3\n", 422, "not_a_number"),
        (b"width,depth,height\n1,1_0,3\n", 422, "not_a_number"),
        (b"width,depth,height\n1,nan,3\n", 422, "not_finite"),
        (b"width,depth,height\n1,1e999,3\n", 422, "not_finite"),
        (b"width,depth,height\n" + b"1,2,3\n" * 4, 413, "too_many_rows"),
    ],
)
def test_a_bad_table_is_a_problem(body: bytes, status: int, code: str) -> None:
    with refused_input() as refused:
        rows_of(MLflow, body, CSV)
    assert (refused.value.status, refused.value.code) == (status, code)


@pytest.mark.parametrize(
    ("dialect", "body", "code"),
    [
        (Batch, {"instances": []}, "no_rows"),
        (Batch, {"instances": [[1, 2]]}, "wrong_feature_count"),
        (Batch, {"rows": []}, "missing_field"),
        (KServeV1, {"instances": [{"width": 1}]}, "missing_feature"),
        (KServeV1, {}, "missing_field"),
        (MLflow, {}, "missing_field"),
        (MLflow, {"inputs": [[1, 2, 3]], "instances": [[1, 2, 3]]}, "conflicting_fields"),
        (MLflow, {"inputs": {"width": [1], "depth": [1, 2], "height": [1]}}, "wrong_type"),
        (MLflow, {"inputs": {"width": ["x"], "depth": [1], "height": [1]}}, "not_a_number"),
        (MLflow, {"dataframe_split": {"columns": list(NAMES), "data": [[1, 2]]}}, "wrong_feature_count"),
        (MLflow, {"dataframe_split": {"columns": list(NAMES), "data": [[1, 2, None]]}}, "not_a_number"),
        (MLflow, {"dataframe_split": {"data": []}}, "no_rows"),
    ],
)
def test_a_bad_body_is_a_problem(dialect: type[Dialect], body: Any, code: str) -> None:
    with refused_input() as refused:
        rows_of(dialect, body)
    assert (refused.value.status, refused.value.code) == (422, code)


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        (Single, {"email_content": "hi"}),
        (Single, {"features": "hi"}),
        (Single, {"features": ["hi"]}),
        (Single, {"features": {"email_content": "hi"}, "use_ab_testing": False}),
        (ActiveFeatures, {"email_content": "hi"}),
        (Batch, {"emails": ["hi"]}),
        (Batch, {"texts": ["hi"]}),
        (Batch, {"instances": ["hi"]}),
        (Batch, {"instances": [{"email_content": "hi"}], "model_version": "v1"}),
        (KServeV1, {"instances": ["hi"]}),
        (MLflow, {"dataframe_records": [{"email_content": "hi"}]}),
        (MLflow, {"dataframe_split": {"columns": ["email_content"], "data": [["hi"]]}}),
        (MLflow, {"inputs": {"email_content": ["hi"]}}),
    ],
)
def test_a_text_comes_out_as_it_is(dialect: type[Dialect], body: Any) -> None:
    assert rows_of(dialect, body, of=TEXTS) == ["hi"]


def test_a_table_of_texts_is_read() -> None:
    assert rows_of(MLflow, b'email_content\n"a,\nb"\n1.5\n', CSV, TEXTS) == ["a,\nb", "1.5"]


@pytest.mark.parametrize(
    ("dialect", "body", "code", "where"),
    [
        (Single, {}, "missing_field", {"field": "email_content"}),
        (Single, {"use_ab_testing": True}, "missing_field", {"field": "email_content"}),
        (Single, {"email_content": 1}, "not_a_text", {"row": 0, "feature": "email_content"}),
        (Single, {"features": [1]}, "not_a_text", {"row": 0, "feature": "email_content"}),
        (Single, {"email_content": "hi", "features": "hi"}, "repeated_field", {"field": "features"}),
        (Batch, {}, "missing_field", {"field": "instances"}),
        (Batch, {"emails": ["a", 2]}, "not_a_text", {"row": 1, "feature": "email_content"}),
        (Batch, {"emails": ["a"], "texts": ["a"]}, "repeated_field", {"field": "texts"}),
        (Batch, {"texts": []}, "no_rows", {}),
    ],
)
def test_a_bad_text_is_a_problem(dialect: type[Dialect], body: Any, code: str, where: dict[str, Any]) -> None:
    with refused_input() as refused:
        rows_of(dialect, body, of=TEXTS)
    assert (refused.value.status, refused.value.code, refused.value.detail) == (422, code, where)


def test_the_active_version_or_the_split_is_asked_for() -> None:
    body = json.dumps({"features": [1, 2, 3]}).encode()
    assert ActiveFeatures(ROW_FORMAT).decode(body, RequestHead()).split is False
    assert SplitFeatures(ROW_FORMAT).decode(body, RequestHead()).split is True


def test_a_batch_tells_each_row_and_the_totals() -> None:
    _, body = Batch(ROW_FORMAT).encode(prediction(toy_card(), [0.25, 0.75, 1.0]), RequestHead(), FACTS)
    content = json.loads(body)
    assert [item["index"] for item in content["predictions"]] == [0, 1, 2]
    assert [item["confidence"] for item in content["predictions"]] == [0.75, 0.75, 1.0]
    assert (content["total"], content["class_counts"], content["model_version"]) == (3, {"0": 1, "1": 2}, "v1")
    _, body = Batch(ROW_FORMAT).encode(prediction(toy_card(Task.REGRESSION, ()), [17.5]), RequestHead(), FACTS)
    assert "class_counts" not in json.loads(body)
    several = prediction(toy_card(Task.MULTIOUTPUT, ()), [[17.5, 2.0], [1.0, 0.0]])
    content = json.loads(Batch(ROW_FORMAT).encode(several, RequestHead(), FACTS)[1])
    assert [item["prediction"] for item in content["predictions"]] == [[17.5, 2.0], [1.0, 0.0]]
    assert not {"class_counts"} & set(content) | {"prediction_class", "confidence"} & set(content["predictions"][0])


def test_a_batch_of_several_labels_tells_how_many_rows_have_each() -> None:
    labels = prediction(toy_card(Task.MULTILABEL, ("no", "yes")), [[0.25, 0.75], [0.5, 0.0], [1.0, 1.0]])
    content = json.loads(Batch(ROW_FORMAT).encode(labels, RequestHead(), FACTS)[1])
    assert [item["prediction"] for item in content["predictions"]] == [[0.25, 0.75], [0.5, 0.0], [1.0, 1.0]]
    classes = [item["prediction_class"] for item in content["predictions"]]
    assert classes == [["no", "yes"], ["no", "no"], ["yes", "yes"]]
    assert content["class_counts"] == {"loud": 1, "old": 2}


@pytest.mark.parametrize(
    "card", [toy_card(Task.MULTIOUTPUT, ()), toy_card(Task.MULTILABEL)], ids=lambda card: card.task
)
def test_kserves_route_gives_lists_of_several_scores(card: Card) -> None:
    several = prediction(card, [[0.5, 0.25], [1.0, 0.0]])
    assert json.loads(KServeV1(ROW_FORMAT).encode(several, RequestHead(), FACTS)[1]) == {
        "predictions": [[0.5, 0.25], [1.0, 0.0]]
    }


PROBA = {"predict_method": "predict_proba"}


def invoked(card: Card, scores: list[Any], method: PredictMethod = PredictMethod.PREDICT, **fields: Any) -> Any:
    """The predictions of MLflow's route, set to a method and asked with these fields beside the rows."""
    dialect = MLflow(ROW_FORMAT, method)
    request = dialect.decode(json.dumps({"instances": [[1, 2, 3]], **fields}).encode(), RequestHead())
    facts = AnswerFacts("request-1", "prediction-1", 1.25, request.answer_options)
    return json.loads(dialect.encode(prediction(card, scores), RequestHead(), facts)[1])["predictions"]


def test_mlflows_route_predicts_in_the_models_own_words() -> None:
    binary = toy_card(classes=("stays", "leaves"))
    assert invoked(binary, [0.5, 0.75]) == ["stays", "leaves"]
    assert invoked(binary, [0.75], PredictMethod.PREDICT_PROBA) == [[0.25, 0.75]]
    assert invoked(binary, [0.75], PredictMethod.PREDICT_PROBA, params={"predict_method": "predict"}) == ["leaves"]
    assert invoked(binary, [0.75], params=PROBA) == [[0.25, 0.75]]
    named_by_number = toy_card(Task.MULTICLASS, ("a", "b", "c")).model_copy(update={"own_classes": (0, 1, 2)})
    assert invoked(named_by_number, [[0.25, 0.5, 0.25]]) == [1]
    assert invoked(named_by_number, [[0.25, 0.5, 0.25]], params=PROBA) == [[0.25, 0.5, 0.25]]


def test_mlflows_route_gives_values_where_there_are_no_classes() -> None:
    regression = toy_card(Task.REGRESSION, ())
    assert invoked(regression, [17.5], PredictMethod.PREDICT_PROBA) == [17.5]
    with refused_input("a regression model has no predict_proba; predict is understood") as refused:
        invoked(regression, [17.5], params=PROBA)
    assert refused.value.status == 422
    several = toy_card(Task.MULTIOUTPUT, ())
    assert invoked(several, [[17.5, 2.0]], PredictMethod.PREDICT_PROBA) == [[17.5, 2.0]]
    with refused_input("a multioutput model has no predict_proba; predict is understood"):
        invoked(several, [[17.5, 2.0]], params=PROBA)


def test_mlflows_route_gives_a_list_of_several_labels() -> None:
    labels = toy_card(Task.MULTILABEL)
    assert invoked(labels, [[0.25, 0.75], [1.0, 0.0]]) == [[0, 1], [1, 0]]
    assert invoked(labels, [[0.25, 0.75]], params=PROBA) == [[0.25, 0.75]]
    assert invoked(labels.model_copy(update={"predicts": "scores"}), [[0.25, 0.75]]) == [[0.25, 0.75]]


def test_mlflows_route_gives_labels_where_there_are_no_probabilities() -> None:
    margin, anomaly = toy_card(Task.BINARY_MARGIN, ("no", "yes")), toy_card(Task.ANOMALY, (-1, 1))
    assert invoked(margin, [-0.5, 3.0]) == invoked(margin, [-0.5, 3.0], PredictMethod.PREDICT_PROBA) == ["no", "yes"]
    assert invoked(anomaly, [-0.5, 0.0]) == [-1, 1]
    with refused_input("an anomaly model has no predict_proba; predict is understood") as refused:
        invoked(anomaly, [0.5], params=PROBA)
    assert refused.value.code == "unknown_predict_method"
    content = json.loads(Batch(ROW_FORMAT).encode(prediction(anomaly, [-0.5, 0.0, 1.0]), RequestHead(), FACTS)[1])
    assert content["class_counts"] == {"-1": 1, "1": 2}
    assert [item["prediction_class"] for item in content["predictions"]] == [-1, 1, 1]
    assert not any("confidence" in item for item in content["predictions"])


def test_a_method_that_there_is_not_is_refused_with_those_there_are() -> None:
    message = "params: there is no predict_method 'transform'; predict and predict_proba are understood"
    with refused_input(message) as refused:
        invoked(toy_card(), [0.5], params={"predict_method": "transform"})
    assert (refused.value.status, refused.value.code) == (422, "unknown_predict_method")
    with refused_input("predict_method"):
        invoked(toy_card(), [0.5], params={"predict_method": 1})


def test_errors_have_the_shape_of_the_dialect() -> None:
    problem = Problem("not_finite", "row 0 is bad")
    assert json.loads(KServeV1(ROW_FORMAT).refuse(problem, "r")) == {"error": "row 0 is bad"}
    mlflow = MLflow(ROW_FORMAT)
    assert json.loads(mlflow.refuse(problem, "r")) == {"error_code": "BAD_REQUEST", "message": "row 0 is bad"}
    assert json.loads(mlflow.refuse(Problem("internal", "x"), "r"))["error_code"] == "INTERNAL_ERROR"


@pytest.mark.parametrize("dialect", all_dialects(ROW_FORMAT), ids=lambda dialect: str(dialect.path))
@pytest.mark.parametrize(
    "card", [toy_card(), toy_card(Task.ANOMALY, (-1, 1)), toy_card(Task.MULTILABEL)], ids=lambda card: card.task
)
def test_every_described_example_is_understood(card: Card, dialect: Dialect) -> None:
    for content_type, content in dialect.describe(card).takes.items():
        for value in content.examples.values():
            body = value if isinstance(value, str) else json.dumps(value)
            assert dialect.decode(body.encode(), RequestHead(content_type=content_type.encode())).row_count >= 1
