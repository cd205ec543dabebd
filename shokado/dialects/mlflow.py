"""MLflow's scoring protocol, which SageMaker speaks as well: `POST /invocations`.

In: JSON with exactly one of `dataframe_split`, `dataframe_records`, `instances` and `inputs` (rows, or an object of
columns), or `text/csv` with a header line that has the names in any order. `params` may say `predict_method`; other
fields are ignored, as MLflow ignores them where a model has no parameters. Out: `{"predictions": [..]}`, what MLflow's
own server gives, or probabilities. Errors: `{"error_code", "message"}`.
Source: https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, Any, Generic, Self

import msgspec

from configuration.settings import DialectSettings, PredictMethod
from runners.artefacts.card import Card
from runners.artefacts.scores import as_model_predicts, probabilities_of
from runners.inputs.faults import InputFault, too_many_rows
from runners.inputs.rows import RowReader
from runners.inputs.union import UnionRows
from runners.inputs.wording import legible
from shokado.dialects.dialect import JSON_LINES, AnswerFacts, Content, Description, Dialect
from shokado.dialects.examples import json_examples
from shokado.dialects.head import JSON, RequestHead
from shokado.dialects.json_rows import AnyRow, explain_body, refuse_excess, truth_reader
from shokado.dialects.json_text import LONG_BYTES
from shokado.dialects.native import unsupported_type
from shokado.dialects.problem import Problem, invalid, malformed
from shokado.dispatch.request import Prediction, PredictionRequest

CSV = b"text/csv"
FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_CODES = {404: "RESOURCE_DOES_NOT_EXIST", 429: "REQUEST_LIMIT_EXCEEDED", 503: "TEMPORARILY_UNAVAILABLE"}


class SplitFrame(msgspec.Struct):
    """A table as `DataFrame.to_dict(orient="split")` gives it; without columns they are in the features' order.

    Columns of a frame that was made of an array have numbers for names.
    """

    data: list[list[Any]]
    columns: list[str | int] | None = None

    @property
    def names(self) -> list[str] | None:
        return None if self.columns is None else list(map(str, self.columns))


_METHODS = [method.value for method in PredictMethod]


class InvocationParams(msgspec.Struct):
    """What a client wants of the predictions; parameters of other names are ignored."""

    predict_method: Annotated[str, msgspec.Meta(extra_json_schema={"enum": _METHODS})] | None = None
    """`predict`: labels or values, as MLflow's own server gives them; `predict_proba`: each class's probability."""


class InvocationBody(msgspec.Struct, Generic[AnyRow]):
    """The JSON body, which has exactly one of these, and may have `params`."""

    dataframe_split: SplitFrame | None = None
    dataframe_records: list[AnyRow] | None = None
    instances: list[AnyRow] | None = None
    inputs: list[AnyRow] | dict[str, list[Any]] | None = None
    params: InvocationParams | None = None


_MAX_COMMAS = 1024
"""Commas of a line of CSV, where a row has fewer: what a row has too many is then told by row."""
_MAX_BLANK_LINES = 1024
"""Blank lines that CSV may have beside as many as there may be rows."""
_NOTHING = msgspec.Raw(b"")


class LargeFrame(msgspec.Struct):
    """A `SplitFrame` whose rows are still JSON: there are too many for objects of each."""

    data: msgspec.Raw
    columns: list[str | int] | None = None


class LargeBody(msgspec.Struct):
    """An `InvocationBody` whose rows are still JSON."""

    dataframe_split: LargeFrame | None = None
    dataframe_records: msgspec.Raw = _NOTHING
    instances: msgspec.Raw = _NOTHING
    inputs: msgspec.Raw = _NOTHING
    params: InvocationParams | None = None


class InvocationAnswer(msgspec.Struct):
    """The JSON answer. `predictions` are what the model's own `predict` returns: labels, or values for regression and
    Boosters, lists of them where there are several a row, or the outputs of an ONNX model by their names; with
    `predict_proba`, lists of each class's probability, or of that of the second class of each label.
    """

    predictions: list[float | int | str | bool | list[float | int | str | bool] | dict[str, Any]] | dict[str, list[Any]]


class InvocationError(msgspec.Struct):
    """The JSON of an error."""

    error_code: str
    message: str


CellReader = Callable[[Sequence[str]], Callable[[Sequence[str]], list[Any]]]
"""Takes the names of a table's columns, and answers what reads its cells."""

_encode = msgspec.json.Encoder().encode
_decode_large = msgspec.json.Decoder(LargeBody).decode


class MLflow(Dialect):
    """Decode and encode of MLflow's route."""

    path = "/invocations"

    def __init__(self, row_format: RowReader, method: PredictMethod = PredictMethod.PREDICT) -> None:
        """`method` is for requests that do not name one."""
        super().__init__(row_format)
        self._method = method
        self._read_truths = truth_reader(row_format, lambda row: InvocationBody[row])  # type: ignore[valid-type]
        self._decode = msgspec.json.Decoder(InvocationBody[row_format.row_type]).decode  # type: ignore[name-defined]

    @classmethod
    def configured(cls, row_format: RowReader, settings: DialectSettings) -> Self:
        return cls(row_format, settings.invocations)

    def decode(self, body: bytes, head: RequestHead) -> PredictionRequest:
        method = None
        if head.content_type == JSON:
            refuse_excess(self.row_format, body)
            if len(body) >= self.row_format.large_bytes and (found := self._packed_of_large(body)) is not None:
                return found
            rows, method = self._rows_of_json(body)
        elif head.content_type == CSV:
            rows = self._rows_of_csv(body)
        else:
            raise unsupported_type(head, JSON, CSV)
        try:
            packed = self.row_format.pack_values(rows)
        except InputFault as fault:
            raise (self._fault_of_digits(body, head) if fault.code == "not_exact" else None) or fault from None
        if head.content_type == CSV:
            # Unlike JSON, CSV can say NaN and infinity.
            self.row_format.check_finite(packed)
        return PredictionRequest(packed, len(rows), answer_options=method)

    def _fault_of_digits(self, body: bytes, head: RequestHead) -> InputFault | None:
        """What is wrong with rows of which whole numbers have all the digits that were sent."""
        if head.content_type == CSV:
            return self.row_format.first_fault(self._rows_of_csv(body, self.row_format.reader_by_name))
        content = self._read_truths(body)
        found = next((value for name in FORMATS if (value := getattr(content, name, None)) is not None), None)
        return None if found is None else self.row_format.first_fault(self._in_rows(found))

    def _packed_of_large(self, body: bytes) -> PredictionRequest | None:
        """The request, if its rows are lists in the features' order and nothing is wrong."""
        try:
            content = _decode_large(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        given = [value for name in FORMATS if (value := getattr(content, name)) not in (None, _NOTHING)]
        if len(given) != 1:
            return None
        (rows,) = given
        if isinstance(rows, LargeFrame):
            if rows.columns is not None and not self._is_order(list(map(str, rows.columns))):
                return None
            rows = rows.data
        packed = self.row_format.pack_json(bytes(rows))
        return None if packed is None else PredictionRequest(*packed, answer_options=_method_of(content.params))

    def _is_order(self, names: Sequence[str]) -> bool:
        """Whether rows of these columns are those of rows without names; versions that differ have no one order."""
        return not isinstance(self.row_format, UnionRows) and tuple(names) == self.row_format.feature_names

    def _rows_of_json(self, body: bytes) -> tuple[Sequence[Any], PredictMethod | None]:
        """Rows, and the method that the body names."""
        try:
            content = self._decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            content = self._read_truths(body)
            if content is None:
                key = next((name for name in FORMATS if b'"%b"' % name.encode() in body), FORMATS[0])
                rows_in = partial(self._rows_in, key)
                raise explain_body(self.row_format, body, key, str(error), rows_in=rows_in) from None
        found = [value for name in FORMATS if (value := getattr(content, name)) is not None]
        if len(found) != 1:
            message = f"the body has {len(found)} of the fields {', '.join(FORMATS)}; exactly one belongs here"
            raise invalid("missing_field" if not found else "conflicting_fields", message)
        return self._in_rows(found[0]), _method_of(content.params)

    def _rows_in(self, key: str, given: Any) -> Any:
        """The rows of a field that only could be read leniently; None if it is an object of another form."""
        form: Any = {"dataframe_split": SplitFrame, "inputs": dict[str, list[Any]]}.get(key)
        if not isinstance(given, dict) or form is None:
            return given
        try:
            return list(self._in_rows(msgspec.convert(given, form)))
        except (msgspec.ValidationError, UnicodeEncodeError):
            return None

    def _in_rows(self, given: Any) -> Sequence[Any]:
        match given:
            case SplitFrame() as frame:
                return frame.data if frame.names is None else self._in_order(frame.names, frame.data)
            case dict() as columns:
                if len({len(values) for values in columns.values()}) > 1:
                    raise invalid("wrong_type", "the columns have different lengths")
                if (count := max(map(len, columns.values()), default=0)) > self.row_format.max_rows:
                    raise too_many_rows(count, self.row_format.max_rows)
                return self._in_order(list(columns), list(map(list, zip(*columns.values(), strict=True))))
            case rows:
                return list(rows)

    def _rows_of_csv(self, body: bytes, reader: CellReader | None = None) -> Sequence[Any]:
        """Rows of the table, of which no more are read than a request may have."""
        reader = reader or self.row_format.cell_reader
        names: list[str] | None = None
        rows: list[list[Any]] = []
        read_cells = reader(())
        try:
            # A row's values stand in one line, but for texts.
            for row in csv.reader(self._lines_of(body), strict=True):
                if not row:
                    continue
                if names is None:
                    names, read_cells = row, reader(row)
                    continue
                if len(rows) == self.row_format.max_rows:
                    raise too_many_rows(f"more than {len(rows)}", len(rows))
                rows.append(read_cells(row))
        except (UnicodeDecodeError, csv.Error) as error:
            raise malformed(f"the body is not CSV: {error}") from None
        if names is None:
            raise malformed("the body is empty")
        self._check_header(names)
        return self._in_order(names, rows)

    def _check_header(self, names: Sequence[str]) -> None:
        """Raise `Problem` (422) where the first line is a row, is separated otherwise, or has a DataFrame's index."""
        features = self.row_format.feature_names
        if not set(names) & set(features):
            shown = ",".join(map(legible, names[:3]))[:100]
            message = (
                f"the first line of the table, {shown!r}, names no feature; "
                f"the names belong there, separated by commas: {','.join(features)}"
            )
            raise invalid("missing_header", message)
        if "" in names:
            message = "a column of the table has no name; pandas writes one for its index: to_csv(index=False) does not"
            raise invalid("unknown_feature", message, feature="")

    def _lines_of(self, body: bytes) -> Iterator[str]:
        """The lines of a table. Raises `Problem` (413) for one that is longer, or has more values, than any row."""
        names, characters = self.row_format.feature_names, self.row_format.max_text_characters
        most_commas = max(_MAX_COMMAS, len(names) + sum(name.count(",") for name in names))
        for number, line in enumerate(io.TextIOWrapper(io.BytesIO(body), "utf-8-sig", newline="")):
            if not characters and number > 2 * self.row_format.max_rows + _MAX_BLANK_LINES:
                raise malformed(f"the body is not CSV: {number} lines, most of them blank")
            if characters and len(line) > LONG_BYTES + 2 * characters:
                message = f"a line of the table has {len(line)} characters; at most {characters} are allowed in a text"
                raise Problem("text_too_long", message, {"limit": characters})
            if not characters and line.count(",") > most_commas:
                message = f"a line of the table has {line.count(',') + 1} values; the model takes {len(names)}"
                raise Problem("row_too_long", message, {"limit": len(names)})
            yield line

    def _in_order(self, names: Sequence[str], rows: Sequence[list[Any]]) -> Sequence[Any]:
        """Rows of values in the order of `names`, brought into that of the features, or by name where versions differ.

        Raises `Problem`.
        """
        for index, row in enumerate(rows):
            if len(row) != len(names):
                message = f"row {index} has {len(row)} values for {len(names)} columns"
                raise invalid("wrong_feature_count", message, row=index, expected=len(names), got=len(row))
        positions = {name: position for position, name in enumerate(names)}
        if len(positions) < len(names):
            raise invalid("repeated_column", "a column occurs twice")
        if isinstance(self.row_format, UnionRows):
            return [dict(zip(names, row, strict=True)) for row in rows]
        features = self.row_format.feature_names
        if positions.keys() != set(features):
            raise self.row_format.explain([dict(zip(names, row, strict=True)) for row in rows[:1]])
        if tuple(names) == features:
            return rows
        order = [positions[name] for name in features]
        return [[row[position] for position in order] for row in rows]

    def encode(self, prediction: Prediction, _head: RequestHead, facts: AnswerFacts) -> tuple[bytes, bytes]:
        card, scores = prediction.card, prediction.scores
        assert scores is not None
        method = facts.answer_options or self._method
        if method is PredictMethod.PREDICT or (not card.task.has_probabilities and facts.answer_options is None):
            return JSON_LINES, _encode(InvocationAnswer(as_model_predicts(card, scores)))
        if not card.task.has_probabilities:
            raise invalid("unknown_predict_method", f"{card.task.in_words} has no {method}; predict is understood")
        rows: list[Any] = probabilities_of(card, scores)
        return JSON_LINES, _encode(InvocationAnswer(rows))

    def refuse(self, problem: Problem, _request_id: str) -> bytes:
        code = _CODES.get(problem.status, "BAD_REQUEST" if problem.status < 500 else "INTERNAL_ERROR")
        return _encode(InvocationError(code, problem.message))

    def describe(self, card: Card) -> Description:
        named, listed = json_examples(card, self.row_format)
        names, values = list(named), list(named.values())
        table = io.StringIO()
        csv.writer(table).writerows([names, values])
        examples = {
            "split": {"dataframe_split": {"columns": names, "data": [values]}},
            "records": {"dataframe_records": [named]},
            "instances": {"instances": [listed]},
            "inputs as rows": {"inputs": [named]},
            "inputs as columns": {"inputs": {name: [value] for name, value in zip(names, values, strict=True)}},
        }
        if card.task.has_probabilities:
            examples["probabilities"] = {"instances": [listed], "params": {"predict_method": "predict_proba"}}
        body = InvocationBody[self.row_format.row_type]  # type: ignore[name-defined]
        return Description(
            "Score rows (MLflow, SageMaker)",
            {
                "application/json": Content(body, examples),
                "text/csv": Content({"type": "string"}, {"a table": table.getvalue()}),
            },
            {"application/json": Content(InvocationAnswer)},
            error=InvocationError,
        )


def _method_of(params: InvocationParams | None) -> PredictMethod | None:
    """The method that a request names. Raises `Problem` for one that there is not."""
    if params is None or params.predict_method is None:
        return None
    try:
        return PredictMethod(params.predict_method)
    except ValueError:
        named = params.predict_method[:100]
        message = f"params: there is no predict_method {named!r}; {' and '.join(_METHODS)} are understood"
        raise invalid("unknown_predict_method", message) from None
