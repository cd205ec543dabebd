# mypy: disable-error-code="untyped-decorator"
"""The stock BentoML composition: a gateway that splits between two batchable XGBoost runners, joined by `depends`."""

import random

import bentoml
import numpy as np

from load_tests.bench.contenders.scoring import Rows, Scores, load_scorer

TRAFFIC = {"timeout": 30}


@bentoml.service(workers=1, traffic=TRAFFIC)
class RunnerA:
    """Version a; batches up to 256 rows."""

    def __init__(self) -> None:
        self.score = load_scorer()

    @bentoml.api(batchable=True, max_batch_size=256, max_latency_ms=1000)
    def predict(self, rows: Rows) -> Scores:
        return self.score(rows)


@bentoml.service(workers=1, traffic=TRAFFIC)
class RunnerB:
    """Version b: the same model file, a process of its own."""

    def __init__(self) -> None:
        self.score = load_scorer()

    @bentoml.api(batchable=True, max_batch_size=256, max_latency_ms=1000)
    def predict(self, rows: Rows) -> Scores:
        return self.score(rows)


@bentoml.service(workers=1, traffic=TRAFFIC)
class Gateway:
    """Picks a runner at random, as an even split does."""

    a = bentoml.depends(RunnerA)
    b = bentoml.depends(RunnerB)

    @bentoml.api
    async def predict(self, instances: list[list[float]]) -> dict[str, list[float]]:
        runner = random.choice((self.a, self.b))
        scores = await runner.to_async.predict(np.asarray(instances, dtype=np.float32))
        return {"predictions": scores.tolist()}
