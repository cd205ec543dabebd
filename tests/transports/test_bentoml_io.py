"""What BentoML's own clients are told to send: what the dialects take, whether rows are numbers or texts."""

from typing import Any

import msgspec
import pytest

from runners.inputs.rows import RowFormat
from shokado.dialects.batch import Batch
from shokado.dialects.native import Native
from shokado.dialects.single import Single
from shokado.transports.bentoml_io import descriptors_of
from tests.support.cards import NAMES
from tests.support.rows import dense_format, text_format

NUMBERS, TEXTS = dense_format(NAMES), text_format("message")
DIALECTS = (Native, Single, Batch)
OPTIONS = {"version", "model_version", "use_ab_testing", "unit", "user_id", "request_id"}
TEXT = {"type": "string"}
TEXT_ROW = [{"type": "object", "additionalProperties": TEXT}, {"type": "array", "items": TEXT}, TEXT]


def asked(dialect: Any, row_format: RowFormat) -> Any:
    return descriptors_of(dialect(row_format))["input_spec"].model_json_schema()


def rows_of(schema: Any) -> dict[str, Any]:
    """The fields for rows, as they come."""
    return {name: described for name, described in schema["properties"].items() if name not in OPTIONS}


def choices(described: Any) -> list[Any]:
    return [one for one in described.get("anyOf", [described]) if one != {"type": "null"}]


def test_rows_of_numbers_are_arrays() -> None:
    array = {"type": "tensor", "format": "numpy-array"}
    (single,) = rows_of(asked(Single, NUMBERS)).values()
    assert single.items() >= array.items()
    for dialect in (Native, Batch):
        schema = asked(dialect, NUMBERS)
        assert schema["required"] == ["instances"]
        (instances,) = rows_of(schema).values()
        assert (instances["type"], instances["items"]) == ("array", array)
        assert instances["description"] == "A row is a list of all features in their order, or an object by name."


def test_rows_of_a_text_are_texts_under_every_name_that_they_may_have() -> None:
    single = rows_of(asked(Single, TEXTS))
    assert {name: choices(described) for name, described in single.items()} == {"features": TEXT_ROW, "message": [TEXT]}
    (instances,) = rows_of(asked(Native, TEXTS)).values()
    assert instances["items"]["anyOf"] == TEXT_ROW
    batch = {name: choices(described)[0]["items"] for name, described in rows_of(asked(Batch, TEXTS)).items()}
    assert batch == {"instances": {"anyOf": TEXT_ROW}, "emails": TEXT, "texts": TEXT}
    for described in (single["features"], instances):
        assert described["description"] == "A row is a text: as it is, alone in a list, or an object by name."


@pytest.mark.parametrize("row_format", [NUMBERS, TEXTS], ids=["numbers", "a text"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_fields_are_those_of_the_dialect_rows_first(dialect: Any, row_format: RowFormat) -> None:
    made = dialect(row_format)
    fields = {field.encode_name for field in msgspec.structs.fields(made.body_of(row_format.row_type))}
    schema = asked(dialect, row_format)
    names = list(schema["properties"])
    assert set(names) == fields
    assert names[: len(rows_of(schema))] == list(rows_of(schema))
    answered = descriptors_of(made)["output_spec"].model_json_schema()
    assert list(answered["properties"]) == [field.name for field in msgspec.structs.fields(made.answer_type)]
