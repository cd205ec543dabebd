"""The signature of a model that takes a text: a row is the text itself, a list of it alone, or an object with its name.

A text may be empty and may hold any character, NUL included: the model's tokenizer takes them all. It may not be
longer than the limit, nor hold half a surrogate pair, which no UTF-8 can say.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import UNSET
from numpy.typing import NDArray

from runners.inputs.rows import RequestRows
from shokado.dialects.json_text import is_unicode
from shokado.dialects.problem import Problem, invalid
from shokado.dialects.signature import Signature, kind_of

TextRow = str | list[str] | dict[str, str]


class TextSignature(Signature):
    """Packs and explains rows of one text of up to `max_text_characters`, up to `max_rows` a request."""

    row_type = TextRow

    def __init__(self, feature_name: str, max_rows: int, max_text_characters: int) -> None:
        super().__init__((feature_name,), max_rows)
        self.text_field = self._name = feature_name
        self.max_text_characters = max_text_characters

    def pack(self, rows: Sequence[TextRow]) -> list[str]:  # type: ignore[override]  # either is what a request takes
        """The texts of the rows. Raises `Problem` that names the first bad row."""
        self._check_count(len(rows))
        try:
            texts = [row if type(row) is str else self._text(row) for row in rows]
            if max(map(len, texts)) > self.max_text_characters:
                raise ValueError
            "".join(texts).encode()
        # An UnicodeEncodeError, for half a surrogate pair, is a ValueError as well.
        except (ValueError, TypeError, AttributeError):
            raise self.explain(rows) from None
        return texts

    def pack_values(self, rows: Sequence[Any]) -> RequestRows:
        """As `pack`: whatever is no text is refused."""
        return self.pack(rows)

    def check_binary(self, body: bytes | memoryview) -> int:  # noqa: ARG002
        """Refuse packed numbers. Raises `Problem`."""
        raise Problem("unsupported_media_type", "packed numbers are not understood here: the model takes a text")

    def is_large(self, body: bytes | memoryview) -> bool:  # noqa: ARG002
        """Never: texts are no numbers."""
        return False

    def pack_array(self, values: NDArray[Any]) -> memoryview:
        """Refuse numbers, which only come in tensors. Raises `Problem`."""
        problem = self.explain(values[:1].tolist())
        problem.message += "; send a tensor of BYTES"
        raise problem

    def _text(self, row: Any) -> str:
        (text,) = row if isinstance(row, list) else row.values()
        if not isinstance(text, str) or (isinstance(row, dict) and self._name not in row):
            raise TypeError
        return text

    def _fault(self, index: int, row: Any) -> Problem | None:
        if isinstance(row, list | dict):
            return super()._fault(index, row)
        return self._fault_of_values(index, [(self._name, row)])

    def _fault_of_values(self, index: int, values: Iterable[tuple[str, Any]]) -> Problem | None:
        for name, value in values:
            where = f"row {index}, feature {name!r}"
            if not isinstance(value, str):
                return invalid("not_a_text", f"{where}: {kind_of(value)} where a text belongs", row=index, feature=name)
            if len(value) > self.max_text_characters:
                limit = self.max_text_characters
                message = f"{where}: a text of {len(value)} characters; at most {limit} are allowed"
                return Problem("text_too_long", message, {"row": index, "feature": name, "limit": limit})
            if not is_unicode(value):
                message = f"{where}: the text holds half a surrogate pair, which is no character"
                return invalid("not_unicode", message, row=index, feature=name)
        return None


def one_given(**values: Any) -> Any:
    """The one value that is not `UNSET`: bodies may name a text in several ways. Raises `Problem`."""
    given = {name: value for name, value in values.items() if value is not UNSET}
    if not given:
        first = next(iter(values))
        raise invalid("missing_field", f"the field {first!r} is missing", field=first)
    if len(given) > 1:
        message = f"one of {' and '.join(map(repr, given))} belongs here, not both"
        raise invalid("repeated_field", message, field=list(given)[1])
    return next(iter(given.values()))
