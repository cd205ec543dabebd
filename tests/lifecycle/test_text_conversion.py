"""Text pipelines of other people: converted exactly, or refused by the name of what has no conversion."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline

from runners.artefacts.card import FileKind, Verification
from shokado.lifecycle.errors import LifecycleError, UnsupportedModel
from shokado.lifecycle.importing import conversion, registry, verification
from shokado.lifecycle.importing.probing_texts import probing_texts
from shokado.lifecycle.importing.registry import LoadedModel
from shokado.lifecycle.importing.text_conversion import vectorizers_of, with_split_terms
from shokado.lifecycle.importing.version import ImportOrder, import_version
from shokado.lifecycle.messages import generate_messages

TEXTS, SPAM = generate_messages(600, 1)
BODY = pd.Series(TEXTS[:, 0], name="body")


def loaded(model: Any, targets: Any = SPAM) -> LoadedModel:
    """A model as it comes out of the registry, fitted on the messages as a column of strings."""
    model.fit(BODY, targets)
    signature = mlflow.models.infer_signature(BODY[:3], model.predict(BODY[:3]))
    return LoadedModel(model, "models:/x/1", "", "sklearn", "scikit-learn", signature, BODY[:5], {}, {})


def receipt_of(source: LoadedModel, folder: Path) -> Verification:
    description = conversion.describe(source)
    assert [(feature.name, feature.type) for feature in description.features] == [("body", "text")]
    kinds = conversion.convert(source.model, description, folder)
    return verification.verify(source, description, folder, kinds, 1e-4).files[FileKind.ONNX]


CONVERTIBLE = {
    "defaults": make_pipeline(TfidfVectorizer(), LogisticRegression()),
    "pairs whose words are not all known": make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), vocabulary=["free cruise", "you", "have won", "the"]), LogisticRegression()
    ),
    "pairs only": make_pipeline(TfidfVectorizer(ngram_range=(2, 2)), LogisticRegression()),
    "single letters": make_pipeline(TfidfVectorizer(token_pattern=r"(?u)\b\w+\b"), LogisticRegression()),
    "as written, without norm": make_pipeline(TfidfVectorizer(norm=None, lowercase=False), LogisticRegression()),
    "stop words": make_pipeline(TfidfVectorizer(stop_words="english"), LogisticRegression()),
    "counts": make_pipeline(CountVectorizer(), MultinomialNB()),
    "presence": make_pipeline(CountVectorizer(binary=True), LogisticRegression()),
    "two vectorizers": make_pipeline(
        FeatureUnion([("words", TfidfVectorizer()), ("pairs", CountVectorizer(ngram_range=(2, 2)))]),
        LogisticRegression(),
    ),
    "trees": make_pipeline(TfidfVectorizer(), RandomForestClassifier(10, random_state=0)),
}


@pytest.mark.parametrize("model", CONVERTIBLE.values(), ids=CONVERTIBLE)
def test_a_text_pipeline_scores_the_same_after_conversion(model: Any, tmp_path: Path) -> None:
    receipt = receipt_of(loaded(model), tmp_path)
    assert receipt.rows == 5 + 1 + verification.RANDOM_ROWS
    assert receipt.max_abs_difference < 1e-4


def test_a_value_of_a_text(tmp_path: Path) -> None:
    lengths = np.array([len(text) for text in TEXTS[:, 0]], dtype=float)
    receipt_of(loaded(make_pipeline(TfidfVectorizer(), Ridge()), lengths), tmp_path)


REFUSED = {
    "analyzer='char'": TfidfVectorizer(analyzer="char", ngram_range=(1, 3)),
    "analyzer='char_wb'": TfidfVectorizer(analyzer="char_wb"),
    "strip_accents='unicode'": TfidfVectorizer(strip_accents="unicode"),
    "tokenizer='split'": TfidfVectorizer(tokenizer=str.split, token_pattern=None),
    "preprocessor='lower'": TfidfVectorizer(preprocessor=str.lower),
    "sublinear_tf=True": TfidfVectorizer(sublinear_tf=True),
    r"stop_words with ngram_range beyond \(1, 1\)": TfidfVectorizer(stop_words="english", ngram_range=(1, 2)),
}


@pytest.mark.parametrize(("reason", "vectorizer"), REFUSED.items(), ids=REFUSED)
def test_a_vectorizer_that_onnx_cannot_follow_is_refused_by_name(reason: str, vectorizer: Any, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=f"Its TfidfVectorizer has {reason}, which has no conversion to ONNX"):
        receipt_of(loaded(make_pipeline(vectorizer, LogisticRegression())), tmp_path)


@pytest.mark.parametrize(
    "vectorizer",
    [
        HashingVectorizer(n_features=64),
        TfidfVectorizer(token_pattern=r"\b([a-z])[a-z]+\b"),
        TfidfVectorizer(token_pattern=r"\b\w{3,}\b"),
    ],
    ids=["no vocabulary", "a group", "words that only RE2 ends within"],
)
def test_what_would_score_differently_is_never_stored(vectorizer: Any, tmp_path: Path) -> None:
    with pytest.raises(LifecycleError, match=r"has no conversion to ONNX|differs from the framework's own scores"):
        receipt_of(loaded(make_pipeline(vectorizer, LogisticRegression())), tmp_path)


def test_a_text_beside_other_columns_is_refused() -> None:
    frame = pd.DataFrame({"body": TEXTS[:, 0], "length": [float(len(text)) for text in TEXTS[:, 0]]})
    columns = ColumnTransformer([("text", TfidfVectorizer(), "body"), ("length", "passthrough", ["length"])])
    model = Pipeline([("columns", columns), ("regression", LogisticRegression(max_iter=1000))]).fit(frame, SPAM)
    signature = mlflow.models.infer_signature(frame[:3], model.predict(frame[:3]))
    source = LoadedModel(model, "models:/x/1", "", "sklearn", "scikit-learn", signature, None, {}, {})
    with pytest.raises(UnsupportedModel, match="a text must be alone"):
        conversion.describe(source)


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


def test_the_model_itself_keeps_its_vocabulary() -> None:
    model = make_pipeline(CountVectorizer(ngram_range=(1, 2)), MultinomialNB()).fit(["a nice day", "no day"], [0, 1])
    (split,) = vectorizers_of(with_split_terms(model))
    (own,) = vectorizers_of(model)
    assert ("nice", "day") in split.vocabulary_
    assert "nice day" in own.vocabulary_


def test_probing_texts_repeat_words_and_hold_what_is_hard() -> None:
    texts = probing_texts(["free money", "win"], ["An example"], 500, seed=3)
    assert texts == probing_texts(["free money", "win"], ["An example"], 500, seed=3)
    assert texts[:2] == ["An example", ""]
    together = "\n".join(texts)
    for piece in ("free", "MONEY", "win", "example", "\0", "\u00e9", "\U0001f600", "  ", "!!!"):
        assert piece in together
    assert any(text.count("win") > 2 for text in texts)
