"""Pipelines with free texts beside numbers and categories, one for each ordinary form of them.

No registry is asked: each model is described, converted and verified as an import does it, and then scored once more by
the engine on rows of JSON that nobody drew: texts in other scripts, other levels, gaps and extremes.
"""

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_transformer
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import LinearSVC

from runners.artefacts.card import Examples, FileKind
from runners.artefacts.scores import to_columns
from runners.engines.engine import OnnxEngine, TextEngine
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing import conversion, verification
from shokado.lifecycle.importing.registry import LoadedModel
from shokado.lifecycle.messages import generate_messages
from tests.support.cards import make_card

COUNT = 400
_RANDOM = np.random.default_rng(7)
_NOTES, _SPAM = generate_messages(COUNT, 2)
FRAME = pd.DataFrame(
    {
        "age": _RANDOM.normal(40, 12, COUNT).round(1),
        "note": _NOTES[:, 0],
        "port": _RANDOM.choice(["C", "Q", "Zürich ✓"], COUNT),
        "visits": _RANDOM.integers(0, 40, COUNT),
        "title": _RANDOM.choice(["Dr Älice", "the  boss", "Bob bob", "", "naïve"], COUNT),
        "alone": _RANDOM.random(COUNT) > 0.5,
    }
)
GAPS = FRAME.assign(age=FRAME.age.mask(_RANDOM.random(COUNT) < 0.2))
YES = np.array(["no", "yes"])[((_SPAM > 0) | (FRAME.age > 50)).astype(int)]
VALUE = FRAME.age * 3 + 20 * _SPAM + FRAME.visits
ODD = ["", " ", "FREE crédit NOW", "ﬁnal İSTANBUL ΟΔΟΣ", "東京\0\n😀", "free money " * 3000, "e\u0301", "null"]
KNOWN = OneHotEncoder(handle_unknown="ignore")
ORDINAL = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
NUMBERS = ["age", "visits"]


def beside(*texts: tuple[str, Any, str], numbers: Any = None, **settings: Any) -> ColumnTransformer:
    branches = [("numbers", numbers or StandardScaler(), NUMBERS), ("port", KNOWN, ["port"]), *texts]
    return ColumnTransformer(branches, **settings)


NOTE = ("note", TfidfVectorizer(min_df=2), "note")
TITLE = ("title", TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3), strip_accents="unicode"), "title")
TOPICS = ("note", make_pipeline(TfidfVectorizer(), TruncatedSVD(6, random_state=0)), "note")
LOGISTIC = LogisticRegression(max_iter=1000)
FOREST = RandomForestClassifier(10, random_state=0, n_jobs=1)
MODELS: dict[str, tuple[Any, pd.DataFrame, Any]] = {
    "a text beside numbers and a category": (make_pipeline(beside(NOTE), LOGISTIC), FRAME.drop(columns="title"), YES),
    "two texts": (make_pipeline(beside(NOTE, TITLE), LOGISTIC), FRAME, YES),
    "two texts alone": (
        make_pipeline(ColumnTransformer([NOTE, TITLE]), LOGISTIC), FRAME[["title", "note"]], YES
    ),
    "the same text twice": (
        make_pipeline(beside(NOTE, ("pairs", CountVectorizer(ngram_range=(2, 2), min_df=3), "note")), LOGISTIC),
        FRAME.drop(columns="title"),
        YES,
    ),
    "gaps": (
        make_pipeline(beside(NOTE, numbers=make_pipeline(SimpleImputer(), StandardScaler())), LOGISTIC),
        GAPS.drop(columns="title"),
        YES,
    ),
    "truth values, passed through": (
        make_pipeline(beside(NOTE, remainder="passthrough"), LOGISTIC), FRAME.drop(columns="title"), YES
    ),
    "a column that is dropped": (make_pipeline(beside(NOTE), LOGISTIC), FRAME, YES),
    "weights of branches": (
        make_pipeline(beside(NOTE, transformer_weights={"note": 3.0, "port": 0.5}), LOGISTIC), FRAME, YES
    ),
    "columns by position": (
        make_pipeline(
            make_column_transformer((TfidfVectorizer(), 1), (StandardScaler(), [0, 3]), (KNOWN, [2])), LOGISTIC
        ),
        FRAME,
        YES,
    ),
    "topics of a text": (
        make_pipeline(beside(TOPICS), Ridge()),
        FRAME,
        VALUE,
    ),
    "the best columns of all": (make_pipeline(beside(NOTE), MaxAbsScaler(), SelectKBest(k=30), LOGISTIC), FRAME, YES),
    "a union of a text": (
        make_pipeline(
            beside(("note", FeatureUnion([("a", CountVectorizer(binary=True)), ("b", TfidfVectorizer())]), "note")),
            LOGISTIC,
        ),
        FRAME,
        YES,
    ),
    "a decision": (make_pipeline(beside(NOTE), LinearSVC()), FRAME, YES),
    "a forest behind encoders": (
        make_pipeline(
            ColumnTransformer([("port", ORDINAL, ["port"]), NOTE, ("numbers", "passthrough", NUMBERS)]), FOREST
        ),
        FRAME,
        YES,
    ),
    "boosted values of numbers and a text": (
        make_pipeline(
            ColumnTransformer([NOTE, ("numbers", "passthrough", NUMBERS)], sparse_threshold=0),
            GradientBoostingRegressor(n_estimators=10),
        ),
        FRAME[["age", "visits", "note"]],
        VALUE,
    ),
    "a search": (
        GridSearchCV(make_pipeline(beside(NOTE), LOGISTIC), {"columntransformer__note__sublinear_tf": [True]}, cv=2),
        FRAME,
        YES,
    ),
    "a vote": (
        VotingClassifier(
            [("a", make_pipeline(beside(NOTE), LOGISTIC)), ("b", make_pipeline(beside(TITLE), LOGISTIC))], voting="soft"
        ),
        FRAME,
        YES,
    ),
    "a stack": (
        StackingClassifier(
            [("a", make_pipeline(beside(NOTE), LOGISTIC)), ("b", make_pipeline(beside(TITLE), LOGISTIC))], cv=2
        ),
        FRAME,
        YES,
    ),
    "calibrated": (CalibratedClassifierCV(make_pipeline(beside(NOTE), LinearSVC()), cv=2), FRAME, YES),
    "a changed target": (
        TransformedTargetRegressor(make_pipeline(beside(NOTE), Ridge()), func=np.log1p, inverse_func=np.expm1),
        FRAME,
        VALUE - VALUE.min(),
    ),
}  # fmt: skip


def loaded(model: Any, frame: pd.DataFrame, target: Any) -> LoadedModel:
    """The model as it comes out of a registry."""
    model.fit(frame, target)
    example = frame.head(20)
    signature = mlflow.models.infer_signature(example, model.predict(example))
    return LoadedModel(model, "models:/x/1", "", "sklearn", "scikit-learn", signature, example, {}, {})


def unseen(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows with every odd text in each column of texts, other levels, extremes, and gaps where the model had them."""
    rows = frame.tail(3 * len(ODD)).reset_index(drop=True).copy()
    for offset, name in enumerate(name for name in ("note", "title") if name in rows):
        rows[name] = [ODD[(at + offset) % len(ODD)] if at % 3 else rows[name][at] for at in range(len(rows))]
    if "port" in rows:
        rows.loc[4, "port"] = "elsewhere"
    if "age" in rows:
        rows.loc[5, "age"], rows.loc[6, "age"] = 1e6, -0.1
    return rows


@pytest.mark.parametrize("name", MODELS)
def test_rows_of_json_score_as_the_framework_does(name: str, tmp_path: Path) -> None:
    source = loaded(*MODELS[name])
    description = conversion.describe(source)
    conversion.convert(source.model, description, tmp_path)
    verified = verification.verify(source, description, tmp_path, (FileKind.ONNX,), 1e-4)
    assert Examples.model_validate_json(verified.examples.model_dump_json()) == verified.examples

    frame = unseen(MODELS[name][1])
    own = to_columns(description.task, np.asarray(_own(source.model, frame), dtype=np.float64))
    row_format = description.row_format
    rows = json.loads(json.dumps(frame.astype(object).where(frame.notna(), None).to_dict("records")))
    card = make_card(
        description.task,
        format=3,
        features=description.features,
        classes=description.classes,
        examples=verified.examples,
        positive_from=description.positive_from,
    )
    engine = TextEngine(OnnxEngine(tmp_path / "model.onnx", card), row_format.schema)
    for given in (rows, [list(row.values()) for row in rows]):
        batch = row_format.join([row_format.pack(_in_order(given, row_format.feature_names))], len(rows))
        scores = to_columns(description.task, engine.predict(batch))
        expected = own[:, -1:] if own.shape[1] == 2 and scores.shape[1] == 1 else own
        np.testing.assert_allclose(scores, expected, rtol=2e-4, atol=2e-5)


def _own(model: Any, frame: pd.DataFrame) -> Any:
    ask = next(name for name in ("predict_proba", "decision_function", "predict") if hasattr(model, name))
    return getattr(model, ask)(frame)


def _in_order(rows: list[Any], names: tuple[str, ...]) -> list[Any]:
    """The columns of a model are those of its training, in their order, and so are those of the frame."""
    return rows if isinstance(rows[0], list) else [{name: row[name] for name in names} for row in rows]


REFUSED: dict[str, tuple[Any, str]] = {
    "the length of a text": (
        make_pipeline(
            ColumnTransformer([NOTE, ("length", FunctionTransformer(lambda rows: rows.map(len)), ["title"])]), LOGISTIC
        ),
        r"It gives texts \(title\) to FunctionTransformer",
    ),
    "scaled trees": (make_pipeline(beside(NOTE), FOREST), "stands behind steps that change numbers"),
    "trees behind topics": (
        make_pipeline(
            ColumnTransformer(
                [("note", make_pipeline(TfidfVectorizer(), TruncatedSVD(3)), "note"), ("n", "passthrough", NUMBERS)]
            ),
            FOREST,
        ),
        "stands behind a TruncatedSVD",
    ),
    "own tokens": (
        make_pipeline(beside(("note", CountVectorizer(tokenizer=str.split, token_pattern=None), "note")), LOGISTIC),
        "tokenizer='split', which is Python code",
    ),
}


@pytest.mark.parametrize(("model", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_conversion_is_refused_by_name(model: Pipeline, reason: str, tmp_path: Path) -> None:
    source = loaded(model, FRAME, YES)
    with pytest.raises(UnsupportedModel, match=reason):
        conversion.convert(source.model, conversion.describe(source), tmp_path)
