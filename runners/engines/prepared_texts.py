"""Texts as a graph takes them: what is done to a text before its tokenizer, as scikit-learn's vectorizers do it.

A graph says in its metadata, as JSON under `TEXTS`, which inputs of texts it has, of which column each one is, and how
it is prepared. One without that takes texts as they come, as its only input. All other columns are the input `INPUT`.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from runners.inputs.columns import Text
from runners.inputs.schema import Schema

INPUT = "input"
"""What a graph calls its numbers, or the texts that are its only input."""
TEXTS = "texts"
_several_blanks = re.compile(r"\s\s+")


class TextInput(msgspec.Struct, frozen=True):
    """An input of texts, string [N, 1]."""

    name: str
    column: int
    lowercase: bool = False
    strip_accents: Literal["ascii", "unicode"] | None = None
    analyzer: Literal["word", "char", "char_wb"] = "word"
    separator: str = ""
    """What stands between words of `char_wb`: a character that no term has, so that none reaches from word to word."""

    def prepared(self, text: str) -> str:
        """The text as the tokenizer of words, or of characters, takes it."""
        if self.lowercase:
            text = text.lower()
        if self.strip_accents is not None and not text.isascii():
            text = unicodedata.normalize("NFKD", text)
            if self.strip_accents == "ascii":
                text = text.encode("ascii", "ignore").decode()
            else:
                text = "".join([character for character in text if not unicodedata.combining(character)])
        if self.analyzer == "char":
            return _several_blanks.sub(" ", text)
        if self.analyzer == "char_wb" and (words := text.split()):
            return f" {f' {self.separator} '.join(words)} "
        return "" if self.analyzer == "char_wb" else text


@dataclass(frozen=True, eq=False)
class GraphInputs:
    """The inputs of a graph that takes texts, out of rows of dtype object [N, columns].

    Attributes:
        numbers: the columns of its `INPUT`, none where there are texts alone.
        dtype: of these.
    """

    texts: tuple[TextInput, ...]
    numbers: list[int]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, metadata: Mapping[str, str], schema: Schema) -> "GraphInputs":
        """By a graph's metadata; one without takes texts as they come. Raises `msgspec.DecodeError`."""
        texts = _decode(metadata[TEXTS]) if TEXTS in metadata else (TextInput(INPUT, 0),)
        numbers = [at for at, column in enumerate(schema.columns) if not isinstance(column, Text)]
        return cls(texts, numbers, schema.precision.dtype)

    def of_rows(self, rows: NDArray[np.object_]) -> tuple[dict[str, NDArray[Any]], list[int]]:
        """The inputs by their names, and how many characters the longest text of each row has."""
        columns = {text.name: [text.prepared(each) for each in rows[:, text.column].tolist()] for text in self.texts}
        lengths = [list(map(len, texts)) for texts in columns.values()]
        inputs: dict[str, NDArray[Any]] = {name: _tensor(texts) for name, texts in columns.items()}
        if self.numbers:
            inputs[INPUT] = rows[:, self.numbers].astype(self.dtype)
        return inputs, lengths[0] if len(lengths) == 1 else list(map(max, zip(*lengths, strict=True)))


def _tensor(texts: list[str]) -> NDArray[np.object_]:
    found = np.empty((len(texts), 1), dtype=object)
    found[:, 0] = texts
    return found


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[TextInput, ...]).decode


def as_metadata(inputs: Sequence[TextInput]) -> dict[str, str]:
    """The metadata of a graph with these inputs."""
    return {TEXTS: _encode(tuple(inputs)).decode()}
