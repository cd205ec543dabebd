# mypy: disable-error-code="import-not-found, misc, untyped-decorator, attr-defined"
"""Ray Serve with `@serve.batch`: its HAProxy front, and two replicas that merge the requests that wait."""

import os

import numpy as np
import ray
from ray import serve
from starlette.requests import Request

from load_tests.bench.contenders.scoring import Rows, load_scorer, score_together


@serve.deployment(num_replicas=2, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.5})
class Predict:
    """Decodes, waits at most 1 ms for company, scores together."""

    def __init__(self) -> None:
        self.score = load_scorer()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def score_batch(self, batch: list[Rows]) -> list[list[float]]:
        return score_together(self.score, batch)

    async def __call__(self, request: Request) -> dict[str, list[float]]:
        instances = (await request.json())["instances"]
        return {"predictions": await self.score_batch(np.asarray(instances, dtype=np.float32))}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="warning")
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])})
    serve.run(Predict.bind(), route_prefix="/predict", blocking=True)
