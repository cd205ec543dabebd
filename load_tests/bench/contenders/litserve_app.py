# mypy: disable-error-code="import-not-found, misc"
"""LitServe: two API server processes in front of one inference process that batches what waits."""

import os
from typing import Any

import litserve
import numpy as np

from load_tests.bench.contenders.scoring import Rows, load_scorer, score_together


class Predict(litserve.LitAPI):
    """Batches are lists of row arrays; LitServe's own stacking would refuse requests of different lengths."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        self.score = load_scorer()

    def decode_request(self, request: dict[str, Any]) -> Rows:
        return np.asarray(request["instances"], dtype=np.float32)

    def batch(self, inputs: list[Rows]) -> list[Rows]:
        return inputs

    def predict(self, x: list[Rows]) -> list[list[float]]:
        return score_together(self.score, x)

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        return output

    def encode_response(self, output: list[float]) -> dict[str, list[float]]:
        return {"predictions": output}


if __name__ == "__main__":
    api = Predict(max_batch_size=64, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        num_api_servers=2,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
