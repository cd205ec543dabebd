"""Models that only Python can score, at MLflow's own server: labels, levels, texts, and what would be served wrong."""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from runners.artefacts import repository
from runners.artefacts.card import Task
from shokado.lifecycle.errors import LifecycleError, VersionTaken
from shokado.lifecycle.importing import registry
from shokado.lifecycle.importing.connecting import ConnectOrder, connect_version
from shokado.lifecycle.importing.version import ImportOrder, ImportOutcome
from tests.support.python_models import (
    Band,
    Both,
    Clock,
    Crowd,
    Length,
    Mixed,
    Moody,
    Same,
    Tariff,
    connected,
    passengers,
    plain,
    scores,
)


def logged(model: Any, input_example: pd.DataFrame) -> str:
    """The address of a model that was logged with MLflow."""
    with (
        registry.session() as client,
        mlflow.start_run(experiment_id=registry.open_experiment(client, "python")) as run,
    ):
        arguments = {"name": "model", "pip_requirements": []}
        mlflow.pyfunc.log_model(python_model=model, input_example=input_example, **arguments)
    return f"runs:/{run.info.run_id}/model"


def test_labels_are_mapped_and_all_of_them_can_be_named(own_store: Path) -> None:
    uri = logged(Band(), input_example=passengers(40))
    card = connected(uri, classes=("low", "middle", "high", "never")).card
    assert (card.task, card.classes) == (Task.MULTICLASS, ("low", "middle", "high", "never"))
    artefact = connected(uri, version="v2")
    assert artefact.card.classes == ("high", "low", "middle")
    unseen = passengers(50, seed=1)
    labels = [artefact.card.classes[place] for place in scores(artefact, uri, plain(unseen)).argmax(axis=1)]
    assert labels == mlflow.pyfunc.load_model(uri).predict(unseen).tolist()


def test_several_values_have_names_and_tolerances_of_their_own(own_store: Path) -> None:
    uri = logged(Both(), input_example=passengers(40))
    artefact = connected(uri)
    assert (artefact.card.task, artefact.card.outputs) == (Task.MULTIOUTPUT, ("price", "thousands"))
    (receipt,) = artefact.card.verification.values()
    assert receipt.tolerances[0] / receipt.tolerances[1] == pytest.approx(1000, rel=1e-3)
    unseen = passengers(50, seed=1)
    expected = mlflow.pyfunc.load_model(uri).predict(unseen).to_numpy()
    np.testing.assert_allclose(scores(artefact, uri, plain(unseen)), expected, rtol=1e-6)
    with pytest.raises(LifecycleError, match=r"gives 2 outputs a row \(price, thousands\), which are no labels"):
        connected(uri, version="v2", classes=("low", "high"))


def test_levels_are_those_of_a_table(own_store: Path, tmp_path: Path) -> None:
    frame = passengers(20)
    uri = logged(Tariff(), input_example=frame[frame["port"] == "S"])
    table = tmp_path / "passengers.csv"
    passengers(300, seed=2).to_csv(table, index=False)
    assert connected(uri, reference=table).card.features[3].levels == ("C", "Q", "S")
    assert connected(uri, version="v2").card.features[3].levels == ("S",)


def test_a_text_alone_is_any_text(own_store: Path) -> None:
    uri = logged(Length(), input_example=pd.DataFrame({"message": ["win", "a prize"]}))
    artefact = connected(uri)
    assert [feature.type for feature in artefact.card.features] == ["text"]
    assert scores(artefact, uri, ["", "prizes"]).tolist() == [0, 6]  # type: ignore[list-item]  # bare texts do


@pytest.mark.parametrize("kind", ["float64", "int64"])
def test_numbers_that_need_more_digits_are_sent_with_them(kind: str, own_store: Path) -> None:
    times = pd.DataFrame({"at": 1.7e9 + np.arange(20) * 7200.0}).astype(kind)
    uri = logged(Clock(), input_example=times)
    artefact = connected(uri)
    assert [feature.precision for feature in artefact.card.features] == ["float64"]
    unseen = times + 1
    expected = mlflow.pyfunc.load_model(uri).predict(unseen)
    np.testing.assert_allclose(scores(artefact, uri, plain(unseen)), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("model", "example", "said"),
    [
        (Mixed(), passengers(20), r"of its 2 outputs a row \(price, band\) not all are numbers"),
        (Same(), passengers(20), "gives the label 'low' for all rows there are"),
        (Moody(), passengers(20), "another answer for .* the second time that it is asked"),
        (Crowd(), passengers(20), "another answer for .* when there are no others beside it"),
    ],
    ids=["a label among values", "one label", "moody", "crowd"],
)
def test_what_would_be_served_wrong_is_refused(model: Any, example: pd.DataFrame, said: str, own_store: Path) -> None:
    with pytest.raises(LifecycleError, match=said):
        connected(logged(model, input_example=example))
    assert repository.artefacts() == []


def test_what_is_connected_already_is_found(own_store: Path) -> None:
    uri = logged(Tariff(), input_example=passengers(20))
    connected(uri)
    again = connect_version(ConnectOrder(ImportOrder(uri, "v1", "python"), "http://127.0.0.1:9"))
    assert again.outcome is ImportOutcome.ALREADY_THERE
    with pytest.raises(VersionTaken, match="python:v1 is there, and is asked by invocations") as refused:
        connect_version(ConnectOrder(ImportOrder(uri, "v1", "python"), "http://127.0.0.1:9", served_as="churn"))
    assert refused.value.next_command is not None
    assert refused.value.next_command.endswith("--url http://127.0.0.1:9 --name python --model churn --replace")
