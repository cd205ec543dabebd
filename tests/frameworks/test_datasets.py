"""Every data set serves, and the server's scores are the engine's own."""

import numpy as np
import pytest

from configuration.settings import EngineChoice
from runners.artefacts.card import Task, read_card
from runners.engines.engine import open_engine
from shokado.lifecycle.importing.version import Imported
from tests.support import http
from tests.support.server import serving

ENGINE = {f"SHOKADO_VERSIONS__{version}__ENGINE": "onnxruntime" for version in ("V1", "V2")}
TASKS = {"iris": Task.MULTICLASS, "breast_cancer": Task.BINARY, "diabetes": Task.REGRESSION}


@pytest.mark.parametrize("dataset", TASKS)
def test_a_data_set_serves_with_the_scores_of_its_engine(dataset: str, prepared: dict[str, Imported]) -> None:
    with serving(environment={"SHOKADO_MODEL": dataset, "SHOKADO_WORKERS": "1"} | ENGINE) as server:
        for version in ("v1", "v2"):
            folder = prepared[f"{dataset}:{version}"].artefact.folder
            card = read_card(folder)
            assert card.task is TASKS[dataset]
            assert card.examples is not None
            rows = np.array(card.examples.rows, dtype=np.float32)
            scores = open_engine(folder, card, EngineChoice.ONNXRUNTIME).predict(rows)
            body = {"instances": rows.tolist(), "version": version}
            answer = http.post(f"{server.url}/v1/models/predict", json=body, timeout=20)
            assert answer.status_code == 200, answer.text
            content = answer.json()
            np.testing.assert_array_equal(np.array(content["predictions"], dtype=np.float32), scores)
            np.testing.assert_allclose(content["predictions"], card.examples.scores, rtol=1e-4, atol=1e-4)
            assert_labels_follow(content, card.task, card.classes)
            single = {
                "features": dict(zip(card.feature_names, rows[0].tolist(), strict=True)),
                "model_version": version,
            }
            one = http.post(f"{server.url}/predict", json=single, timeout=20).json()
            assert one["prediction"] == content["predictions"][0]
            assert one.get("prediction_class") == (content["classes"][0] if card.classes else None)
            assert ("confidence" in one) == bool(card.classes)


def assert_labels_follow(content: dict[str, list[object]], task: Task, classes: tuple[int | str, ...]) -> None:
    scores = np.array(content["predictions"], dtype=float)
    if task is Task.REGRESSION:
        assert "classes" not in content
    elif task is Task.BINARY:
        assert content["classes"] == [classes[int(score >= 0.5)] for score in scores]
    else:
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
        assert content["classes"] == [classes[index] for index in scores.argmax(axis=1)]
