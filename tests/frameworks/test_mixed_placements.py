"""A text beside numbers and categories is scored alike in a worker, in a service of its own and by another server."""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import yaml

from shokado.lifecycle.importing import registry
from shokado.lifecycle.importing.version import ImportOrder, import_version
from tests.frameworks import test_sklearn_columns
from tests.frameworks.comparison import rows_of
from tests.frameworks.tried_model import TriedModel
from tests.support import http
from tests.support.server import Server, serving

MODEL = "notes"
TRIED: TriedModel = next(
    tried
    for tried in test_sklearn_columns.MODELS
    if tried.name == "TfidfVectorizer beside OneHotEncoder(ignore), LogisticRegression"
)


def configured(folder: Path, name: str, versions: dict[str, Any]) -> dict[str, str]:
    weights = dict.fromkeys(versions, 100 / len(versions))
    environments = {"production": {"active": next(iter(versions)), "weights": weights}}
    path = folder / name
    path.write_text(yaml.safe_dump({"model": MODEL, "workers": 1, "versions": versions, "environments": environments}))
    return {"SHOKADO_CONFIG": str(path)}


def asked(server: Server, version: str, rows: Any) -> list[float]:
    body = {"instances": rows, "version": version}
    answer = http.post(f"{server.url}/v1/models/predict", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    found: list[float] = answer.json()["predictions"]
    return found


@pytest.mark.timeout(600)
def test_a_version_answers_alike_wherever_it_is(registry_home: Path, tmp_path: Path) -> None:
    with registry.session() as client:
        uri = TRIED.log(registry.open_experiment(client, MODEL))
        model = mlflow.sklearn.load_model(uri)
    for label in ("here", "service"):
        import_version(ImportOrder(uri, label, model=MODEL))
    held = TRIED.held.reset_index(drop=True)
    held.loc[0, "note"], held.loc[1, "note"] = "", "東京 \0 FREE 😀"
    own = model.predict_proba(held)[:, 1]
    rows = rows_of(held)
    first = configured(tmp_path, "first.yaml", {"here": {}, "service": {"placement": "service"}})
    with serving(environment=first) as server:
        for version in ("here", "service"):
            np.testing.assert_allclose(asked(server, version, rows), own, rtol=0, atol=1e-5)
        remote = {"placement": "remote", "remote": {"url": server.url}}
        with serving(environment=configured(tmp_path, "second.yaml", {"here": remote})) as gateway:
            np.testing.assert_allclose(asked(gateway, "here", rows), own, rtol=0, atol=1e-5)
            bad = http.post(f"{gateway.url}/v1/models/predict", json={"instances": [rows[0] | {"note": 7}]}, timeout=60)
            assert bad.status_code == 422
            assert "row 0, feature 'note': the number 7 where a text belongs" in bad.json()["error"]["message"]
