"""Scores of models that are served as ONNX are explained as shap explains the models themselves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shokado.lifecycle.importing.version import ImportOrder, import_version
from tests.support.explained import background_rows_of, explained_by_engine

lightgbm: Any = pytest.importorskip("lightgbm", reason="needs LightGBM: make frameworks")
shap: Any = pytest.importorskip("shap", reason="needs shap")
RANDOM = np.random.default_rng(12)
FRAME = pd.DataFrame(RANDOM.normal(size=(300, 4)).astype(np.float32), columns=["width", "depth", "height", "age"])
SMALL = {"n_estimators": 15, "num_leaves": 8, "verbosity": -1, "n_jobs": 1, "random_state": 0}


@pytest.mark.parametrize("classes", [2, 3])
def test_lightgbm(classes: int, log_model: Callable[..., str], own_store: Path, tmp_path: Path) -> None:
    labels = np.digitize(FRAME["width"] * FRAME["depth"] + FRAME["age"], [0, 1][: classes - 1])
    model = lightgbm.LGBMClassifier(**SMALL).fit(FRAME, labels)
    FRAME.to_parquet(tmp_path / "rows.parquet")
    uri = log_model("lightgbm", model, input_example=FRAME[:5])
    artefact = import_version(ImportOrder(uri, "v1", model="boxes", reference=tmp_path / "rows.parquet")).artefact
    background, asked = background_rows_of(artefact), FRAME[:5].to_numpy() + np.float32(0.25)
    # Of four features it scores all sets, so that its values are exact; what it says of trees alone is of margins.
    explainer = shap.KernelExplainer(
        lambda made: model.predict_proba(pd.DataFrame(made, columns=FRAME.columns)), background
    )
    columns = slice(None) if classes > 2 else slice(1, None)
    theirs = explainer.shap_values(asked, l1_reg=0, silent=True)[:, :, columns]
    base, exact, _ = explained_by_engine(artefact, asked, pairs=0)
    assert exact == pytest.approx(theirs, abs=1e-4)
    assert base == pytest.approx(explainer.expected_value[columns], abs=1e-4)
    _, sampled, errors = explained_by_engine(artefact, asked, pairs=3)
    assert (np.abs(sampled - theirs) <= 5 * errors + 1e-4).all()
