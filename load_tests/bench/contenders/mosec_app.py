# mypy: disable-error-code="import-not-found, misc"
"""mosec: its Rust front batches, Python workers score; msgspec reads and writes the JSON."""

import os

import msgspec
import numpy as np
from mosec import Server, ValidationError, Worker

from load_tests.bench.contenders.scoring import Rows, load_scorer, score_together


class Question(msgspec.Struct):
    instances: list[list[float]]


class Predict(Worker):
    """Rows in, scores out, one call per batch."""

    def __init__(self) -> None:
        super().__init__()
        self.score = load_scorer()
        self.decoder = msgspec.json.Decoder(Question)

    def deserialize(self, data: bytes) -> Rows:
        try:
            return np.asarray(self.decoder.decode(data).instances, dtype=np.float32)
        except (msgspec.DecodeError, ValueError) as error:
            raise ValidationError(str(error)) from error

    def forward(self, data: list[Rows]) -> list[list[float]]:
        return score_together(self.score, data)

    def serialize(self, data: list[float]) -> bytes:
        return msgspec.json.encode({"predictions": data})


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Predict,
        num=int(os.environ["BENCH_WORKERS"]),
        max_batch_size=32,
        max_wait_time=1,
    )
    server.run()
