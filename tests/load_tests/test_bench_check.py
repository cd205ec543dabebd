"""A contender that answers wrongly, redirects or refuses is not timed: checked against a real server and model."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from xgboost import DMatrix, train

from load_tests.bench.check import WrongScores, check
from load_tests.bench.contender import Contender, Site, Truth
from load_tests.bench.contender_api import ContenderApi
from load_tests.bench.contender_process import HOST, Launch, Server
from load_tests.bench.reference_model import FloatArray, ReferenceModel, draw_rows

Answer = Callable[[FloatArray], tuple[int, dict[str, object]]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ReferenceModel:
    folder = tmp_path_factory.mktemp("model")
    rows = draw_rows(300, seed=0)
    labels = rows[:, 2] > np.median(rows[:, 2])
    matrix = DMatrix(rows, labels, feature_names=[f"feature{number}" for number in range(10)])
    train({"objective": "binary:logistic", "max_depth": 2}, matrix, 3).save_model(folder / "model.ubj")
    return ReferenceModel(folder)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Answer], Server]]:
    """Starts a server that answers what the function says; stopped after the test."""
    running: list[ThreadingHTTPServer] = []

    def start(answer: Answer) -> Server:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, content = answer(np.asarray(body["instances"], dtype=np.float32))
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(json.dumps(content).encode())

            def log_message(self, *_: object) -> None:
                """Quiet."""

        running.append(ThreadingHTTPServer((HOST, 0), Handler))
        Thread(target=running[-1].serve_forever, daemon=True).start()
        return Server(Launch((), tmp_path, running[-1].server_port), tmp_path / "log")

    yield start
    for each in running:
        each.shutdown()
        each.server_close()


def contender(truth: Truth = Truth.MODEL) -> Contender:
    def launch(site: Site) -> Launch:
        raise NotImplementedError

    return Contender("it", "It", "As it comes.", ContenderApi("/predict"), launch, truth=truth, many_rows=True)


def test_right_answers_pass(serve: Callable[[Answer], Server], model: ReferenceModel) -> None:
    check(serve(lambda rows: (200, {"predictions": model.predict(rows).tolist()})), contender(), model)


@pytest.mark.parametrize(
    ("status", "content", "complaint"),
    [
        (307, {}, "answered 307"),
        (503, {"error": "busy"}, "answered 503 to 1 rows: .*busy"),
        (200, {"prediction": 0.5}, "without scores"),
        (200, {"predictions": [0.5, 0.5]}, "2 scores to 1 rows"),
        (200, {"predictions": [0.01]}, "away from XGBoost's own"),
        (200, {"predictions": [float("nan")]}, "away from XGBoost's own"),
    ],
)
def test_wrong_answers_are_refused(
    serve: Callable[[Answer], Server], model: ReferenceModel, status: int, content: dict[str, object], complaint: str
) -> None:
    with pytest.raises(WrongScores, match=complaint):
        check(serve(lambda _: (status, content)), contender(), model)


def test_a_split_is_judged_by_its_v1_answers(serve: Callable[[Answer], Server], model: ReferenceModel) -> None:
    turns = iter(range(1000))

    def both(rows: FloatArray) -> tuple[int, dict[str, object]]:
        if next(turns) % 2:
            return 200, {"predictions": [0.5] * len(rows), "version": "v2"}
        return 200, {"predictions": model.predict(rows).tolist(), "version": "v1"}

    check(serve(both), contender(Truth.SPLIT), model)
    with pytest.raises(WrongScores, match="not one of 50"):
        check(
            serve(lambda rows: (200, {"predictions": [0.5] * len(rows), "version": "v2"})),
            contender(Truth.SPLIT),
            model,
        )
