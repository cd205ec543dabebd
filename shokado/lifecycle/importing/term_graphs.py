"""Graphs of terms: texts are tokenized, counted and weighed in ONNX, before the graph of a model of numbers.

    texts --(TextInput, in the server)--> Tokenizer --> positions of words --> counts of n-grams --> weights .
    numbers --------------------------------------------------------------------------------------------------+--> model

The words of a vocabulary are known by their positions from the tokenizer on, so that stop words can be left out before
words that follow each other are paired. Weights are computed in float64, as scikit-learn does it. Source of both:
`sklearn.feature_extraction.text`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count

import numpy as np
import onnx
from msgspec import structs
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

from runners.engines.prepared_texts import TextInput, as_metadata
from shokado.lifecycle.importing.graph_builder import Builder
from shokado.lifecycle.importing.graphs import INPUT, rename
from shokado.lifecycle.importing.text_conversion import TermBlock, TextModel

_WORDS = re.compile(r"(?:\\b)?(?P<before>(?:\\w)*)\\w(?:\+|\{(?P<least>\d+),\})(?:\\b)?")
"""Patterns of words of so many letters, digits and underscores."""
_WITHOUT_BLANKS = (r"\S+", r"[^\s]+")
_CONTRIB = "com.microsoft"
_UNKNOWN = -1
"""The position of a word that no term has, and of what stands behind the last word."""
_FIRST_PRIVATE = 0xE000
"""The first character that is nobody's."""


@dataclass(frozen=True, eq=False)
class _Vocabulary:
    """What a vectorizer counts.

    Attributes:
        words: of which terms are made: words, or characters.
        terms: by their columns; each is the positions of its words.
        stop: words that are left out before n-grams are made.
    """

    words: list[str]
    terms: dict[int, tuple[int, ...]]
    stop: list[str]

    @classmethod
    def of(cls, vectorizer: CountVectorizer) -> "_Vocabulary":
        stop = set(vectorizer.get_stop_words() or ()) if vectorizer.analyzer == "word" else set()
        split = {column: _words_of(vectorizer, str(term)) for term, column in vectorizer.vocabulary_.items()}
        found = {
            column: words for column, words in split.items() if _is_counted(vectorizer, words) and not stop & set(words)
        }
        known = sorted({word for words in found.values() for word in words})
        positions = {word: position for position, word in enumerate(known)}
        terms = {column: tuple(positions[word] for word in words) for column, words in found.items()}
        has_pairs = any(len(words) > 1 for words in terms.values())
        return cls(known, terms, sorted(stop) if has_pairs else [])


def behind_texts(graph: ModelProto, text: TextModel, kind: TensorProto.DataType) -> ModelProto:
    """The graph of a model that is given numbers, of some kind, and terms, as one that is given texts."""
    numbers = len(text.numbers)
    builder = Builder(numbers + text.terms, ml_opset=2)
    inputs: list[TextInput] = []
    found = [INPUT] if numbers else []
    for block in text.blocks:
        vocabulary = _Vocabulary.of(block.vectorizer)
        source = _text_input(block, vocabulary, inputs).name
        counts = _counted(builder, block, vocabulary, _positions(builder, block.vectorizer, vocabulary, source))
        weights = _weighed(builder, block.vectorizer, block.weights, counts)
        found.append(builder.add("Cast", [weights], to=kind))
    joined = builder.add("Concat", found, axis=1) if len(found) > 1 else found[0]
    (output,) = graph.graph.output
    changed = builder.model(builder.include(graph, joined))
    rename(changed.graph, changed.graph.output[0].name, output.name)
    del changed.graph.input[:], changed.graph.output[:]
    changed.graph.output.append(output)
    if numbers:
        changed.graph.input.append(helper.make_tensor_value_info(INPUT, kind, ["N", numbers]))
    for one in inputs:
        changed.graph.input.append(helper.make_tensor_value_info(one.name, TensorProto.STRING, ["N", 1]))
    helper.set_model_props(changed, as_metadata(inputs))
    onnx.checker.check_model(changed)
    return changed


def pattern_of(vectorizer: CountVectorizer) -> str | None:
    """The same token pattern for the tokenizer's own regular expressions (RE2), whose classes know ASCII only.

    None for one that may say something else there.
    """
    given = str(vectorizer.token_pattern).removeprefix("(?u)")
    if words := _WORDS.fullmatch(given):
        return rf"[\pL\pN_]{{{words['before'].count('w') + int(words['least'] or 1)},}}"
    # All that `str.isspace` knows.
    return r"[^\t-\r\x1C-\x1F\x{85}\pZ]+" if given in _WITHOUT_BLANKS else None


def _words_of(vectorizer: CountVectorizer, term: str) -> tuple[str, ...]:
    if vectorizer.analyzer != "word":
        return tuple(term)
    return tuple(term.split(" ")) if vectorizer.ngram_range[1] > 1 else (term,)


def _is_counted(vectorizer: CountVectorizer, words: tuple[str, ...]) -> bool:
    """Whether a text can have such a term: with `char_wb`, a short word is one together with the blanks around it."""
    least, most = vectorizer.ngram_range
    is_word = vectorizer.analyzer == "char_wb" and len(words) > 2 and words[0] == words[-1] == " "
    return least <= len(words) <= most or (is_word and len(words) < least and " " not in words[1:-1])


def _text_input(block: TermBlock, vocabulary: _Vocabulary, inputs: list[TextInput]) -> TextInput:
    """The input that is prepared as the vectorizer does it; one for all that do the same."""
    vectorizer = block.vectorizer
    known = {*vocabulary.words, *vocabulary.stop}
    separators = map(chr, count(_FIRST_PRIVATE)) if vectorizer.analyzer == "char_wb" else iter([""])
    text = TextInput(
        f"text_{len(inputs)}",
        block.column,
        lowercase=bool(vectorizer.lowercase),
        strip_accents=vectorizer.strip_accents,
        analyzer=vectorizer.analyzer,
        separator=next(separator for separator in separators if separator not in known),
    )
    same = next((one for one in inputs if one == structs.replace(text, name=one.name)), None)
    if same is None:
        inputs.append(text)
    return same or text


def _positions(builder: Builder, vectorizer: CountVectorizer, vocabulary: _Vocabulary, text: str) -> str:
    """The positions of each text's words, stop words left out: int64 [N, most words]."""
    known = {*vocabulary.words, *vocabulary.stop}
    padding = next(name for name in map(chr, count(_FIRST_PRIVATE)) if name not in known)
    how: Mapping[str, object] = (
        {"tokenexp": pattern_of(vectorizer) or vectorizer.token_pattern}
        if vectorizer.analyzer == "word"
        else {"separators": [""]}
    )
    tokens = builder.add("Tokenizer", [text], domain=_CONTRIB, mark=0, mincharnum=1, pad_value=padding, **how)
    flat = builder.add("Squeeze", [tokens, builder.constant(np.array([1]))])
    words = [*vocabulary.words, *vocabulary.stop]
    found = builder.add(
        "LabelEncoder",
        [flat],
        domain="ai.onnx.ml",
        keys_strings=words or [padding],
        values_int64s=list(range(len(words))) or [_UNKNOWN],
        default_int64=_UNKNOWN,
    )
    return _without_stop_words(builder, found, len(vocabulary.words)) if vocabulary.stop else found


def _without_stop_words(builder: Builder, positions: str, first: int) -> str:
    """The positions with those from `first` on behind all others, where no term has them."""
    add, constant = builder.add, builder.constant
    # There is at least one, which every text has behind its last.
    padded = add("Pad", [positions, constant(np.array([0, 0, 0, 1])), constant(np.array(_UNKNOWN))])
    length = add("Gather", [add("Shape", [padded]), constant(np.array([1]))], axis=0)
    order = add("Range", [constant(np.array(0)), add("Squeeze", [length]), constant(np.array(1))])
    is_stop = add("Not", [add("Less", [padded, constant(np.array(first))])])
    last = add("Mul", [add("Cast", [is_stop], to=TensorProto.INT64), length])
    keys = add("Add", [last, order])
    inverse = builder.add_all("TopK", [keys, length], 2, axis=1, largest=0, sorted=1)[1]
    return add("GatherElements", [padded, inverse], axis=1)


def _counted(builder: Builder, block: TermBlock, vocabulary: _Vocabulary, positions: str) -> str:
    """How often each text has each term: float32 [N, terms]."""
    # A term that no text can have is a word that none has.
    nobody = count(_UNKNOWN - 1, -1)
    terms = [(vocabulary.terms.get(column) or (next(nobody),), column) for column in range(block.width)]
    terms.sort(key=lambda term: len(term[0]))
    most = len(terms[-1][0])
    shorter = [[words for words, _ in terms if len(words) < length] for length in range(1, most + 1)]
    return builder.add(
        "TfIdfVectorizer",
        [positions],
        mode="TF",
        min_gram_length=1,
        max_gram_length=most,
        max_skip_count=0,
        ngram_counts=[sum(map(len, some)) for some in shorter],
        ngram_indexes=[column for _, column in terms],
        pool_int64s=[word for words, _ in terms for word in words],
    )


def _weighed(builder: Builder, vectorizer: CountVectorizer, weights: TfidfTransformer | None, counts: str) -> str:
    """The weights of counts, in float64 where there are any."""
    add = builder.add
    if vectorizer.binary:
        counts = add("Min", [counts, builder.constant(np.ones(1, dtype=np.float32))])
    if weights is None:
        return counts
    found = add("Cast", [counts], to=TensorProto.DOUBLE)
    one = builder.constant(np.ones(1))
    if weights.sublinear_tf:
        found = add("Add", [add("Log", [add("Max", [found, one])]), add("Min", [found, one])])
    if weights.use_idf:
        found = add("Mul", [found, builder.constant(_row(weights.idf_))])
    if weights.norm is None:
        return found
    length = add({"l1": "ReduceL1", "l2": "ReduceL2"}[weights.norm], [found], axes=[1], keepdims=1)
    is_nothing = add("Equal", [length, builder.constant(np.zeros(1))])
    return add("Div", [found, add("Where", [is_nothing, one, length])])


def _row(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)[None, :]
