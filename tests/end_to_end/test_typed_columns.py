"""A model of mixed columns, as somebody brings it: trained with gaps and texts, logged, imported, served and asked."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest

from load_tests.traffic import question
from load_tests.traffic.row_kinds import TypedRowKind
from load_tests.traffic.target_model import model_of
from shokado.client import Client, InvalidRequest
from tests.support import http
from tests.support.server import ROOT, Server, serving

pytestmark = pytest.mark.slow

PROGRAM = """
import json, sys
import mlflow, numpy as np, pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

random = np.random.default_rng(0)
frame = pd.DataFrame({
    "age": random.normal(40, 10, 500).round(1),
    "fare": random.exponential(30, 500).round(2),
    "class": random.integers(1, 4, 500),
    "sex": random.choice(["male", "female"], 500),
    "port": random.choice(["S", "C", "Q"], 500),
})
survived = ((frame.sex == "female") | (frame.fare > 60)).astype(int)
frame.loc[::5, "age"] = np.nan
frame.loc[::7, "port"] = np.nan
encoder = OneHotEncoder(handle_unknown="ignore")
columns = ColumnTransformer([("gaps", SimpleImputer(), ["age", "fare"]), ("kinds", encoder, ["class", "sex", "port"])])
model = make_pipeline(columns, GradientBoostingClassifier(n_estimators=30, random_state=0)).fit(frame, survived)
held = frame.tail(50).copy()
held.iloc[3, 4] = "unheard of"
json.dump(model.predict_proba(held)[:, 1].tolist(), open(sys.argv[1], "w"))
held.to_parquet(sys.argv[2]) if sys.argv[2].endswith("parquet") else held.to_json(sys.argv[2], orient="records")
mlflow.sklearn.log_model(
    model, name="titanic", registered_model_name="titanic", input_example=frame.head(10),
    skops_trusted_types=["numpy.dtype", "sklearn.tree._tree.Tree"], pip_requirements=[],
)
"""
CONFIGURATION = """
model: titanic
versions: {v1: {}}
environments:
  production: {active: v1, weights: {v1: 1}}
"""


class Titanic:
    """The server, held-out passengers, and the model's own probabilities of them."""

    def __init__(self, server: Server, rows: list[dict[str, Any]], own: list[float]) -> None:
        self.server, self.rows, self.own = server, rows, np.array(own)

    def ask(self, path: str, body: Any = None, **how: Any) -> Any:
        answer = http.post(f"{self.server.url}{path}", json=body, timeout=20, **how)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def titanic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Titanic]:
    folder = tmp_path_factory.mktemp("titanic")
    places = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "BENTOML_HOME": str(folder / "bentoml")}
    (folder / "serving.yaml").write_text(CONFIGURATION)
    program = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(folder / "own.json"), str(folder / "rows.json")]
    command = [
        str(Path(sys.executable).with_name("shokado")),
        "models",
        "import",
        "models:/titanic/1",
        "--as",
        "v1",
        "--no-pickle",
    ]
    for arguments, cwd in ((program, folder), (command, ROOT)):
        ended = subprocess.run(
            arguments, cwd=cwd, env={**os.environ, **places}, capture_output=True, text=True, timeout=250, check=False
        )
        assert ended.returncode == 0, ended.stderr
    environment = {**places, "SHOKADO_CONFIG": str(folder / "serving.yaml"), "SHOKADO_WORKERS": "1"}
    with serving(environment=environment) as server:
        rows, own = (json.loads((folder / name).read_text()) for name in ("rows.json", "own.json"))
        yield Titanic(server, rows, own)


def close(titanic: Titanic, scores: list[float]) -> None:
    np.testing.assert_allclose(scores, titanic.own, rtol=0, atol=1e-5)


def test_rows_by_name_and_as_lists_score_as_the_framework_does(titanic: Titanic) -> None:
    lists = [list(row.values()) for row in titanic.rows]
    for instances in (titanic.rows, lists):
        close(titanic, titanic.ask("/v1/models/predict", {"instances": instances})["predictions"])
    alone = [titanic.ask("/predict", {"features": row})["prediction"] for row in titanic.rows[:5]]
    np.testing.assert_allclose(alone, titanic.own[:5], rtol=0, atol=1e-5)


def test_frames_of_the_client_keep_their_gaps(titanic: Titanic) -> None:
    frame = pd.DataFrame(titanic.rows)
    with Client(titanic.server.url) as client:
        close(titanic, list(client.predict(frame[frame.columns[::-1]]).predictions))
        signature = client.version("v1").signature
        assert signature is not None
        (sex,) = (one for one in signature.features if one.name == "sex")
        assert (sex.type, tuple(sex.levels), sex.other) == ("category", ("female", "male"), True)
        with pytest.raises(InvalidRequest, match="row 0, feature 'sex': the number 1 where one of its levels belongs"):
            client.predict([[40, 10, 1, 1, "S"]])


def test_tables_score_as_the_framework_does(titanic: Titanic) -> None:
    frame = pd.DataFrame(titanic.rows)
    split = {"dataframe_split": json.loads(frame.to_json(orient="split"))}
    own = (titanic.own > 0.5).astype(int).tolist()
    assert titanic.ask("/invocations", split)["predictions"] == own
    answer = http.post(
        f"{titanic.server.url}/invocations", content=frame.to_csv(index=False), headers={"content-type": "text/csv"},
        timeout=20,
    )  # fmt: skip
    assert answer.json()["predictions"] == own


def test_a_tensor_for_each_feature_scores_as_the_framework_does(titanic: Titanic) -> None:
    kinds = {"age": "FP64", "fare": "FP32", "class": "INT64", "sex": "BYTES", "port": "BYTES"}
    inputs = [
        {"name": name, "datatype": kind, "shape": [50], "data": [row[name] for row in titanic.rows]}
        for name, kind in kinds.items()
    ]
    (output,) = (
        one
        for one in titanic.ask("/v2/models/titanic/infer", {"inputs": inputs})["outputs"]
        if one["datatype"] == "FP32"
    )
    close(titanic, output["data"])


def test_the_dashboard_is_told_a_row_that_is_taken(titanic: Titanic) -> None:
    form = http.get(f"{titanic.server.url}/v1/dashboard", timeout=20).json()["form"]
    assert form["instance"]["sex"] in {"female", "male"}
    assert len(titanic.ask(form["path"], {"instances": [form["instance"]]})["predictions"]) == 1


def test_a_load_test_asks_in_every_way(titanic: Titanic) -> None:
    with Client(titanic.server.url) as client:
        model = model_of(client.versions())
    random = Random(1)
    assert isinstance(model.rows, TypedRowKind)
    ways = (question.one_row, question.inference, lambda model, random: question.many_rows(model, random, 7))
    for asked in (way(model, random) for _ in range(8) for way in ways):
        answer = http.post(
            f"{titanic.server.url}{asked.path}", content=asked.body, headers=dict(asked.headers), timeout=20
        )
        assert answer.status_code == 200, answer.text
        assert asked.read(model, asked.rows, answer.headers, answer.content).version == "v1"
