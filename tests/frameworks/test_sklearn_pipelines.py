"""Pipelines of scikit-learn over mixed columns, one for each ordinary setting: what is served is what they give.

No registry is asked: each model is described, converted and verified as an import does it, and then scored once more on
rows of JSON that nobody drew: values of the training data, on which thresholds lie, other levels, gaps and extremes.
"""

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import RFE, SelectFromModel, SelectKBest, VarianceThreshold
from sklearn.frozen import FrozenEstimator
from sklearn.impute import KNNImputer, MissingIndicator, SimpleImputer
from sklearn.impute._iterative import IterativeImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, TunedThresholdClassifierCV
from sklearn.pipeline import FeatureUnion, make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from xgboost import XGBClassifier, XGBRegressor

from runners.artefacts.card import FileKind
from shokado.lifecycle.errors import LifecycleError, UnsupportedModel
from shokado.lifecycle.importing import conversion, verification
from shokado.lifecycle.importing.registry import LoadedModel
from tests.frameworks.test_typed_columns import FRAME, NUMBERS, PAID, SURVIVED, TEXTS, WHOLE

BOOLEAN = FRAME.assign(alone=np.arange(400) % 3 == 0)
CODED = FRAME.assign(**{"class": np.arange(400) % 3 + 1})
CATEGORIES = FRAME.astype(dict.fromkeys(TEXTS, "category"))
ABSENT = WHOLE.assign(age=WHOLE.age.where(np.arange(400) % 7 > 0, -999.0))
PORTS = np.where(WHOLE.port.isin(["S", "C"]), WHOLE.port, "other")
IGNORED = OneHotEncoder(handle_unknown="ignore")
ORDINAL = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)
FILLED = SimpleImputer(strategy="median")


def mixed(numbers: Any = FILLED, encoder: Any = IGNORED, **settings: Any) -> ColumnTransformer:
    return ColumnTransformer([("n", numbers, NUMBERS), ("t", encoder, TEXTS)], **settings)


SCALED = make_pipeline(FILLED, StandardScaler())
FOREST = RandomForestClassifier(10, random_state=0, n_jobs=1)
LOGISTIC = LogisticRegression(max_iter=1000)
BOOSTED = XGBClassifier(n_estimators=10, max_depth=3, n_jobs=1)


def linear(columns: Any) -> Any:
    return make_pipeline(columns, LOGISTIC)


def searched(model: Any, **grid: Any) -> GridSearchCV:
    return GridSearchCV(model, grid, cv=2)


def linear_of(numbers: Any) -> Any:
    return linear(mixed(numbers))


MODELS: dict[str, tuple[Any, pd.DataFrame, Any]] = {
    # trees
    "histograms behind an ordinal encoder": (
        make_pipeline(
            ColumnTransformer([("t", ORDINAL, TEXTS)], remainder="passthrough"),
            HistGradientBoostingClassifier(max_iter=20),
        ),
        FRAME,
        SURVIVED,
    ),
    "histograms with categories by mask": (
        make_pipeline(
            ColumnTransformer([("t", ORDINAL, TEXTS)], remainder="passthrough"),
            HistGradientBoostingClassifier(max_iter=20, categorical_features=[True, True, True, False, False]),
        ),
        FRAME,
        SURVIVED,
    ),
    "histograms with categories by type": (HistGradientBoostingClassifier(max_iter=20), CATEGORIES, SURVIVED),
    "histograms with categories of three classes": (HistGradientBoostingClassifier(max_iter=10), CATEGORIES, PORTS),
    "histograms with categories by name": (
        HistGradientBoostingRegressor(max_iter=20, categorical_features=TEXTS),
        FRAME,
        PAID,
    ),
    "histograms with categories by number": (
        HistGradientBoostingRegressor(max_iter=20, loss="poisson", categorical_features=[2]),
        CODED[[*NUMBERS, "class"]],
        PAID,
    ),
    "scaled histograms": (
        make_pipeline(
            mixed(StandardScaler(), OneHotEncoder(handle_unknown="ignore", sparse_output=False), sparse_threshold=0),
            HistGradientBoostingClassifier(max_iter=20),
        ),
        FRAME,
        SURVIVED,
    ),
    "histograms behind target encoders": (
        make_pipeline(mixed("passthrough", TargetEncoder(random_state=0)), HistGradientBoostingRegressor(max_iter=20)),
        FRAME,
        PAID,
    ),
    "scaled forest": (make_pipeline(mixed(SCALED), FOREST), FRAME, SURVIVED),
    "scaled forest of three": (make_pipeline(mixed(SCALED), FOREST), FRAME, PORTS),
    "scaled gradient boosting": (
        make_pipeline(mixed(make_pipeline(FILLED, RobustScaler())), GradientBoostingClassifier(n_estimators=20)),
        FRAME,
        SURVIVED,
    ),
    "gradient boosting of three": (
        make_pipeline(mixed(SCALED), GradientBoostingClassifier(n_estimators=8)),
        FRAME,
        PORTS,
    ),
    "exponential gradient boosting": (
        make_pipeline(mixed(SCALED), GradientBoostingClassifier(n_estimators=8, loss="exponential")),
        FRAME,
        SURVIVED,
    ),
    "scaled boosted values": (
        make_pipeline(mixed(make_pipeline(FILLED, MinMaxScaler())), GradientBoostingRegressor(n_estimators=20)),
        FRAME,
        PAID,
    ),
    "scaled tree": (make_pipeline(mixed(SCALED), DecisionTreeClassifier(max_depth=6)), FRAME, SURVIVED),
    "scaled tree's values": (make_pipeline(mixed(SCALED), DecisionTreeRegressor(max_depth=6)), FRAME, PAID),
    "extra trees": (make_pipeline(mixed(SCALED), ExtraTreesRegressor(8, n_jobs=1)), FRAME, PAID),
    "forest with gaps": (
        make_pipeline(mixed("passthrough"), RandomForestRegressor(8, random_state=0, n_jobs=1)),
        FRAME,
        PAID,
    ),
    "forest with gaps, of numbers": (RandomForestRegressor(8, random_state=0, n_jobs=1), FRAME[NUMBERS], PAID),
    "forest behind logarithms": (
        make_pipeline(mixed(make_pipeline(FILLED, FunctionTransformer(np.log1p), StandardScaler())), FOREST),
        FRAME,
        SURVIVED,
    ),
    "forest behind quantiles": (
        make_pipeline(mixed(make_pipeline(FILLED, QuantileTransformer(n_quantiles=50))), FOREST),
        FRAME,
        SURVIVED,
    ),
    "forest of the best columns": (make_pipeline(mixed(SCALED), SelectKBest(k=4), FOREST), FRAME, SURVIVED),
    "forest with indicators": (make_pipeline(mixed(SimpleImputer(add_indicator=True)), FOREST), FRAME, SURVIVED),
    "scaled forest of numbers": (make_pipeline(FILLED, StandardScaler(), FOREST), FRAME[NUMBERS], SURVIVED),
    # XGBoost
    "XGBoost": (make_pipeline(mixed("passthrough"), BOOSTED), FRAME, SURVIVED),
    "scaled XGBoost": (make_pipeline(mixed(SCALED), BOOSTED), FRAME, SURVIVED),
    "XGBoost of three": (make_pipeline(mixed(SCALED), BOOSTED), FRAME, np.unique(PORTS, return_inverse=True)[1]),
    "XGBoost's values": (make_pipeline(mixed(SCALED), XGBRegressor(n_estimators=10, n_jobs=1)), FRAME, PAID),
    "XGBoost of numbers": (make_pipeline(StandardScaler(), BOOSTED), FRAME[NUMBERS], SURVIVED),
    "searched XGBoost": (searched(BOOSTED, max_depth=[2, 3]), FRAME[NUMBERS], SURVIVED),
    "calibrated XGBoost": (CalibratedClassifierCV(BOOSTED, cv=2), FRAME[NUMBERS], SURVIVED),
    "searched XGBoost of mixed columns": (
        searched(make_pipeline(mixed(SCALED), BOOSTED), xgbclassifier__max_depth=[2, 3]),
        FRAME,
        SURVIVED,
    ),
    "linear XGBoost": (
        make_pipeline(mixed(SCALED), XGBClassifier(booster="gblinear", n_estimators=5, n_jobs=1)),
        FRAME,
        SURVIVED,
    ),
    # combinations
    "vote of pipelines": (
        VotingClassifier(
            [("a", linear_of(SCALED)), ("b", make_pipeline(mixed(SCALED), FOREST))], voting="soft", weights=[1, 2]
        ),
        FRAME,
        SURVIVED,
    ),
    "vote behind columns": (
        make_pipeline(mixed(SCALED), VotingClassifier([("a", LOGISTIC), ("b", FOREST), ("c", BOOSTED)], voting="soft")),
        FRAME,
        SURVIVED,
    ),
    "vote of values": (
        VotingRegressor(
            [("a", make_pipeline(mixed(SCALED), Ridge())), ("b", make_pipeline(mixed(), GradientBoostingRegressor()))]
        ),
        FRAME,
        PAID,
    ),
    "stack": (
        StackingClassifier([("a", linear_of(SCALED)), ("b", make_pipeline(mixed(SCALED), FOREST))], LOGISTIC, cv=2),
        FRAME,
        SURVIVED,
    ),
    "stack of three classes": (
        make_pipeline(mixed(SCALED), StackingClassifier([("a", LOGISTIC), ("b", FOREST)], LOGISTIC, cv=2)),
        FRAME,
        PORTS,
    ),
    "stack of values": (
        StackingRegressor(
            [
                ("a", make_pipeline(mixed(SCALED), Ridge())),
                ("b", make_pipeline(mixed(SCALED), RandomForestRegressor(5))),
            ],
            cv=2,
        ),
        FRAME,
        PAID,
    ),
    "calibrated logistic regression": (CalibratedClassifierCV(linear_of(SCALED), cv=3), FRAME, SURVIVED),
    "calibrated forest": (
        CalibratedClassifierCV(make_pipeline(mixed(SCALED), FOREST), cv=3, method="isotonic"),
        FRAME,
        SURVIVED,
    ),
    "calibrated forest of three": (
        CalibratedClassifierCV(make_pipeline(mixed(SCALED), FOREST), cv=3, method="isotonic"),
        FRAME,
        PORTS,
    ),
    "calibrated boosting": (
        CalibratedClassifierCV(make_pipeline(mixed(SCALED), GradientBoostingClassifier(n_estimators=8)), cv=2),
        FRAME,
        SURVIVED,
    ),
    "calibrated support vectors": (
        make_pipeline(mixed(SCALED), CalibratedClassifierCV(LinearSVC(), cv=2)),
        FRAME,
        SURVIVED,
    ),
    "calibrated support vectors of three": (
        make_pipeline(mixed(SCALED), CalibratedClassifierCV(LinearSVC(), cv=2)),
        FRAME,
        PORTS,
    ),
    "fixed threshold": (FixedThresholdClassifier(make_pipeline(mixed(SCALED), FOREST), threshold=0.3), FRAME, SURVIVED),
    "tuned threshold": (
        make_pipeline(mixed(SCALED), TunedThresholdClassifierCV(LOGISTIC, cv=2, scoring="f1")),
        FRAME,
        SURVIVED,
    ),
    "logarithm of the target": (
        TransformedTargetRegressor(make_pipeline(mixed(SCALED), Ridge()), func=np.log1p, inverse_func=np.expm1),
        FRAME,
        PAID,
    ),
    "root of the target": (
        TransformedTargetRegressor(
            make_pipeline(mixed(SCALED), RandomForestRegressor(5)), func=np.sqrt, inverse_func=np.square
        ),
        FRAME,
        PAID,
    ),
    "scaled target": (
        make_pipeline(mixed(SCALED), TransformedTargetRegressor(Ridge(), transformer=MinMaxScaler())),
        FRAME,
        PAID,
    ),
    "scaled target of numbers": (
        TransformedTargetRegressor(Ridge(), transformer=StandardScaler()),
        WHOLE[NUMBERS],
        PAID,
    ),
    # columns
    "an imputer and an encoder alone": (
        make_pipeline(SimpleImputer(strategy="most_frequent"), IGNORED, LOGISTIC),
        FRAME[TEXTS],
        SURVIVED,
    ),
    "numbers that are encoded": (make_pipeline(ORDINAL, DecisionTreeClassifier()), CODED[["class"]], SURVIVED),
    "numbers that are encoded, linear": (make_pipeline(IGNORED, LOGISTIC), CODED[["class"]], SURVIVED),
    "remainder": (linear(ColumnTransformer([("t", IGNORED, TEXTS)], remainder=SCALED)), FRAME, SURVIVED),
    "passthrough first": (
        linear(ColumnTransformer([("n", "passthrough", NUMBERS), ("t", IGNORED, TEXTS)])),
        WHOLE,
        SURVIVED,
    ),
    "columns by selector": (
        linear(
            make_column_transformer(
                (SCALED, make_column_selector(dtype_include="number")),
                (IGNORED, make_column_selector(dtype_exclude="number")),
            )
        ),
        FRAME,
        SURVIVED,
    ),
    "columns by slice and mask": (
        linear(ColumnTransformer([("n", SCALED, slice(0, 2)), ("t", IGNORED, [False, False, True, True, True])])),
        FRAME,
        SURVIVED,
    ),
    "columns by position and function": (
        linear(
            ColumnTransformer(
                [("n", SCALED, [0, 1]), ("t", IGNORED, lambda frame: ["sex", "deck"])], verbose_feature_names_out=False
            )
        ),
        FRAME,
        SURVIVED,
    ),
    "frames between the steps": (
        make_pipeline(
            mixed(SCALED, OneHotEncoder(handle_unknown="ignore", sparse_output=False)), StandardScaler(), FOREST
        ).set_output(transform="pandas"),
        FRAME,
        SURVIVED,
    ),
    "truth values among texts": (
        linear(ColumnTransformer([("n", SCALED, NUMBERS), ("t", IGNORED, ["sex", "alone"])])),
        BOOLEAN,
        SURVIVED,
    ),
    "one level dropped": (
        linear_of(SCALED).set_params(columntransformer__t=OneHotEncoder(drop="if_binary", handle_unknown="ignore")),
        FRAME,
        SURVIVED,
    ),
    "rare levels": (
        linear(mixed(SCALED, OneHotEncoder(min_frequency=110, handle_unknown="infrequent_if_exist"))),
        FRAME,
        SURVIVED,
    ),
    "a warning of unknown levels": (
        linear(mixed(SCALED, OneHotEncoder(max_categories=3, handle_unknown="warn"))),
        FRAME,
        SURVIVED,
    ),
    "ordinal and linear": (linear(mixed(SCALED, ORDINAL)), FRAME, SURVIVED),
    "a constant for gaps": (
        linear(
            mixed(
                SimpleImputer(strategy="constant", fill_value=-1),
                make_pipeline(SimpleImputer(strategy="constant", fill_value="none"), IGNORED),
            )
        ),
        FRAME,
        SURVIVED,
    ),
    "indicators of gaps": (
        linear(mixed(make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()))),
        FRAME,
        SURVIVED,
    ),
    "indicators in a union": (linear(mixed(make_union(SimpleImputer(), MissingIndicator()))), FRAME, SURVIVED),
    "a number for what is missing": (
        linear(mixed(make_pipeline(SimpleImputer(missing_values=-999), StandardScaler()))),
        ABSENT,
        SURVIVED,
    ),
    "logarithms": (linear(mixed(make_pipeline(FILLED, FunctionTransformer(np.log1p)))), FRAME, SURVIVED),
    "roots of numbers": (
        make_pipeline(FunctionTransformer(np.sqrt), StandardScaler(), LOGISTIC),
        WHOLE[NUMBERS],
        SURVIVED,
    ),
    "absolute values": (linear(mixed(make_pipeline(FILLED, FunctionTransformer(np.abs)))), FRAME, SURVIVED),
    "bins": (linear(mixed(make_pipeline(FILLED, KBinsDiscretizer(5, encode="onehot")))), FRAME, SURVIVED),
    "bins of numbers": (make_pipeline(KBinsDiscretizer(4, encode="onehot-dense"), LOGISTIC), WHOLE[NUMBERS], SURVIVED),
    "bins in order, and a forest": (
        make_pipeline(mixed(KBinsDiscretizer(4, encode="ordinal")), FOREST),
        WHOLE,
        SURVIVED,
    ),
    "products": (make_pipeline(mixed(SCALED), PolynomialFeatures(2), LOGISTIC), FRAME, SURVIVED),
    "products of one encoder": (
        linear(
            mixed(
                SCALED, make_pipeline(OneHotEncoder(handle_unknown="ignore"), PolynomialFeatures(interaction_only=True))
            )
        ),
        FRAME,
        SURVIVED,
    ),
    "powers": (linear(mixed(make_pipeline(FILLED, PowerTransformer()))), FRAME, SURVIVED),
    "quantiles": (linear(mixed(make_pipeline(FILLED, QuantileTransformer(n_quantiles=40)))), FRAME, SURVIVED),
    "curves": (linear_of(make_pipeline(FILLED, SplineTransformer())), FRAME, SURVIVED),
    "lines for gaps": (linear_of(IterativeImputer(random_state=0)), FRAME, SURVIVED),
    "waves of numbers": (linear_of(make_pipeline(FILLED, FunctionTransformer(np.cos))), FRAME, SURVIVED),
    "discriminants": (
        make_pipeline(
            mixed(SCALED, OneHotEncoder(handle_unknown="ignore", sparse_output=False), sparse_threshold=0),
            LinearDiscriminantAnalysis(),
        ),
        FRAME,
        SURVIVED,
    ),
    "discriminants in a stack": (
        StackingClassifier([("a", linear_of(SCALED))], LinearDiscriminantAnalysis(), cv=2),
        FRAME,
        SURVIVED,
    ),
    "calibrated discriminants": (
        CalibratedClassifierCV(
            make_pipeline(
                mixed(SCALED, OneHotEncoder(handle_unknown="ignore", sparse_output=False), sparse_threshold=0),
                LinearDiscriminantAnalysis(),
            ),
            cv=2,
        ),
        FRAME,
        PORTS,
    ),
    "columns by elimination": (make_pipeline(mixed(SCALED), RFE(LOGISTIC, n_features_to_select=4)), FRAME, SURVIVED),
    "the best columns": (
        make_pipeline(mixed(SCALED), VarianceThreshold(), SelectKBest(k=4), LOGISTIC),
        FRAME,
        SURVIVED,
    ),
    "columns by a model": (
        make_pipeline(mixed(SCALED), SelectFromModel(LogisticRegression()), LOGISTIC),
        FRAME,
        SURVIVED,
    ),
    "components": (
        make_pipeline(
            mixed(SCALED, OneHotEncoder(handle_unknown="ignore", sparse_output=False), sparse_threshold=0),
            PCA(3),
            LOGISTIC,
        ),
        FRAME,
        SURVIVED,
    ),
    "components of an encoder": (
        linear(mixed(SCALED, make_pipeline(OneHotEncoder(handle_unknown="ignore"), TruncatedSVD(3)))),
        FRAME,
        SURVIVED,
    ),
    "a union": (linear(FeatureUnion([("a", mixed(SCALED)), ("b", mixed(SCALED, ORDINAL))])), FRAME, SURVIVED),
}


def stranger(model: Any, frame: pd.DataFrame) -> LoadedModel:
    """A model as it comes out of a registry, of which a frame says what its columns are."""
    signature = mlflow.models.infer_signature(frame)
    example = frame.head(20).astype({name: object for name in frame if frame[name].dtype == "category"})
    return LoadedModel(model, "models:/x/1", "", "sklearn", "scikit-learn", signature, example, {}, {})


def imported(source: LoadedModel, folder: Path) -> conversion.ModelDescription:
    description = conversion.describe(source)
    kinds = conversion.convert(source.model, description, folder)
    verification.verify(source, description, folder, kinds, 1e-4)
    return description


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=15))
    return found


def hard_rows(frame: pd.DataFrame, features: dict[str, Any]) -> pd.DataFrame:
    """Values of the training data dealt anew, on which thresholds lie; other levels, gaps and extremes."""
    random = np.random.default_rng(1)
    texts = {name: object for name in frame if frame[name].dtype in ("category", "bool") or name in TEXTS}
    rows = pd.concat([frame.tail(100), frame.sample(200, random_state=1)]).astype(texts).reset_index(drop=True)
    for name, feature in features.items():
        rows[name] = random.permutation(rows[name].to_numpy())
        if feature.type == "float":
            rows.loc[:9, name] = rows[name].max() * 1000
        if not feature.nullable:
            rows[name] = rows[name].fillna(frame[name].mode()[0])
        else:
            rows.loc[20:60:3, name] = np.nan
        if feature.other:
            rows.loc[21:61:3, name] = "unheard of"
    return rows


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_a_pipeline_is_served_as_it_scores(name: str, tmp_path: Path) -> None:
    model, frame, target = MODELS[name]
    model = clone(model).fit(frame, target)
    source = stranger(model, frame)
    description = imported(source, tmp_path)
    features = {feature.name: feature for feature in description.features}
    rows = hard_rows(frame, features)
    packed = description.row_format.join([description.row_format.pack(rows_of(rows))], len(rows))
    scores = verification.file_scores(FileKind.ONNX, tmp_path / "model.onnx", description, packed)
    expected = np.asarray(model.predict_proba(rows) if hasattr(model, "predict_proba") else model.predict(rows))
    expected = expected.reshape(len(rows), -1)
    spread = max(1.0, float(np.quantile(np.abs(expected), 0.9)))
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=2e-5 * spread)


def shouted(frame: Any) -> Any:
    return frame * 2


REFUSED: dict[str, tuple[Any, pd.DataFrame, str]] = {
    "a function of one's own": (
        linear_of(make_pipeline(FILLED, FunctionTransformer(shouted))),
        FRAME,
        "calls shouted, which is Python code",
    ),
    "components before trees": (make_pipeline(mixed(SCALED), PCA(2), FOREST), FRAME, "stands behind a PCA"),
    "trees over other models' scores": (
        StackingClassifier([("a", linear_of(SCALED))], FOREST, cv=2),
        FRAME,
        "reads the scores of other models",
    ),
    "columns beside scores": (
        make_pipeline(mixed(SCALED), StackingClassifier([("a", LOGISTIC)], LOGISTIC, cv=2, passthrough=True)),
        FRAME,
        "passthrough=True",
    ),
    "a number for what is missing before trees": (
        make_pipeline(mixed(SimpleImputer(missing_values=-999)), FOREST),
        ABSENT,
        "imputers of NaN may stand before trees",
    ),
    "other trees behind a scaler": (
        make_pipeline(mixed(SCALED), AdaBoostClassifier(n_estimators=3)),
        FRAME,
        "stands behind",
    ),
    "neighbours for gaps that are equally far": (linear_of(KNNImputer()), FRAME, "are equally far from each other"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exact_is_refused_in_words(name: str, tmp_path: Path) -> None:
    model, frame, says = REFUSED[name]
    source = stranger(clone(model).fit(frame, SURVIVED), frame)
    with pytest.raises(LifecycleError, match=says):
        imported(source, tmp_path)


def test_encoders_that_know_different_levels_are_refused(tmp_path: Path) -> None:
    strict = linear(mixed(SCALED, OneHotEncoder()))
    whole = clone(strict).fit(FRAME, SURVIVED)
    part = clone(strict).fit(FRAME[FRAME.deck != "3"], SURVIVED[FRAME.deck != "3"])
    vote = VotingClassifier([("a", FrozenEstimator(whole)), ("b", FrozenEstimator(part))], voting="soft")
    source = stranger(vote.fit(FRAME, SURVIVED), FRAME)
    with pytest.raises(UnsupportedModel, match="handle_unknown='ignore'"):
        conversion.convert(source.model, conversion.describe(source), tmp_path)


def test_a_regression_without_a_split_is_the_constant_that_it_answers(tmp_path: Path) -> None:
    model = make_pipeline(mixed(SCALED), XGBRegressor(n_estimators=2, gamma=1e9, n_jobs=1)).fit(FRAME, PAID)
    source = stranger(model, FRAME)
    description = conversion.describe(source)
    conversion.convert(model, description, tmp_path)
    packed = description.row_format.join([description.row_format.pack(rows_of(FRAME.head(5)))], 5)
    scores = verification.file_scores(FileKind.ONNX, tmp_path / "model.onnx", description, packed)
    np.testing.assert_allclose(scores.ravel(), model.predict(FRAME.head(5)), rtol=1e-6)
