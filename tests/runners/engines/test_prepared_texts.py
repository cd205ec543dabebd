"""What becomes of a text before its tokenizer is what scikit-learn makes of it."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from runners.engines.prepared_texts import GraphInputs, TextInput, as_metadata
from runners.inputs.formats import row_format_of
from runners.inputs.schema import Feature

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.text(" \t\na\u00e9\u0130\u03a3b\0\u00a0")
SETTINGS: list[dict[str, Any]] = [
    {"lowercase": lowercase, "strip_accents": accents}
    for lowercase in (True, False)
    for accents in (None, "ascii", "unicode")
]


@pytest.mark.parametrize("given_settings", SETTINGS, ids=str)
@settings(max_examples=100, deadline=None)
@given(text=TEXTS)
def test_words_are_made_of_the_text_that_scikit_learn_has(given_settings: dict[str, Any], text: str) -> None:
    expected = CountVectorizer(**given_settings).build_preprocessor()(text)
    assert TextInput("text", 0, **given_settings).prepared(text) == expected


@settings(max_examples=200, deadline=None)
@given(text=TEXTS)
def test_characters_are_those_that_scikit_learn_counts(text: str) -> None:
    counted = CountVectorizer(analyzer="char", lowercase=False, ngram_range=(1, 1)).build_analyzer()(text)
    assert Counter(TextInput("text", 0, analyzer="char").prepared(text)) == Counter(counted)


@settings(max_examples=200, deadline=None)
@given(text=TEXTS.filter(lambda text: "\ue000" not in text))
def test_no_term_of_characters_reaches_from_word_to_word(text: str) -> None:
    prepared = TextInput("text", 0, analyzer="char_wb", separator="\ue000").prepared(text)
    counted = CountVectorizer(analyzer="char_wb", lowercase=False, ngram_range=(3, 3)).build_analyzer()(text)
    triples = [prepared[at : at + 3] for at in range(len(prepared) - 2)]
    assert Counter(triple for triple in triples if "\ue000" not in triple) == Counter(counted)


def test_a_graph_says_how_its_texts_are_prepared() -> None:
    inputs = (TextInput("text_0", 2, lowercase=True), TextInput("text_1", 2, analyzer="char_wb", separator="\ue000"))
    schema = row_format_of([Feature(name="message", type="text")]).schema
    assert GraphInputs.of(as_metadata(inputs), schema).texts == inputs
    assert GraphInputs.of({}, schema).texts == (TextInput("input", 0),)


def test_numbers_beside_texts_are_an_input_of_their_own() -> None:
    features = [Feature(name="age"), Feature(name="note", type="text"), Feature(name="visits", type="integer")]
    texts = (TextInput("text_0", 1, lowercase=True), TextInput("text_1", 1, analyzer="char_wb", separator="\ue000"))
    inputs = GraphInputs.of(as_metadata(texts), row_format_of(features).schema)
    rows = np.array([[1.5, "A B", 2.0], [float("nan"), "", 1.0]], dtype=object)
    found, lengths = inputs.of_rows(rows)
    assert lengths == [len(" A \ue000 B "), 0]
    assert {name: tensor.tolist() for name, tensor in found.items() if name != "input"} == {
        "text_0": [["a b"], [""]],
        "text_1": [[" A \ue000 B "], [""]],
    }
    np.testing.assert_array_equal(found["input"], np.array([[1.5, 2], [np.nan, 1]], np.float32))
    assert found["input"].dtype == np.float32
