"""A model that only Python can score, at MLflow's own server: its card, its scores, and what if that is away."""

from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pytest

from configuration.settings import EngineChoice
from runners.artefacts import repository
from runners.artefacts.card import CardError, FileKind, Task
from runners.engines.engine import open_engine
from shokado.lifecycle.errors import LifecycleError, NeedsPython, SourceNotFound
from shokado.lifecycle.importing.connecting import ConnectOrder, connect_version
from shokado.lifecycle.importing.version import ImportOrder, import_version
from tests.support.python_models import Tariff, connected, passengers, plain, scores


def test_rows_of_any_kinds_get_what_the_model_gives(log_model: Callable[..., str], own_store: Path) -> None:
    uri = log_model("pyfunc", Tariff(), input_example=passengers(20))
    artefact = connected(uri)
    card = artefact.card
    assert [feature.type for feature in card.features] == ["float", "integer", "boolean", "category"]
    assert [feature.nullable for feature in card.features] == [True, False, False, False]
    assert (card.task, card.features[3].levels, card.features[3].other) == (Task.REGRESSION, ("C", "Q", "S"), False)
    assert (card.format, card.source.uri, card.source.flavor) == (3, uri, "python_function")
    assert card.verification[FileKind.MLMODEL].rows == 120
    unseen = passengers(50, seed=1)
    expected = mlflow.pyfunc.load_model(uri).predict(unseen).to_numpy()
    np.testing.assert_allclose(scores(artefact, uri, plain(unseen)), expected, rtol=1e-6)
    assert repository.look_up("python", "v1") == artefact
    with pytest.raises(CardError, match=r"only a scoring server with Python can score its rows.*placement: remote"):
        open_engine(artefact.folder, card, EngineChoice.AUTO)


def test_a_server_that_is_not_there_is_named_with_the_command(log_model: Callable[..., str], own_store: Path) -> None:
    uri = log_model("pyfunc", Tariff(), input_example=passengers(20))
    order = ConnectOrder(ImportOrder(uri, "v1", "python"), "http://127.0.0.1:9")
    with pytest.raises(SourceNotFound, match=r"No scoring server answers at http://127\.0\.0\.1:9") as refused:
        connect_version(order)
    assert refused.value.next_command == f"mlflow models serve -m {uri} -p 9 --env-manager local"
    by_name = ConnectOrder(order.source, order.url, served_as="churn")
    with pytest.raises(SourceNotFound, match=r"No scoring server answers at http://127\.0\.0\.1:9") as refused:
        connect_version(by_name)
    settings = f"NAME=churn MLSERVER_MODEL_IMPLEMENTATION=mlserver_mlflow.MLflowRuntime MLSERVER_MODEL_URI={uri}"
    assert refused.value.next_command == f"MLSERVER_MODEL_{settings} MLSERVER_HTTP_PORT=9 mlserver start ."
    assert by_name.placement == (
        "v1: {placement: remote, remote: {url: 'http://127.0.0.1:9', model: churn, version: null}}"
    )
    with pytest.raises(LifecycleError, match="no address of a server"):
        ConnectOrder(order.source, "127.0.0.1:9")
    with pytest.raises(NeedsPython, match=rf"Run `mlflow models serve -m {uri} -p 5001 --env-manager local`") as named:
        import_version(order.source)
    connect = f"shokado models connect {uri} --as v1 --name python --url http://127.0.0.1:5001"
    assert named.value.next_command == connect
