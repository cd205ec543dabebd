"""Models of mixed columns: categories, missing values and numbers, imported and scored as their framework does.

A row is packed of JSON as a server does it, and scored by the engine that serves the version.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
    TargetEncoder,
)
from xgboost import XGBClassifier

from configuration.settings import EngineChoice
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import read_card
from runners.artefacts.reference import read_reference
from runners.engines.engine import open_engine
from runners.inputs.faults import InputFault
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.version import ImportOrder, import_version, set_reference

NUMBERS, TEXTS = ["age", "fare"], ["sex", "port", "deck"]


def passengers(rows: int = 400, gaps: bool = True) -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": random.normal(40, 10, rows).round(1),
            "fare": random.exponential(30, rows).round(2),
            "sex": random.choice(["male", "female"], rows),
            "port": random.choice(["S", "C", "Q", "Zürich ✓"], rows),
            "deck": random.choice(["1", "2", "3"], rows),
        }
    )
    if gaps:
        frame.loc[::7, "age"] = np.nan
        frame.loc[::9, "port"] = np.nan
    return frame


FRAME, WHOLE = passengers(), passengers(gaps=False)
SURVIVED = ((FRAME.sex == "female") | (FRAME.fare > 60)).astype(int) ^ (np.arange(400) % 9 == 0)
PAID = FRAME.fare * 2 + (FRAME.sex == "male") * 5 + FRAME.age.fillna(40) / 10
SCALED = make_pipeline(SimpleImputer(), StandardScaler())
MOST_FREQUENT = SimpleImputer(strategy="most_frequent")
ORDINAL = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)
LOGARITHMS = make_pipeline(SimpleImputer(), FunctionTransformer(np.log1p), KBinsDiscretizer(4))


def columns(encoder: Any, numbers: Any = SCALED) -> ColumnTransformer:
    return ColumnTransformer([("n", numbers, NUMBERS), ("t", encoder, TEXTS)])


MODELS: dict[str, Callable[[], Any]] = {
    "one-hot, unknown ignored": lambda: make_pipeline(
        columns(OneHotEncoder(handle_unknown="ignore"), SimpleImputer()),
        GradientBoostingClassifier(n_estimators=20, random_state=0),
    ).fit(FRAME, SURVIVED),
    "one-hot, unknown refused": lambda: make_pipeline(columns(OneHotEncoder()), LogisticRegression()).fit(
        FRAME, SURVIVED
    ),
    "one-hot behind an imputer": lambda: make_pipeline(
        columns(make_pipeline(MOST_FREQUENT, OneHotEncoder(drop="first", handle_unknown="ignore"))),
        LogisticRegression(),
    ).fit(FRAME, SURVIVED),
    "rare levels together": lambda: make_pipeline(
        columns(OneHotEncoder(max_categories=2, handle_unknown="infrequent_if_exist")), LogisticRegression()
    ).fit(FRAME, SURVIVED),
    "ordinal": lambda: make_pipeline(
        columns(ORDINAL, SimpleImputer()),
        RandomForestRegressor(n_estimators=10, random_state=0),
    ).fit(FRAME, PAID),
    "target": lambda: make_pipeline(columns(TargetEncoder(random_state=0)), Ridge()).fit(FRAME, PAID),
    "searched": lambda: GridSearchCV(
        make_pipeline(columns(OneHotEncoder(handle_unknown="ignore")), LogisticRegression()),
        {"logisticregression__C": [0.1, 1.0]},
        cv=2,
    ).fit(FRAME, SURVIVED),
    "no gaps": lambda: make_pipeline(columns(OneHotEncoder(), StandardScaler()), LogisticRegression()).fit(
        WHOLE, SURVIVED
    ),
    "texts alone": lambda: make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()).fit(
        FRAME[TEXTS], SURVIVED
    ),
    "histograms with categories": lambda: HistGradientBoostingClassifier(
        max_iter=20, categorical_features=TEXTS, random_state=0
    ).fit(FRAME, SURVIVED),
    "scaled XGBoost": lambda: make_pipeline(
        columns(OneHotEncoder(handle_unknown="ignore")), XGBClassifier(n_estimators=10, max_depth=4, n_jobs=1)
    ).fit(FRAME, SURVIVED),
    "a stack of pipelines": lambda: StackingClassifier(
        [
            ("line", make_pipeline(columns(OneHotEncoder(handle_unknown="ignore")), LogisticRegression())),
            ("trees", make_pipeline(columns(ORDINAL), GradientBoostingClassifier(n_estimators=10, random_state=0))),
        ],
        cv=2,
    ).fit(FRAME, SURVIVED),
    "logarithm of the target": lambda: TransformedTargetRegressor(
        make_pipeline(
            columns(make_pipeline(OneHotEncoder(handle_unknown="ignore"), TruncatedSVD(3, random_state=0)), LOGARITHMS),
            Ridge(),
        ),
        func=np.log1p,
        inverse_func=np.expm1,
    ).fit(FRAME, PAID),
    "a number among the categories": lambda: make_pipeline(
        ColumnTransformer([("n", SCALED, NUMBERS), ("t", OneHotEncoder(handle_unknown="ignore"), ["sex", "class"])]),
        LogisticRegression(),
    ).fit(FRAME.assign(**{"class": np.arange(400) % 3 + 1}), SURVIVED),
}


def imported(log_model: Callable[..., str], model: Any, frame: pd.DataFrame, label: str) -> Artefact:
    signature = mlflow.models.infer_signature(frame)
    uri = log_model(
        "sklearn", model, input_example=frame.head(20), signature=signature, serialization_format="cloudpickle"
    )
    return import_version(ImportOrder(uri, label, "typed")).artefact


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of JSON, as pandas writes them."""
    found: list[dict[str, Any]] = json.loads(frame.to_json(orient="records"))
    return found


def scored(artefact: Artefact, rows: list[Any]) -> np.ndarray[Any, Any]:
    card = read_card(artefact.folder)
    engine = open_engine(artefact.folder, card, EngineChoice.AUTO)
    row_format = card.row_format
    return np.asarray(engine.predict(row_format.join([row_format.pack(rows)], len(rows))))


def own_scores(model: Any, frame: pd.DataFrame) -> np.ndarray[Any, Any]:
    return np.asarray(model.predict_proba(frame)[:, 1] if hasattr(model, "predict_proba") else model.predict(frame))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_mixed_columns_scores_as_its_framework_does(name: str, log_model: Callable[..., str]) -> None:
    model = MODELS[name]()
    names = list(model.feature_names_in_)
    frame = (WHOLE if name == "no gaps" else FRAME).assign(**{"class": np.arange(400) % 3 + 1})[names]
    artefact = imported(log_model, model, frame, name.lower().replace(" ", "-").replace(",", ""))
    card = read_card(artefact.folder)
    features = {feature.name: feature for feature in card.features}
    assert card.format == 3
    held = frame.tail(50)
    rows = rows_of(held)
    expected = own_scores(model, held)
    tolerance = 1e-5 * max(1, np.abs(expected).max())
    np.testing.assert_allclose(scored(artefact, rows).ravel(), expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(
        scored(artefact, [list(row.values()) for row in rows]).ravel(), expected, rtol=0, atol=tolerance
    )
    if features["sex"].other:
        unknown = held.assign(sex="unheard of")
        np.testing.assert_allclose(
            scored(artefact, rows_of(unknown)).ravel(), own_scores(model, unknown), rtol=0, atol=tolerance
        )
    else:
        with pytest.raises(InputFault, match=r"row 0, feature 'sex': the text 'mal' .*nearest is 'male'"):
            card.row_format.pack([rows[0] | {"sex": "mal"}])
    if "age" in features:
        assert features["age"].nullable == (name != "no gaps")


def test_what_its_data_were_like_is_counted_by_level(log_model: Callable[..., str], tmp_path: Path) -> None:
    model = MODELS["one-hot, unknown refused"]()
    artefact = imported(log_model, model, FRAME, "counted")
    FRAME.assign(sex=["male"] * 250 + ["unheard of"] * 150).to_csv(tmp_path / "rows.csv", index=False)
    artefact = set_reference(artefact.tag, tmp_path / "rows.csv")
    profile = read_reference(artefact.folder, artefact.card)
    assert profile is not None
    counts = {name: one.counts for name, one in profile.features.items()}
    assert (profile.rows, profile.scored_rows) == (400, 250)
    assert (counts["sex"], counts["port"][-1]) == ((250, 150, 0), FRAME.port.isna().sum())
    assert counts["age"][-1] == FRAME.age.isna().sum()


WITH_NONE = FRAME.assign(port=FRAME.port.astype(object).where(FRAME.port.notna(), None))


def test_a_gap_is_what_it_was_in_the_training(log_model: Callable[..., str]) -> None:
    encoder = OneHotEncoder(handle_unknown="ignore")
    model = make_pipeline(columns(encoder), LogisticRegression()).fit(WITH_NONE, SURVIVED ^ WITH_NONE.port.isna())
    artefact = imported(log_model, model, WITH_NONE, "none")
    held = WITH_NONE.tail(50)
    np.testing.assert_allclose(scored(artefact, rows_of(held)).ravel(), own_scores(model, held), rtol=0, atol=1e-5)


def lowered(frame: Any) -> Any:
    return frame.apply(lambda column: column.str.lower())


LETTERS = FunctionTransformer(lowered, feature_names_out="one-to-one")
REFUSED: dict[str, tuple[Any, str]] = {
    "texts are changed before": (columns(make_pipeline(LETTERS, OneHotEncoder())), "must be alone"),
    "a marker of missing ones": (
        columns(make_pipeline(SimpleImputer(missing_values="S", strategy="most_frequent"), OneHotEncoder())),
        "must be alone",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_may_make_others_of_texts_is_refused(name: str, log_model: Callable[..., str]) -> None:
    transformer, says = REFUSED[name]
    model = make_pipeline(transformer, LogisticRegression()).fit(WHOLE, SURVIVED)
    with pytest.raises(UnsupportedModel, match=says):
        imported(log_model, model, WHOLE, "refused")


def test_several_values_of_mixed_columns_score_as_the_framework_does(log_model: Callable[..., str]) -> None:
    both = np.column_stack([PAID, 1000 * PAID - 3])
    model = make_pipeline(columns(OneHotEncoder(handle_unknown="ignore")), Ridge()).fit(FRAME, both)
    artefact = imported(log_model, model, FRAME, "several-values")
    assert read_card(artefact.folder).outputs == ("output_0", "output_1")
    np.testing.assert_allclose(scored(artefact, rows_of(FRAME.tail(50))), model.predict(FRAME.tail(50)), rtol=1e-4)


def test_trees_behind_what_mixes_columns_and_several_labels_are_refused(log_model: Callable[..., str]) -> None:
    trees = make_pipeline(columns(OneHotEncoder(sparse_output=False)), PCA(2), GradientBoostingClassifier())
    with pytest.raises(UnsupportedModel, match="behind a PCA"):
        imported(log_model, trees.fit(WHOLE, SURVIVED), WHOLE, "components")
    labels = np.column_stack([SURVIVED, SURVIVED])
    several = make_pipeline(columns(OneHotEncoder()), RandomForestClassifier(3)).fit(WHOLE, labels)
    with pytest.raises(UnsupportedModel, match="2 labels a row"):
        imported(log_model, several, WHOLE, "several")


@pytest.mark.parametrize("name", ["histograms with categories", "scaled XGBoost"])
def test_values_of_the_training_data_are_on_their_side_of_thresholds(name: str, log_model: Callable[..., str]) -> None:
    model = MODELS[name]()
    artefact = imported(log_model, model, FRAME, f"{name.lower().replace(' ', '-')}-thresholds")
    np.testing.assert_allclose(scored(artefact, rows_of(FRAME)).ravel(), own_scores(model, FRAME), rtol=0, atol=1e-5)
