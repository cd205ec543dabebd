"""Rows for versions that differ, in every dialect: each version reads and refuses what it does alone."""

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configuration.settings import LimitSettings
from runners.inputs.datatypes import BYTES
from runners.inputs.faults import InputFault
from runners.inputs.formats import row_format_of
from runners.inputs.precision import PRECISIONS
from runners.inputs.rows import RowReader
from runners.inputs.schema import Feature
from runners.inputs.union import OpenRows, format_of_versions
from shokado.dialects.batch import Batch
from shokado.dialects.head import RequestHead
from shokado.dialects.kserve_v1 import KServeV1
from shokado.dialects.mlflow import MLflow
from shokado.dialects.native import Native
from shokado.dialects.open_inference import OpenInference
from shokado.dialects.problem import Problem
from shokado.dialects.single import Single
from shokado.transports.grpc import open_inference_pb2 as messages
from shokado.transports.grpc.codec import ModelInfer
from tests.support.cards import make_card
from tests.support.problems import refused_input

AGE, CLASS = Feature(name="age"), Feature(name="class", type="integer")
AGES = Feature(name="age", nullable=True)
ALONE = Feature(name="alone", type="boolean")
VERSIONS: dict[str, tuple[Feature, ...]] = {
    "first": (AGE, CLASS),
    "more": (AGE, CLASS, ALONE, Feature(name="fare", nullable=True)),
    "levels": (Feature(name="sex", type="category", levels=("male", "female")), AGES),
    "others": (CLASS, Feature(name="sex", type="category", levels=("female", "NA", "male"), other=True), AGES),
    "gaps": (Feature(name="sex", type="category", levels=("male",), nullable=True, other=True), CLASS, AGE),
    "one": (AGES,),
}
NAMES = ("age", "class", "alone", "fare", "sex")
UNION = format_of_versions(VERSIONS["first"], VERSIONS, LimitSettings())
ALONE_FORMATS = {version: row_format_of(features) for version, features in VERSIONS.items()}
JSON, CSV = RequestHead(content_type=b"application/json"), RequestHead(content_type=b"text/csv")
Row = dict[str, Any]


def posted(dialect: Any, body: Any, row_format: RowReader, head: RequestHead = JSON) -> Any:
    return dialect(row_format).decode(body if isinstance(body, bytes) else json.dumps(body).encode(), head).rows


def table(row: Row) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([row.keys(), ["" if value is None else value for value in row.values()]])
    return text.getvalue().encode()


def tensors(row: Row) -> list[Row]:
    kinds = {"sex": BYTES, "alone": "BOOL"}
    return [
        {"name": name, "datatype": kinds.get(name, "FP64"), "shape": [1], "data": [value]}
        for name, value in row.items()
    ]


WAYS: dict[str, Callable[[Row, RowReader], Any]] = {
    "native": lambda row, of: posted(Native, {"instances": [row]}, of),
    "one row": lambda row, of: posted(Single, {"features": row}, of),
    "a batch": lambda row, of: posted(Batch, {"instances": [row]}, of),
    "KServe v1": lambda row, of: posted(KServeV1, {"instances": [row]}, of),
    "MLflow, records": lambda row, of: posted(MLflow, {"dataframe_records": [row]}, of),
    "MLflow, split": lambda row, of: posted(
        MLflow, {"dataframe_split": {"columns": [*row], "data": [[*row.values()]]}}, of
    ),
    "MLflow, columns": lambda row, of: posted(MLflow, {"inputs": {name: [value] for name, value in row.items()}}, of),
    "CSV": lambda row, of: posted(MLflow, table(row), of, CSV),
    "Open Inference": lambda row, of: posted(OpenInference, {"inputs": tensors(row)}, of),
}
NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**53), 2**53), st.sampled_from([None, "1.5", "?"])
)
VALUES = {
    "age": NUMBERS,
    "class": NUMBERS,
    "alone": st.sampled_from([True, False, 0, 1, None, "True"]),
    "fare": NUMBERS,
    "sex": st.sampled_from(["male", "female", "NA", "", "mal", "Zürich", None, 1, True]),
}
ROWS = st.fixed_dictionaries({"age": VALUES["age"]}, optional={name: VALUES[name] for name in NAMES[1:]})


def outcome(decode: Callable[[], Any]) -> Any:
    """The packed rows; or the fault, by code, row and feature."""
    try:
        return decode()
    except (InputFault, Problem) as fault:
        return fault.code, fault.detail.get("row"), fault.detail.get("feature")


def for_version(version: str, rows: Any) -> Any:
    assert isinstance(rows, OpenRows)
    packed, count = rows.packed_for(version, pinned=False)
    assert count == 1
    return bytes(packed)


@given(row=ROWS, version=st.sampled_from(sorted(VERSIONS)), way=st.sampled_from(sorted(WAYS)))
def test_a_version_reads_of_a_union_what_it_reads_alone(row: Row, version: str, way: str) -> None:
    own = ALONE_FORMATS[version]
    taken = {name: row[name] for name in row if name in own.feature_names}
    # Of two faults in a row of a table, a version alone tells the first in the order of its features.
    ways = (way, "native") if way in ("MLflow, split", "MLflow, columns") else (way,)
    alone = [outcome(lambda one=one: bytes(WAYS[one](taken, own))) for one in ways]  # type: ignore[misc]
    if way == "Open Inference" and len(taken) == 1 < len(own.feature_names):
        # Where versions agree, a lone tensor is a matrix, whatever its name.
        alone = [("missing_feature", None, next(name for name in own.feature_names if name not in taken))]
    assert outcome(lambda: for_version(version, WAYS[way](row, UNION))) in alone


def whole(**changes: Any) -> Row:
    return {"age": 1.5, "class": 2, "alone": True, "fare": 7, "sex": "male"} | changes


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("version", "packed"),
    [
        ("first", [1.5, 2]), ("more", [1.5, 2, 1, 7]), ("levels", [0, 1.5]), ("others", [2, 2, 1.5]),
        ("gaps", [0, 2, 1.5]), ("one", [1.5]),
    ],
)  # fmt: skip
def test_each_version_gets_its_own_columns(way: str, version: str, packed: list[float]) -> None:
    found = np.frombuffer(for_version(version, WAYS[way](whole(), UNION)), "<f4")
    assert found.tolist() == packed


@pytest.mark.parametrize("way", WAYS)
def test_a_name_that_no_version_knows_is_refused_before_there_is_one(way: str) -> None:
    with pytest.raises((InputFault, Problem)) as refused:
        WAYS[way](whole(height=1), UNION)
    fault: Any = refused.value
    assert fault.code == "unknown_feature"
    assert "'height'" in fault.message


@pytest.mark.parametrize("way", WAYS)
def test_a_lack_names_version_row_and_feature(way: str) -> None:
    row = {name: value for name, value in whole().items() if name != "fare"}
    with refused_input(r"version more: .*'fare'") as refused:
        for_version("more", WAYS[way](row, UNION))
    assert refused.value.code == "missing_feature"
    assert refused.value.detail["version"] == "more"


def test_grpc_reads_tensors_by_name() -> None:
    request = messages.ModelInferRequest(model_name="m")
    for name, value in whole().items():
        kind, field = {"sex": (BYTES, "bytes_contents"), "alone": ("BOOL", "bool_contents")}.get(
            name, ("FP64", "fp64_contents")
        )
        contents = {field: [value.encode() if isinstance(value, str) else value]}
        request.inputs.add(name=name, datatype=kind, shape=[1], contents=contents)
    rows = ModelInfer(UNION, request).decode(b"", JSON).rows
    assert np.frombuffer(for_version("others", rows), "<f4").tolist() == [2, 2, 1.5]
    del request.inputs[1]
    with refused_input(r"version first: the input of feature 'class' is missing"):
        for_version("first", ModelInfer(UNION, request).decode(b"", JSON).rows)


MATRIX = {"name": "input", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}
PACKED = np.array([[1, 2], [3, 4]], "<f4").tobytes()
OCTETS = b"application/octet-stream"
BINARY = RequestHead(content_type=OCTETS, columns=2)
UNNAMED: dict[str, Callable[[RowReader], Any]] = {
    "lists": lambda of: posted(Native, {"instances": [[1, 2], [3, 4]]}, of),
    "a batch of lists": lambda of: posted(Batch, {"instances": [[1, 2], [3, 4]]}, of),
    "a frame without columns": lambda of: posted(MLflow, {"dataframe_split": {"data": [[1, 2], [3, 4]]}}, of),
    "packed": lambda of: posted(Native, PACKED, of, BINARY),
    "a matrix": lambda of: posted(OpenInference, {"inputs": [MATRIX]}, of),
    "a packed matrix": lambda of: posted(
        OpenInference, PACKED, of, RequestHead(content_type=OCTETS, json_bytes=0, columns=2)
    ),
    "large lists": lambda of: posted(Native, {"instances": [[1, 2], [3, 4]] * 1000}, of),
    "a large frame": lambda of: posted(MLflow, {"dataframe_split": {"data": [[1, 2], [3, 4]] * 1000}}, of),
    "a large matrix": lambda of: posted(
        OpenInference, {"inputs": [MATRIX | {"shape": [2000, 2], "data": [1, 2, 3, 4] * 1000}]}, of
    ),
}


@pytest.mark.parametrize("way", UNNAMED)
def test_rows_without_names_are_the_first_versions(way: str) -> None:
    rows = UNNAMED[way](UNION)
    packed, count = rows.packed_for("first", pinned=False)
    assert (bytes(packed), count) == (bytes(UNNAMED[way](ALONE_FORMATS["first"])), 2000 if "large" in way else 2), way
    for version in VERSIONS.keys() - {"first"}:
        with refused_input("send rows by name, or name the version") as refused:
            rows.packed_for(version, pinned=False)
        assert refused.value.code == "names_needed"


@pytest.mark.parametrize("dialect", [Native, OpenInference])
def test_packed_rows_of_another_width_are_not_taken_for_more_of_the_first(dialect: Any) -> None:
    json_bytes = None if dialect is Native else 0
    bare, said = (RequestHead(content_type=OCTETS, columns=columns, json_bytes=json_bytes) for columns in (None, 4))
    versions = format_of_versions(
        VERSIONS["first"], {name: VERSIONS[name] for name in ("first", "more")}, LimitSettings()
    )
    wide = np.array([[1, 2, 0, 4], [3, 4, 1, 6]], "<f4").tobytes()
    rows = posted(dialect, wide, versions, bare)
    for version in ("first", "more"):
        with refused_input(r"32 bytes are rows of 8 bytes, and as well of 16, as version more takes them") as refused:
            rows.packed_for(version, pinned=False)
        assert refused.value.code == "names_needed"
    assert rows.packed_for("more", pinned=True)[1] == 2
    assert rows.packed_for("first", pinned=True)[1] == 4
    with refused_input(r"version first: the packed rows have 4 columns; the model takes 2") as refused:
        posted(dialect, wide, versions, said).packed_for("first", pinned=False)
    assert refused.value.code == "wrong_feature_count"
    assert posted(dialect, wide, versions, said).packed_for("more", pinned=True)[1] == 2
    assert posted(dialect, wide[:8], versions, bare).packed_for("first", pinned=False)[1] == 1, "none of the others"


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_packed_rows_of_another_precision_are_not_taken_for_more_of_the_first(dtype: str) -> None:
    wide = (Feature(name="age", precision="float64"), CLASS)
    versions = format_of_versions(VERSIONS["first"], {"first": VERSIONS["first"], "wide": wide}, LimitSettings())
    body = np.array([[1, 2], [3, 4]], dtype).tobytes()
    with refused_input("say columns=2 and dtype=float32 behind the content type") as refused:
        posted(Native, body, versions, BINARY).packed_for("first", pinned=False)
    assert refused.value.code == "names_needed"
    said = RequestHead(content_type=OCTETS, packed_as=PRECISIONS[np.dtype(dtype).name])
    for version in ("first", "wide"):
        packed, count = posted(Native, body, versions, said).packed_for(version, pinned=False)
        assert np.frombuffer(packed, {"first": "<f4", "wide": "<f8"}[version]).tolist() == [1, 2, 3, 4]
        assert count == 2


def test_a_binary_tensor_says_its_width() -> None:
    values = np.zeros((4, 4), "<f4").tobytes()
    tensor = {"name": "input", "datatype": "FP32", "shape": [4, 4], "parameters": {"binary_data_size": len(values)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    by_rest = posted(OpenInference, head + values, UNION, RequestHead(content_type=OCTETS, json_bytes=len(head)))
    request = messages.ModelInferRequest(model_name="m", raw_input_contents=[values])
    request.inputs.add(name="input", datatype="FP32", shape=[4, 4])
    for rows in (by_rest, ModelInfer(UNION, request).decode(b"", JSON).rows):
        assert rows.packed_for("more", pinned=True)[1] == 4
        with refused_input(r"version first: input 'input' has shape \[4, 4\]; \[rows, 2\] belongs here"):
            rows.packed_for("first", pinned=False)


@pytest.mark.parametrize("rows", [1, 2000])
@pytest.mark.parametrize("columns", [["age", "class"], ["class", "age"]])
def test_the_columns_of_a_frame_are_known_by_name_however_large_it_is(columns: list[str], rows: int) -> None:
    """Also where they are in the order of the first version, and the version that is named has another one."""
    turned = {"first": VERSIONS["first"], "turned": VERSIONS["first"][::-1]}
    versions = format_of_versions(VERSIONS["first"], turned, LimitSettings())
    data = [[{"age": 1.5, "class": 2}[name] for name in columns]] * rows
    found = posted(MLflow, {"dataframe_split": {"columns": columns, "data": data}}, versions)
    for version, expected in (("first", [1.5, 2]), ("turned", [2, 1.5])):
        packed, _ = found.packed_for(version, pinned=True)
        assert np.frombuffer(packed, "<f4").tolist() == expected * rows


def test_large_lists_for_a_version_that_is_named_have_its_order() -> None:
    turned = {"first": VERSIONS["first"], "turned": (CLASS, AGES)}
    versions = format_of_versions(VERSIONS["first"], turned, LimitSettings())
    found = posted(Native, {"instances": [[2, 1.5]] * 1000}, versions)
    for version in turned:
        packed, count = found.packed_for(version, pinned=True)
        assert (np.frombuffer(packed, "<f4").tolist(), count) == ([2, 1.5] * 1000, 1000)
    with refused_input(r"version more: row 0 has 2 values; the model takes 4"):
        posted(Native, {"instances": [[2, 1.5]] * 1000}, UNION).packed_for("more", pinned=True)
    with refused_input(r"version levels: row 0, feature 'sex': the number 2 where one of its"):
        posted(Native, {"instances": [[2, 1.5]] * 1000}, UNION).packed_for("levels", pinned=True)


def test_a_matrix_for_a_version_that_is_named_has_its_order() -> None:
    inputs = [{"name": "input", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 0, 4]}]
    rows = posted(OpenInference, {"inputs": inputs}, UNION)
    packed, _ = rows.packed_for("more", pinned=True)
    assert np.frombuffer(packed, "<f4").tolist() == [1, 2, 0, 4]
    with refused_input(r"version first: input 'input' has shape \[1, 4\]; \[rows, 2\] belongs here"):
        rows.packed_for("first", pinned=True)


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [{"age": NaN}]}',
        b'{"instances": [[1, [2]]]}',
        b'{"instances": [{"age": [1]}]}',
        b'{"instances": 1}',
    ],
)
def test_what_is_wrong_for_every_version_is_told_of_none(body: bytes) -> None:
    with pytest.raises((Problem, InputFault)) as refused:
        posted(Native, body, UNION)
    fault: Any = refused.value
    assert "version" not in fault.detail


def test_examples_of_the_description_are_for_every_version() -> None:
    card = make_card(
        features=[feature.model_dump() for feature in VERSIONS["first"]], examples={"rows": [[1, 2]], "scores": [0.5]}
    )
    for dialect in (Native, Single, Batch, KServeV1, MLflow, OpenInference):
        described = dialect(UNION).describe(card).takes["application/json"].examples
        of_names = ("records", "split", "a tensor for each feature", "the best two classes")
        named = [example for name, example in described.items() if "name" in name or name in of_names]
        assert named
        for example in named:
            rows = posted(dialect, example, UNION)
            for version in VERSIONS:
                rows.packed_for(version, pinned=False)
