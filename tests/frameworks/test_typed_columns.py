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
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC
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


NEAR = {
    "KNeighborsClassifier": lambda: KNeighborsClassifier(5),
    "KNeighborsRegressor by distance": lambda: KNeighborsRegressor(3, weights="distance"),
    "LocalOutlierFactor": lambda: LocalOutlierFactor(novelty=True),
    "KernelRidge": lambda: KernelRidge(kernel="rbf"),
    "LogisticRegression, sparsified": LogisticRegression,
    "SVC": SVC,
}
"""Models that keep what they were given, which is a sparse matrix behind one-hot columns."""


@pytest.mark.parametrize("name", NEAR)
def test_a_model_that_keeps_a_sparse_training_scores_as_its_framework_does(
    name: str, log_model: Callable[..., str]
) -> None:
    frame = WHOLE.assign(fare=np.random.default_rng(3).random(400))[["fare", "sex", "port"]]
    encoders = ColumnTransformer(
        [("n", StandardScaler(), ["fare"]), ("t", OneHotEncoder(handle_unknown="ignore"), ["sex", "port"])],
        sparse_threshold=1,
    )
    model = make_pipeline(encoders, NEAR[name]()).fit(frame, SURVIVED)
    if "sparsified" in name:
        model[-1].sparsify()
    artefact = imported(log_model, model, frame, name.lower().replace(" ", "-").replace(",", ""))
    held = frame.tail(50).assign(sex="unheard of")
    decides = hasattr(model, "decision_function") and not hasattr(model, "predict_proba")
    own = model.decision_function(held) if decides else own_scores(model, held)
    np.testing.assert_allclose(scored(artefact, rows_of(held)).ravel(), own, rtol=0, atol=1e-4)


@pytest.mark.parametrize("encoder", [TargetEncoder(random_state=0), ORDINAL], ids=["target", "ordinal"])
def test_thousands_of_levels_score_as_the_framework_does(encoder: Any, log_model: Callable[..., str]) -> None:
    frame = pd.DataFrame({"zip": [f"z{at % 10_000}" for at in range(20_000)], "v": np.arange(20_000) % 97 / 8})
    estimator = (
        LogisticRegression() if isinstance(encoder, TargetEncoder) else GradientBoostingClassifier(n_estimators=3)
    )
    pipeline = make_pipeline(ColumnTransformer([("zip", encoder, ["zip"])], remainder="passthrough"), estimator)
    model = pipeline.fit(frame, frame.index % 10_000 % 7 > 3)
    artefact = imported(log_model, model, frame, f"levels-{type(encoder).__name__.lower()}")
    assert len(read_card(artefact.folder).features[0].levels) == 10_000
    held = frame[9_960:10_040].assign(zip=lambda rows: rows.zip.where(rows.index % 9 > 0, "unheard of"))
    np.testing.assert_allclose(scored(artefact, rows_of(held)).ravel(), own_scores(model, held), rtol=0, atol=1e-5)


@pytest.mark.parametrize("trees", [False, True], ids=["line", "trees"])
def test_columns_whose_names_are_numbers_are_called_by_them(trees: bool, log_model: Callable[..., str]) -> None:
    """A frame that was made of an array has such names, 0 among them, and scikit-learn goes by positions."""
    frame = WHOLE[["age", "fare", "port"]].set_axis([0, 1, 2], axis=1)
    estimator = GradientBoostingClassifier(n_estimators=5) if trees else LogisticRegression()
    encoders = ColumnTransformer([("n", StandardScaler(), [0, 1]), ("t", OneHotEncoder(handle_unknown="ignore"), [2])])
    model = make_pipeline(encoders, estimator).fit(frame, SURVIVED)
    artefact = imported(log_model, model, frame, f"numbered-{estimator.__class__.__name__.lower()}")
    assert read_card(artefact.folder).feature_names == ("0", "1", "2")
    held = frame.tail(50)
    np.testing.assert_allclose(scored(artefact, rows_of(held)).ravel(), own_scores(model, held), rtol=0, atol=1e-5)


def lowered(frame: Any) -> Any:
    return frame.apply(lambda column: column.str.lower())


LETTERS = FunctionTransformer(lowered, feature_names_out="one-to-one")
REFUSED: dict[str, tuple[Any, str]] = {
    "texts are changed before": (columns(make_pipeline(LETTERS, OneHotEncoder())), "no encoder of the model takes"),
    "a marker of missing ones": (
        columns(make_pipeline(SimpleImputer(missing_values="S", strategy="most_frequent"), OneHotEncoder())),
        "no encoder of the model takes",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_may_make_others_of_texts_is_refused(name: str, log_model: Callable[..., str]) -> None:
    transformer, says = REFUSED[name]
    model = make_pipeline(transformer, LogisticRegression()).fit(WHOLE, SURVIVED)
    with pytest.raises(UnsupportedModel, match=says):
        imported(log_model, model, WHOLE, "refused")


def test_a_signature_is_told_what_it_lacks_or_cannot_say(log_model: Callable[..., str]) -> None:
    model = make_pipeline(ColumnTransformer([("n", StandardScaler(), NUMBERS)]), LogisticRegression())
    with pytest.raises(UnsupportedModel, match=r"2 columns for 5 features; it lacks sex, port, deck\. Log it with all"):
        imported(log_model, model.fit(WHOLE, SURVIVED), WHOLE[NUMBERS], "lacking")
    unnamed = WHOLE[NUMBERS].rename(columns={"age": ""})
    with pytest.raises(UnsupportedModel, match="has an empty name, by which no row could say it"):
        imported(log_model, LogisticRegression().fit(unnamed, SURVIVED), unnamed, "unnamed")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (["a", "b", None, "c"], "served"),
        ([True, False, None, True], "served"),
        ([0.1, 0.25, 0.5, 2.0], r"rows of float32 do not hold, such as 0\.1: make texts of them"),
        ([2**40, 2**40 + 1, 5, 6], r"rows of float32 do not hold, such as 1099511627777\.0: make texts of them"),
    ],
    ids=["texts and None", "truth values and None", "decimals", "large numbers"],
)
def test_what_an_encoder_knows_must_be_sayable(values: list[Any], says: str, log_model: Callable[..., str]) -> None:
    frame = WHOLE[["age"]].assign(it=pd.Series(values * 100, dtype=object if None in values else None))
    encoders = ColumnTransformer([("it", OneHotEncoder(), ["it"])], remainder="passthrough")
    model = make_pipeline(encoders, LogisticRegression()).fit(frame, SURVIVED)
    if says != "served":
        with pytest.raises(UnsupportedModel, match=says):
            imported(log_model, model, frame, f"sayable-{type(values[0]).__name__}")
        return
    artefact = imported(log_model, model, frame, f"sayable-{type(values[0]).__name__}")
    held = frame.tail(20)
    np.testing.assert_allclose(scored(artefact, rows_of(held)).ravel(), own_scores(model, held), rtol=0, atol=1e-5)


def test_several_values_of_mixed_columns_score_as_the_framework_does(log_model: Callable[..., str]) -> None:
    both = np.column_stack([PAID, 1000 * PAID - 3])
    model = make_pipeline(columns(OneHotEncoder(handle_unknown="ignore")), Ridge()).fit(FRAME, both)
    artefact = imported(log_model, model, FRAME, "several-values")
    assert read_card(artefact.folder).outputs == ("output_0", "output_1")
    np.testing.assert_allclose(scored(artefact, rows_of(FRAME.tail(50))), model.predict(FRAME.tail(50)), rtol=1e-4)


def test_trees_behind_what_mixes_columns_are_refused_also_of_several_labels(log_model: Callable[..., str]) -> None:
    trees = make_pipeline(columns(OneHotEncoder(sparse_output=False)), PCA(2), GradientBoostingClassifier())
    with pytest.raises(UnsupportedModel, match="behind a PCA"):
        imported(log_model, trees.fit(WHOLE, SURVIVED), WHOLE, "components")
    labels = np.column_stack([SURVIVED, SURVIVED])
    several = make_pipeline(columns(OneHotEncoder(sparse_output=False)), PCA(2), RandomForestClassifier(3))
    with pytest.raises(UnsupportedModel, match="behind a PCA"):
        imported(log_model, several.fit(WHOLE, labels), WHOLE, "several")


@pytest.mark.parametrize("name", ["histograms with categories", "scaled XGBoost"])
def test_values_of_the_training_data_are_on_their_side_of_thresholds(name: str, log_model: Callable[..., str]) -> None:
    model = MODELS[name]()
    artefact = imported(log_model, model, FRAME, f"{name.lower().replace(' ', '-')}-thresholds")
    np.testing.assert_allclose(scored(artefact, rows_of(FRAME)).ravel(), own_scores(model, FRAME), rtol=0, atol=1e-5)


TRUTHS = {
    "one-hot": OneHotEncoder(),
    "one-hot, unknown ignored": OneHotEncoder(handle_unknown="ignore"),
    "ordinal": OrdinalEncoder(encoded_missing_value=-1),
    "target": TargetEncoder(random_state=0),
    "imputer": make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
}


@pytest.mark.parametrize("gap", [np.nan, None], ids=["NaN", "None"])
@pytest.mark.parametrize("name", TRUTHS)
def test_truth_values_with_gaps_score_as_the_framework_does(
    name: str, gap: float | None, log_model: Callable[..., str]
) -> None:
    truths = [gap if at % 5 == 0 else at % 3 == 0 for at in range(400)]
    frame = FRAME[["age", "sex"]].fillna(40.0).assign(adult=pd.Series(truths, dtype=object))
    encoders = [("n", StandardScaler(), ["age"]), ("b", TRUTHS[name], ["adult"]), ("t", OneHotEncoder(), ["sex"])]
    model = make_pipeline(ColumnTransformer(encoders), LogisticRegression()).fit(frame, SURVIVED ^ frame.adult.isna())
    label = f"truths-{name.replace(' ', '').replace(',', '')}-{'none' if gap is None else 'nan'}"
    artefact = imported(log_model, model, frame, label)
    (adult,) = (one for one in artefact.card.features if one.name == "adult")
    assert (adult.type, adult.nullable) == ("boolean", True)
    rows = [
        row | {"adult": None if pd.isna(row["adult"]) else bool(row["adult"])}
        for row in frame.tail(50).to_dict(orient="records")
    ]
    assert {row["adult"] for row in rows} == {True, False, None}
    np.testing.assert_allclose(scored(artefact, rows).ravel(), own_scores(model, frame.tail(50)), rtol=0, atol=1e-5)


def test_truth_values_of_pandas_own_type_need_a_signature(log_model: Callable[..., str]) -> None:
    frame = WHOLE[["age", "sex"]].assign(adult=pd.array([True, False, None, True] * 100, dtype="boolean"))
    encoders = [("b", OneHotEncoder(), ["adult"]), ("t", OneHotEncoder(), ["sex"])]
    model = make_pipeline(ColumnTransformer(encoders, remainder="passthrough"), LogisticRegression())
    imported(log_model, model.fit(frame, SURVIVED), frame, "own-booleans")
    uri = log_model("sklearn", model, serialization_format="cloudpickle")
    with pytest.raises(UnsupportedModel, match=r"no signature that says which of its 3 columns are texts or truth val"):
        import_version(ImportOrder(uri, "unsigned", "typed"))


def test_columns_that_a_model_drops_belong_to_its_rows(log_model: Callable[..., str]) -> None:
    frame = WHOLE[["age", "fare", "sex"]].assign(born=pd.date_range("1950-01-01", periods=400), note="any")
    frame.loc[::4, "fare"] = np.nan
    numbers = make_pipeline(ColumnTransformer([("n", StandardScaler(), ["age"])]), LogisticRegression())
    mixed = make_pipeline(
        ColumnTransformer([("n", StandardScaler(), ["age"]), ("t", OneHotEncoder(), ["sex"])]), LogisticRegression()
    )
    for number, (model, given) in enumerate([(numbers, frame[["age", "fare"]]), (mixed, frame)]):
        artefact = imported(log_model, model.fit(given, SURVIVED), given, f"dropped-{number}")
        rows = rows_of(given.head(20).astype({name: str for name in ("born",) if name in given}))
        expected = own_scores(model, given.head(20))
        np.testing.assert_allclose(scored(artefact, rows).ravel(), expected, rtol=0, atol=1e-5)
        others = [row | {name: None for name in ("fare", "born", "note") if name in row} for row in rows]
        np.testing.assert_allclose(scored(artefact, others).ravel(), expected, rtol=0, atol=1e-5)


def test_columns_of_numbers_by_name_are_found(log_model: Callable[..., str]) -> None:
    frame = WHOLE[["fare", "age"]]
    transformer = ColumnTransformer([("n", StandardScaler(), ["age"])], remainder="passthrough")
    for label, model in (
        ("named", make_pipeline(transformer, LogisticRegression())),
        ("named-searched", GridSearchCV(make_pipeline(transformer, LogisticRegression()), {}, cv=2)),
    ):
        artefact = imported(log_model, model.fit(frame, SURVIVED), frame, label)
        np.testing.assert_allclose(
            scored(artefact, rows_of(frame.tail(50))).ravel(), own_scores(model, frame.tail(50)), rtol=0, atol=1e-5
        )
