"""Models whose answers float32 would change: the import gives them rows of float64, and scores as their framework does.

Rows are packed of JSON, as a server does it, among them rows on thresholds and beside them.
"""

import dataclasses
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from configuration.settings import EngineChoice
from runners.artefacts.artefact import Artefact, check_alike
from runners.artefacts.card import Card, FileKind
from runners.artefacts.reference import read_reference
from runners.engines.engine import open_engine
from shokado.lifecycle.errors import QuantizationRefused, UnsupportedModel, VerificationFailed, VersionTaken
from shokado.lifecycle.importing import conversion, version
from shokado.lifecycle.importing.registry import LoadedModel
from shokado.lifecycle.importing.version import ImportOrder, ImportOutcome, WhenTaken, import_version
from shokado.lifecycle.quantizing.quantize_order import QuantizeOrder
from shokado.lifecycle.quantizing.quantized_version import quantize_version

RANDOM = np.random.default_rng(11)
ROWS = 600
NOON = 1_700_000_000
FRAME = pd.DataFrame(
    {
        "width": RANDOM.normal(size=ROWS),
        "seen_at": NOON + RANDOM.integers(0, 20_000, ROWS),
        "account": RANDOM.integers(900_000_000, 900_000_400, ROWS),
        "balance": 1e9 + RANDOM.normal(0, 10, ROWS),
    }
)
VALUES = FRAME["width"] + (FRAME["seen_at"] - NOON) / 5000 + (FRAME["account"] % 2) + (FRAME["balance"] - 1e9) / 10
LABELS = (VALUES.median() < VALUES).astype(int)
GAPS = FRAME.assign(width=FRAME["width"].where(RANDOM.random(ROWS) > 0.2))
DECIMALS = FRAME.astype("float64")
MIXED = FRAME.assign(colour=RANDOM.choice(["red", "blue", "Zürich ✓"], ROWS))

MODELS: dict[str, tuple[Callable[[], Any], pd.DataFrame, Any]] = {
    "histogram": (lambda: HistGradientBoostingRegressor(max_iter=8), FRAME, VALUES),
    "histogram of classes": (lambda: HistGradientBoostingClassifier(max_iter=8), FRAME, LABELS),
    "line": (LinearRegression, FRAME, VALUES),
    "scaled line": (lambda: make_pipeline(StandardScaler(), LogisticRegression()), FRAME, LABELS),
    "three classes": (
        lambda: make_pipeline(StandardScaler(), LogisticRegression()), FRAME, pd.qcut(VALUES, 3, labels=False)
    ),
    "scaled network": (
        lambda: make_pipeline(MinMaxScaler(), MLPRegressor(hidden_layer_sizes=8, max_iter=50, random_state=0)),
        FRAME,
        VALUES,
    ),
    "scaled histogram": (
        lambda: make_pipeline(StandardScaler(), HistGradientBoostingRegressor(max_iter=8)), FRAME, VALUES
    ),
    "scaled forest": (
        lambda: make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0)), FRAME, LABELS
    ),
    "scaled boosting": (
        lambda: make_pipeline(MinMaxScaler(), GradientBoostingClassifier(n_estimators=10, random_state=0)),
        FRAME,
        LABELS,
    ),
    "line over decimals": (LinearRegression, DECIMALS, VALUES),
    "histogram over decimals": (lambda: HistGradientBoostingRegressor(max_iter=8), DECIMALS, VALUES),
    "imputed": (lambda: make_pipeline(SimpleImputer(), StandardScaler(), Ridge()), GAPS, VALUES),
    "vote of a line and a forest": (
        lambda: VotingRegressor([("a", LinearRegression()), ("b", RandomForestRegressor(5, random_state=0))]),
        FRAME,
        VALUES,
    ),
    "typed": (
        lambda: make_pipeline(
            ColumnTransformer(
                [
                    ("n", StandardScaler(), list(FRAME.columns)),
                    ("t", OneHotEncoder(handle_unknown="ignore"), ["colour"]),
                ]
            ),
            LogisticRegression(),
        ),
        MIXED,
        LABELS ^ (MIXED["colour"] == "red"),
    ),
}  # fmt: skip


def stranger(model: Any, frame: pd.DataFrame, rows: int = 20) -> LoadedModel:
    """A fitted model as it comes out of the registry."""
    signature = mlflow.models.infer_signature(frame)
    return LoadedModel(model, "models:/x/1", "", "sklearn", "scikit-learn", signature, frame[:rows], {}, {})


def converted(source: LoadedModel, folder: Path, **order: Any) -> Card:
    """Convert and verify as an import does; the card that it would store."""
    asked = ImportOrder("models:/x/1", "v1", "x", **order)
    description, verified = version._converted("x:v1", asked, source, conversion.describe(source), folder)
    return version._card(asked, source, description, folder, verified)


def own_scores(model: Any, frame: pd.DataFrame) -> Any:
    scores = model.predict_proba(frame) if hasattr(model, "predict_proba") else model.predict(frame)
    return scores[:, 1] if scores.ndim > 1 and scores.shape[1] == 2 else scores


def served(card: Card, folder: Path, frame: pd.DataFrame, choice: EngineChoice = EngineChoice.ONNXRUNTIME) -> Any:
    rows = card.row_format
    whole = frame.astype(object).where(frame.notna(), None)
    packed = rows.pack_values(json.loads(json.dumps(whole.to_dict(orient="records"))))
    return open_engine(folder, card, choice).predict(rows.join([packed], len(frame)))


def beside(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows, with numbers next to theirs: the nearest float64, and the nearest whole ones."""
    numbers = frame.select_dtypes("number").columns
    wholes = [name for name in numbers if frame[name].dtype.kind == "i"]
    others = [frame]
    for step in (-np.inf, np.inf):
        changed = frame.copy()
        for name in numbers:
            is_whole = name in wholes
            changed[name] = frame[name] + np.sign(step) if is_whole else np.nextafter(frame[name].astype(float), step)
        others.append(changed)
    return pd.concat(others, ignore_index=True).astype(dict.fromkeys(wholes, "int64"))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_float32_would_change_gets_rows_of_float64(name: str, tmp_path: Path) -> None:
    make, frame, targets = MODELS[name]
    model = make().fit(frame, targets)
    card = converted(stranger(model, frame), tmp_path)
    assert (card.format, card.input_datatype, card.takes_float64) == (3, "FP64", True)
    rows = beside(frame)
    np.testing.assert_allclose(served(card, tmp_path, rows), own_scores(model, rows), rtol=1e-5, atol=2e-6)
    narrow = rows.assign(**{column: rows[column].astype("f4").astype("f8") for column in FRAME.columns})
    assert np.abs(own_scores(model, narrow) - own_scores(model, rows)).max() > 0.01, "float32 does change it"


def test_a_column_of_float32_is_rounded_beside_columns_of_float64(tmp_path: Path) -> None:
    """As MLflow does it, which goes by the signature as well."""
    frame = FRAME.assign(width=FRAME["width"].astype("float32"))
    model = HistGradientBoostingRegressor(max_iter=8).fit(frame, VALUES)
    card = converted(stranger(model, frame), tmp_path)
    assert [feature.precision for feature in card.features] == ["float32", "float64", "float64", "float64"]
    rows = frame.assign(width=np.nextafter(frame["width"].astype("float64"), np.inf))
    np.testing.assert_allclose(served(card, tmp_path, rows), model.predict(frame), rtol=1e-5)


def test_numbers_that_float32_holds_stay_there(tmp_path: Path) -> None:
    frame = FRAME[["width"]].assign(count=np.arange(ROWS) % 9)
    for model in (LinearRegression(), HistGradientBoostingRegressor(max_iter=5)):
        card = converted(stranger(model.fit(frame, VALUES), frame), tmp_path)
        assert (card.format, card.input_datatype) == (2, "FP32")


def test_large_whole_numbers_are_float64_wherever_the_model_may_tell_them_apart(tmp_path: Path) -> None:
    """Of these the answers hardly depend on the digits; but then the examples themselves would be refused."""
    frame = FRAME[["width"]].assign(views=RANDOM.integers(10**8, 10**9, ROWS))
    line = LinearRegression().fit(frame, VALUES)
    assert converted(stranger(line, frame), tmp_path).takes_float64
    scaled = make_pipeline(StandardScaler(), LinearRegression()).fit(frame, VALUES)
    alone = dataclasses.replace(stranger(scaled, frame), example=None)
    assert converted(alone, tmp_path).takes_float64, "its scaler remembers"


@pytest.mark.parametrize(
    "model", [RandomForestRegressor(5, n_jobs=1, random_state=0), xgboost.XGBRegressor(n_estimators=5, n_jobs=1)]
)
def test_what_rounds_its_rows_itself_takes_large_whole_numbers_as_it_does(model: Any, tmp_path: Path) -> None:
    card = converted(stranger(model.fit(FRAME, VALUES), FRAME), tmp_path)
    assert (card.format, card.input_datatype) == (2, "FP32")
    np.testing.assert_allclose(
        served(card, tmp_path, beside(FRAME)), model.predict(beside(FRAME)), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(5, random_state=0),
        xgboost.XGBClassifier(n_estimators=5, n_jobs=1),
        make_pipeline(StandardScaler(), LogisticRegression()),
    ],
)
@pytest.mark.parametrize("kind", ["float64", "float32"])
def test_any_model_of_numbers_can_be_given_float64(model: Any, kind: str, tmp_path: Path) -> None:
    """Where float32 is not close enough for somebody."""
    frame = FRAME[["width", "balance"]].assign(balance=FRAME["balance"] - 1e9).astype(kind)
    card = converted(stranger(model.fit(frame, LABELS), frame), tmp_path, float64=True)
    assert card.takes_float64
    expected = own_scores(model, frame)
    for file in card.files:
        choice = EngineChoice.XGBOOST if file is FileKind.UBJ else EngineChoice.ONNXRUNTIME
        np.testing.assert_allclose(served(card, tmp_path, frame, choice), expected, rtol=1e-4, atol=1e-6)


def test_no_number_takes_the_other_side_of_a_threshold(tmp_path: Path) -> None:
    """Of data that are thresholds themselves float32 does not tell all from their neighbours."""
    frame = FRAME[["width"]].assign(height=RANDOM.normal(size=ROWS))
    model = HistGradientBoostingRegressor(max_iter=20).fit(frame, frame["width"] * 3 + frame["height"])
    rows = beside(frame)
    for float64 in (False, True):
        card = converted(stranger(model, frame), tmp_path, float64=float64)
        wrong = np.abs(served(card, tmp_path, rows) - model.predict(rows)) > 1e-4
        assert (card.takes_float64, wrong.any()) == (float64, not float64)


def test_what_float64_does_not_mend_is_refused_as_before(tmp_path: Path) -> None:
    frame = FRAME[["width"]][:60]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = SVC(probability=True).fit(frame, RANDOM.integers(0, 2, 60))
    with pytest.raises(VerificationFailed, match="another label than the framework's predict"):
        converted(stranger(model, frame), tmp_path)


def test_float64_rows_are_imported_stored_and_ordered(
    log_model: Callable[..., str],
) -> None:
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(FRAME, LABELS)
    boosted = xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(FRAME, LABELS)
    arguments = {"input_example": FRAME.head(20), "signature": mlflow.models.infer_signature(FRAME)}
    uri = log_model("sklearn", model, serialization_format="cloudpickle", **arguments)
    other = log_model("sklearn", boosted, serialization_format="cloudpickle", **arguments)
    wide = import_version(ImportOrder(uri, "line", "wide")).artefact
    narrow = import_version(ImportOrder(other, "trees", "wide")).artefact
    assert "FP32" in narrow.card.input_datatype
    check_alike([wide, narrow])
    with pytest.raises(VersionTaken, match=r"with rows of float32, not .* with float64: choose another label, or add"):
        import_version(ImportOrder(other, "trees", "wide", float64=True))
    again = import_version(ImportOrder(other, "trees", "wide", WhenTaken.REPLACE, float64=True))
    assert again.artefact.digest != narrow.digest
    assert import_version(ImportOrder(other, "trees", "wide", float64=True)).outcome is ImportOutcome.ALREADY_THERE
    assert_reference_of(wide)
    with pytest.raises(QuantizationRefused, match="its rows are float64"):
        quantize_version(QuantizeOrder("wide:line", "small"))


def assert_reference_of(artefact: Artefact) -> None:
    reference = read_reference(artefact.folder, artefact.card)
    assert reference is not None
    bins: Any = reference.features["seen_at"].bins
    assert set(bins.bounds) <= set(FRAME["seen_at"].head(20).astype(float)), "counted without rounding"


def test_a_text_has_no_precision() -> None:
    """Where nothing is a number, there is nothing that float64 could hold."""
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()).fit(MIXED[["colour"]], LABELS)
    source = stranger(model, MIXED[["colour"]])
    with pytest.raises(UnsupportedModel, match="takes no numbers that float64 could hold"):
        conversion.candidates(source, conversion.describe(source), wide=True)


def test_dates_are_refused_with_what_would_help() -> None:
    frame = pd.DataFrame({"width": FRAME["width"], "seen": pd.to_datetime(FRAME["seen_at"], unit="s")})
    days = FunctionTransformer(lambda seen: (seen - pd.Timestamp("2023-01-01")) / pd.Timedelta(days=1))
    model = make_pipeline(
        ColumnTransformer([("n", "passthrough", ["width"]), ("d", days, ["seen"])]), LinearRegression()
    ).fit(frame, VALUES)
    with pytest.raises(UnsupportedModel, match=r"seen \(datetime\)\. Make numbers of dates and times before the model"):
        conversion.describe(stranger(model, frame))
