"""Models of texts, one for each ordinary setting of a vectorizer: the graph scores as scikit-learn does.

No registry is asked: each model is described, converted and verified as an import does it, and then asked once more for
texts that nobody drew: in other scripts, with accents, of blanks alone, of one word, very long ones.
"""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, chi2
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import MaxAbsScaler
from sklearn.svm import LinearSVC

from runners.artefacts.card import FileKind, Verification
from shokado.lifecycle.errors import LifecycleError, UnsupportedModel
from shokado.lifecycle.importing import conversion, verification
from shokado.lifecycle.importing.framework import Framework
from shokado.lifecycle.importing.registry import LoadedModel
from shokado.lifecycle.importing.verification_rows import RANDOM_ROWS
from shokado.lifecycle.messages import generate_messages

PLAIN, SPAM = generate_messages(600, 1)
_ACCENTS = str.maketrans({"e": "é", "a": "Å", "u": "ü", "n": "ñ"})
TEXTS = [text.translate(_ACCENTS) if at % 5 == 0 else text for at, text in enumerate(PLAIN[:, 0])]
"""A fifth of them is written with accents."""
BODY = pd.Series(TEXTS, name="body")
UNSEEN = [
    "",
    " ",
    " \n\t ",
    "a",
    "I",
    "FREE crédit NOW",
    "\uff26\uff52\uff45\uff45 \uff4d\uff4f\uff4e\uff45\uff59",
    "ﬁnal oﬀer №5 ½",
    "İSTANBUL ΟΔΟΣ ΟΔΟΣ.",
    "Straße STRASSE ẞ",
    "мир МИР й ё",
    "東京 タワー が",
    "क्षि हिन्दी",
    "e\u0301te\u0301 n\u0303andu\u0301",
    "e\u200dmail zero\u200bwidth",
    "\0free\0money\0",
    "\ue000 \ue001free\ue000money",
    "👍🏽 win 👨‍👩‍👧 money",
    "don't e-mail me@x.org, $5 now!!!",
    "the and of the",
    "you have won the prize of the year",
    "x " * 30_000,
    "free " * 20_000 + "é" * 20_000,
    "w" * 100_000,
]
TOO_MANY_ROWS = 40
"""More would pad the longest text too often: what cuts such a batch is an engine, and not asked here."""


def loaded(model: Any, targets: Any = SPAM) -> LoadedModel:
    """A model as it comes out of the registry, fitted on the messages as a column of strings."""
    model.fit(BODY, targets)
    signature = mlflow.models.infer_signature(BODY[:3], model.predict(BODY[:3]))
    return LoadedModel(model, "models:/x/1", "", "sklearn", "scikit-learn", signature, BODY[:5], {}, {})


def receipt_of(source: LoadedModel, folder: Path) -> Verification:
    """What an import makes of it; all texts nobody drew are scored alike besides."""
    description = conversion.describe(source)
    assert [(feature.name, feature.type) for feature in description.features] == [("body", "text")]
    kinds = conversion.convert(source.model, description, folder)
    receipt = verification.verify(source, description, folder, kinds, 1e-4).files[FileKind.ONNX]
    rows = np.array(UNSEEN, dtype=object).reshape(-1, 1)
    assert len(rows) < TOO_MANY_ROWS
    own = Framework(source.model, description).scores(rows)
    for part in (rows, rows[5:6]):
        scores = verification.file_scores(FileKind.ONNX, folder / "model.onnx", description, part)
        np.testing.assert_allclose(scores, own if len(part) > 1 else own[5:6], rtol=1e-4, atol=1e-5)
    return receipt


def logistic(*steps: Any) -> Pipeline:
    return make_pipeline(*steps, LogisticRegression(max_iter=1000))


VECTORIZERS: dict[str, Any] = {
    "defaults": TfidfVectorizer(),
    "pairs whose words are not all known": TfidfVectorizer(
        ngram_range=(1, 2), vocabulary=["free cruise", "you", "have won", "the"]
    ),
    "pairs only": TfidfVectorizer(ngram_range=(2, 2)),
    "three words without two": TfidfVectorizer(ngram_range=(1, 3), vocabulary=["you", "you have won"]),
    "the most frequent pairs": TfidfVectorizer(ngram_range=(1, 2), max_features=50),
    "single letters": TfidfVectorizer(token_pattern=r"(?u)\b\w+\b"),
    "words of three letters": TfidfVectorizer(token_pattern=r"(?u)\b\w\w\w+\b"),
    "words of four letters": TfidfVectorizer(token_pattern=r"\b\w{4,}\b"),
    "all between blanks": TfidfVectorizer(token_pattern=r"\S+"),
    "all between blanks, otherwise": CountVectorizer(token_pattern=r"(?u)[^\s]+", ngram_range=(1, 2)),
    "as written, without norm": TfidfVectorizer(norm=None, lowercase=False),
    "norm l1": TfidfVectorizer(norm="l1", use_idf=False),
    "smooth_idf": TfidfVectorizer(smooth_idf=False),
    "stop words": TfidfVectorizer(stop_words="english"),
    "stop words and pairs": TfidfVectorizer(stop_words="english", ngram_range=(1, 2)),
    "stop words of one's own and three words": CountVectorizer(stop_words=["the", "you"], ngram_range=(2, 3)),
    "a stop word in the vocabulary": CountVectorizer(stop_words=["the"], vocabulary=["the", "free", "the money"]),
    "sublinear_tf": TfidfVectorizer(sublinear_tf=True),
    "sublinear_tf, binary": TfidfVectorizer(sublinear_tf=True, binary=True, norm=None),
    "accents, unicode": TfidfVectorizer(strip_accents="unicode"),
    "accents, ascii": TfidfVectorizer(strip_accents="ascii", ngram_range=(1, 2)),
    "accents, as written": TfidfVectorizer(strip_accents="unicode", lowercase=False),
    "max_df, min_df": TfidfVectorizer(max_df=0.5, min_df=3),
    "presence": CountVectorizer(binary=True),
    "characters": TfidfVectorizer(analyzer="char", ngram_range=(1, 3), max_features=800),
    "characters of words": TfidfVectorizer(analyzer="char_wb"),
    "several characters of words": TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, strip_accents="unicode", max_features=2000
    ),
    "more characters than words have": CountVectorizer(analyzer="char_wb", ngram_range=(4, 5), max_features=2000),
    "characters that no word can have": CountVectorizer(
        analyzer="char_wb", ngram_range=(3, 3), vocabulary=["fre", "ab", " i ", "a b", " a "]
    ),
    "whole phrases": CountVectorizer(token_pattern=r"[^,.!?]+", min_df=1),
}
MODELS: dict[str, Any] = {name: logistic(vectorizer) for name, vectorizer in VECTORIZERS.items()} | {
    "counts": make_pipeline(CountVectorizer(), MultinomialNB()),
    "counts, then weights": make_pipeline(CountVectorizer(), TfidfTransformer(sublinear_tf=True), MultinomialNB()),
    "two vectorizers": logistic(
        FeatureUnion(
            [
                ("words", TfidfVectorizer(strip_accents="unicode")),
                ("characters", CountVectorizer(analyzer="char_wb", ngram_range=(2, 3), max_features=300)),
            ]
        )
    ),
    "two branches with steps": logistic(
        FeatureUnion(
            [
                ("words", make_pipeline(TfidfVectorizer(), TruncatedSVD(10, random_state=0))),
                ("pairs", CountVectorizer(ngram_range=(2, 2), max_features=100)),
            ],
            transformer_weights={"words": 0.5, "pairs": 0.25},
        )
    ),
    "the best terms": logistic(TfidfVectorizer(), SelectKBest(chi2, k=40)),
    "scaled": logistic(CountVectorizer(), MaxAbsScaler()),
    "trees": make_pipeline(TfidfVectorizer(sublinear_tf=True), RandomForestClassifier(10, random_state=0)),
    "a search": GridSearchCV(logistic(TfidfVectorizer()), {"tfidfvectorizer__ngram_range": [(1, 1), (1, 2)]}, cv=2),
    "a vote": VotingClassifier(
        [("words", logistic(TfidfVectorizer())), ("counts", make_pipeline(CountVectorizer(), MultinomialNB()))],
        voting="soft",
    ),
    "calibrated": CalibratedClassifierCV(make_pipeline(TfidfVectorizer(), LinearSVC()), cv=2),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_text_model_scores_the_same_after_conversion(model: Any, tmp_path: Path) -> None:
    receipt = receipt_of(loaded(model), tmp_path)
    assert receipt.rows == 5 + 1 + RANDOM_ROWS
    assert receipt.max_abs_difference < 1e-4


def test_a_value_of_a_text(tmp_path: Path) -> None:
    lengths = np.array([len(text) for text in TEXTS], dtype=float)
    receipt_of(loaded(make_pipeline(TfidfVectorizer(), Ridge()), lengths), tmp_path)


REFUSED = {
    "tokenizer='split', which is Python code": TfidfVectorizer(tokenizer=str.split, token_pattern=None),
    "preprocessor='lower', which is Python code": TfidfVectorizer(preprocessor=str.lower),
    "analyzer='split', which is Python code": TfidfVectorizer(analyzer=str.split),
    "It gives texts .body. to a HashingVectorizer": HashingVectorizer(n_features=64),
}


@pytest.mark.parametrize(("reason", "vectorizer"), REFUSED.items(), ids=REFUSED)
def test_what_is_python_code_is_refused_by_name(reason: str, vectorizer: Any, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        receipt_of(loaded(logistic(vectorizer)), tmp_path)


@pytest.mark.parametrize(
    "vectorizer",
    [TfidfVectorizer(token_pattern=r"\b([a-z])[a-z]+\b"), TfidfVectorizer(token_pattern=r"\b\w{3,9}\b")],
    ids=["a group", "words that only RE2 ends within"],
)
def test_what_would_score_differently_is_never_stored(vectorizer: Any, tmp_path: Path) -> None:
    says = r"has no conversion to ONNX|differs from the framework's own scores .* has token_pattern=.* or take r'\\w\+'"
    with pytest.raises(LifecycleError, match=says):
        receipt_of(loaded(logistic(vectorizer)), tmp_path)
