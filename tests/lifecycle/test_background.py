"""The background of a version: imports keep it unless they may not, and scores explained by it are those of shap."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from runners.artefacts import repository
from runners.artefacts.artefact import Artefact
from runners.artefacts.background import MAX_ROWS, read_background
from runners.artefacts.card import Task
from runners.artefacts.reference import DataOrigin, OriginKind
from shokado.lifecycle.importing.background_rows import drawn_background
from shokado.lifecycle.importing.reference_data import replace_reference
from shokado.lifecycle.importing.version import ImportOrder, import_version
from tests.support.backgrounds import MADE_AT, background_of
from tests.support.cards import TEXT, make_card
from tests.support.explained import background_rows_of, explained_by_engine
from tests.support.registry import log_as_stranger

pytestmark = pytest.mark.usefixtures("own_store")
RANDOM = np.random.default_rng(8)
NAMES = ["width", "depth", "height", "weight", "age"]


def rows(count: int = 300) -> pd.DataFrame:
    return pd.DataFrame(RANDOM.normal(size=(count, 5)).astype(np.float32), columns=NAMES)


def imported(model: Any, example: pd.DataFrame, reference: Path | None = None, **order: Any) -> Artefact:
    trusted = ["numpy.dtype", "sklearn.tree._tree.Tree"]
    uri = log_as_stranger("sklearn", model, input_example=example[:5], skops_trusted_types=trusted)
    return import_version(ImportOrder(uri, "v1", model="boxes", reference=reference, **order)).artefact


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows().to_parquet(tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"


@pytest.fixture
def forest(file: Path) -> tuple[RandomForestClassifier, Artefact]:
    frame = pd.read_parquet(file)
    labels = (frame["width"] * frame["depth"] + frame["age"] > 0).astype(int)
    model = RandomForestClassifier(n_estimators=12, max_depth=5, random_state=0).fit(frame, labels)
    return model, imported(model, frame, file)


def test_a_forest_is_explained_as_shap_explains_it(forest: tuple[RandomForestClassifier, Artefact]) -> None:
    shap = pytest.importorskip("shap")
    model, artefact = forest
    background, asked = background_rows_of(artefact), rows(6).to_numpy()
    assert len(background) == MAX_ROWS
    theirs = shap.TreeExplainer(
        model,
        pd.DataFrame(background, columns=NAMES),
        feature_perturbation="interventional",
        model_output="probability",
    )
    values = theirs.shap_values(pd.DataFrame(asked, columns=NAMES))[:, :, 1]
    base, exact, _ = explained_by_engine(artefact, asked, pairs=0)
    assert exact[:, :, 0] == pytest.approx(values, abs=1e-5)
    assert base[0] == pytest.approx(theirs.expected_value[1], abs=1e-5)
    _, sampled, errors = explained_by_engine(artefact, asked, pairs=3)
    assert (np.abs(sampled[:, :, 0] - values) <= 5 * errors[:, :, 0] + 1e-6).all()
    assert errors.max() < 0.03


def test_a_line_behind_categories_has_what_its_formula_says(tmp_path: Path) -> None:
    frame = rows().drop(columns=["weight", "age"])
    frame["shape"] = RANDOM.choice(["round", "square", "odd"], len(frame))
    values = frame["width"] - 2 * frame["depth"] + (frame["shape"] == "odd")
    encoded = ColumnTransformer([("n", StandardScaler(), NAMES[:3]), ("c", OneHotEncoder(), ["shape"])])
    model = make_pipeline(encoded, Ridge()).fit(frame, values)
    frame.to_parquet(tmp_path / "rows.parquet")
    artefact = imported(model, frame, tmp_path / "rows.parquet")
    assert artefact.card.feature_names == (*NAMES[:3], "shape")
    background = background_rows_of(artefact)
    _, sampled, errors = explained_by_engine(artefact, background[:8], pairs=2)
    parts = np.split(encoded.transform(_frame_of(background, artefact)) * model[-1].coef_, [3], axis=1)
    by_feature = np.column_stack([parts[0], parts[1].sum(axis=1)])
    assert sampled[:, :, 0] == pytest.approx(by_feature[:8] - by_feature.mean(axis=0), abs=1e-4)
    assert errors == pytest.approx(0, abs=1e-5)


def _frame_of(packed: Any, artefact: Artefact) -> pd.DataFrame:
    row_format = artefact.card.row_format
    return pd.DataFrame([row_format.named(row) for row in row_format.unbatched(packed)])


def test_an_import_may_be_told_to_keep_no_rows(file: Path) -> None:
    frame = pd.read_parquet(file)
    artefact = imported(
        RandomForestClassifier(3, random_state=0).fit(frame, frame["age"] > 0), frame, file, keep_rows=False
    )
    assert artefact.card.reference is not None
    assert artefact.card.background is None
    assert read_background(artefact.folder, artefact.card) is None
    assert not (artefact.folder / "background.json").exists()


def test_a_reference_brings_rows_and_takes_them_away(
    forest: tuple[RandomForestClassifier, Artefact], file: Path
) -> None:
    _, artefact = forest
    without = replace_reference("boxes:v1", file, keep_rows=False)
    assert without.card.background is None
    assert not (artefact.folder / "background.json").exists()
    again = replace_reference("boxes:v1", file)
    assert (background_rows_of(again) == background_rows_of(artefact_in_store())).all()
    assert artefact.digest == without.digest == again.digest
    background = read_background(again.folder, again.card)
    assert background is not None
    assert (background.origin.kind, background.origin.rows) == (OriginKind.FILE, 300)


def artefact_in_store() -> Artefact:
    artefact = repository.look_up("boxes", "v1")
    assert artefact is not None
    return artefact


ORIGIN = DataOrigin(kind=OriginKind.FILE, name="rows.csv", rows=1000)


def test_what_is_kept_is_a_sample_of_the_rows() -> None:
    card = make_card(Task.REGRESSION)
    numbered = np.column_stack([np.arange(1000), np.zeros(1000)]).astype(np.float32)
    background = drawn_background(numbered, card, ORIGIN, MADE_AT)
    assert background is not None
    kept = np.array([row[0] for row in background.rows], dtype=np.float64)
    assert len(set(kept.tolist())) == MAX_ROWS
    assert np.mean(kept) == pytest.approx(500, abs=100)
    assert background.rows == background_of(np.array(background.rows, dtype=np.float32), card).rows


def test_a_text_alone_has_no_background() -> None:
    card = make_card(**TEXT)
    assert drawn_background(np.array([["win"], ["hello"]], dtype=object), card, ORIGIN, MADE_AT) is None
