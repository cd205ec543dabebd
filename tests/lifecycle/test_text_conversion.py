"""Text pipelines of other people; that each setting is converted exactly is for `frameworks/test_text_models.py`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from runners.inputs.schema import Feature
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing import conversion, registry, verification
from shokado.lifecycle.importing.probing_texts import probing_texts
from shokado.lifecycle.importing.registry import LoadedModel
from shokado.lifecycle.importing.text_conversion import text_model, vectorizers_of
from shokado.lifecycle.importing.version import ImportOrder, import_version
from shokado.lifecycle.messages import generate_messages

TEXTS, SPAM = generate_messages(600, 1)
BODY = pd.Series(TEXTS[:, 0], name="body")


def loaded(model: Any, targets: Any = SPAM) -> LoadedModel:
    """A model as it comes out of the registry, fitted on the messages as a column of strings."""
    model.fit(BODY, targets)
    signature = mlflow.models.infer_signature(BODY[:3], model.predict(BODY[:3]))
    return LoadedModel(model, "models:/x/1", "", "sklearn", "scikit-learn", signature, BODY[:5], {}, {})


def beside(note: Any, columns: str | list[str]) -> LoadedModel:
    """A model of a text and its length, without a signature."""
    frame = pd.DataFrame({"body": TEXTS[:, 0], "length": [float(len(text)) for text in TEXTS[:, 0]]})
    model = make_pipeline(ColumnTransformer([("text", note, columns), ("length", "passthrough", ["length"])]), Ridge())
    return LoadedModel(model.fit(frame, SPAM), "models:/x/1", "", "sklearn", "scikit-learn", None, frame[:5], {}, {})


def test_a_text_beside_other_columns_is_a_feature_like_them() -> None:
    source = beside(TfidfVectorizer(), "body")
    signature = mlflow.models.infer_signature(source.example, [0.5])
    described = conversion.describe(replace(source, signature=signature))
    assert [(feature.name, feature.type) for feature in described.features] == [("body", "text"), ("length", "float")]


def test_a_text_that_no_vectorizer_takes_is_refused() -> None:
    source = beside(FunctionTransformer(lambda texts: texts.map(len)), ["body"])
    signature = mlflow.models.infer_signature(source.example, [0.5])
    with pytest.raises(UnsupportedModel, match=r"body \(string\) beside other columns, .* and no vectorizer"):
        conversion.describe(replace(source, signature=signature))


def test_which_columns_are_texts_must_be_said() -> None:
    with pytest.raises(UnsupportedModel, match="no signature that says which of its 2 columns are texts"):
        conversion.describe(beside(TfidfVectorizer(), "body"))


def test_a_strangers_text_pipeline_is_imported(log_model: Callable[..., str], own_store: Path) -> None:
    source = loaded(make_pipeline(TfidfVectorizer(), LogisticRegression()))
    uri = log_model("sklearn", source.model, signature=source.signature)
    card = import_version(ImportOrder(uri, "v1", model="mails", formats=registry.Formats.WITHOUT_CODE)).artefact.card
    assert card.input_datatype == "BYTES"
    assert card.feature_names == ("body",)
    assert len(card.examples.rows) == verification.EXAMPLE_ROWS


def test_a_model_without_a_signature_takes_text_if_it_has_a_vectorizer() -> None:
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(BODY, SPAM)
    source = LoadedModel(model, "models:/x/1", "", "sklearn", "scikit-learn", None, None, {}, {})
    (feature,) = conversion.describe(source).features
    assert (feature.name, feature.type) == ("text", "text")


def test_the_model_itself_keeps_its_vectorizer() -> None:
    model = make_pipeline(CountVectorizer(ngram_range=(1, 2)), MultinomialNB()).fit(["a nice day", "no day"], [0, 1])
    text = text_model(model, [Feature(name="body", type="text")])
    assert [type(step) for _, step in text.model.steps] == [MultinomialNB]
    assert [block.width for block in text.blocks] == [text.terms] == [5]
    assert list(vectorizers_of(model)) == [model[0]]


def test_probing_texts_repeat_words_and_hold_what_is_hard() -> None:
    texts = probing_texts(["free money", "win"], ["An example"], 500, seed=3)
    assert texts == probing_texts(["free money", "win"], ["An example"], 500, seed=3)
    assert texts[:2] == ["An example", ""]
    together = "\n".join(texts)
    for piece in ("free", "MONEY", "win", "example", "\0", "\u00e9", "\U0001f600", "  ", "!!!"):
        assert piece in together
    assert any(text.count("win") > 2 for text in texts)
