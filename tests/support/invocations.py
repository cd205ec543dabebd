"""What `/invocations` answers about a model: MLflow's own scoring server, and our dialect over an artefact's engine."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import mlflow
import numpy as np
import pytest
import uvicorn
from mlflow.pyfunc import scoring_server

from configuration.settings import EngineChoice
from runners.artefacts.artefact import Artefact
from runners.engines.engine import open_engine
from runners.inputs.formats import row_format_of
from shokado.dialects.dialect import AnswerFacts
from shokado.dialects.head import RequestHead
from shokado.dialects.mlflow import MLflow
from tests.support.waiting import wait_until
from tests.transports.predictions import prediction


def theirs(uri: str, body: Any) -> Any:
    """The JSON that MLflow's own server answers with."""

    async def ask() -> httpx.Response:
        app = scoring_server.init(mlflow.pyfunc.load_model(uri))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://mlflow") as client:
            return await client.post("/invocations", json=body)

    answer = asyncio.run(ask())
    assert answer.status_code == 200, answer.text
    return answer.json()


@contextlib.contextmanager
def scoring(uri: str) -> Iterator[str]:
    """MLflow's own server, in a thread of this process; its address."""
    app = scoring_server.init(mlflow.pyfunc.load_model(uri))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def ours(artefact: Artefact, body: Any) -> Any:
    """The JSON that our dialect makes of the artefact's scores."""
    dialect = MLflow(row_format_of(artefact.card.features))
    request = dialect.decode(json.dumps(body).encode(), RequestHead())
    assert isinstance(request.rows, bytes | memoryview)
    rows = np.frombuffer(request.rows, artefact.card.row_format.dtype).reshape(request.row_count, -1)
    scores = open_engine(artefact.folder, artefact.card, EngineChoice.ONNXRUNTIME).predict(rows)
    facts = AnswerFacts("request-1", "prediction-1", 1.25, request.answer_options)
    made = prediction(artefact.card, scores.tolist())
    return json.loads(dialect.encode(made, RequestHead(), facts)[1])


def assert_near(mine: Any, wanted: Any, rel: float = 1e-5, abs: float = 1e-6) -> None:  # noqa: A002  # as `approx` has it
    """Numbers with a point near, all else the same, types included."""
    assert type(mine) is type(wanted)
    if isinstance(wanted, dict):
        assert list(mine) == list(wanted)
        mine, wanted = list(mine.values()), list(wanted.values())
    if isinstance(wanted, list):
        assert len(mine) == len(wanted)
        for one, other in zip(mine, wanted, strict=True):
            assert_near(one, other, rel, abs)
    elif isinstance(wanted, float):
        assert mine == pytest.approx(wanted, rel=rel, abs=abs)
    else:
        assert mine == wanted
