"""A worker process for tests: it counts what it is told to on its standard input, one command a line.

batch v1 30 freed      one batch of v1, of 30 rows, released because `freed`
scored v1 0.2 0.9      a batch with these scores
likeliest v1 0 2       a batch whose rows have these classes, of a, b and c
routing 7 v1 0.25      a generation in which v1 gets a quarter of production
started v1 · answered v1 0.5 · failed v1 overloaded · failed - malformed client · cancelled v1
differs v1 0.5         a row that the shadow v2 scored otherwise, by so much
flush                  answered with a line when it is done
"""

import sys

import numpy as np

from runners.batching.observer import ReleaseReason
from shokado.dispatch.fault import Fault
from shokado.dispatch.observers import Failure
from shokado.dispatch.shadow import Pair, ShadowCounts
from shokado.monitoring.metrics.folder import prepare_folder
from shokado.monitoring.metrics.groups import Metrics
from tests.support.predictions import batch_of, prediction_of


def obey(metrics: Metrics, name: str, version: str, *rest: str) -> None:
    if name == "batch":
        metrics.batches.batch(batch_of(version, int(rest[0]), ReleaseReason(rest[1])))
    elif name == "scored":
        metrics.batches.batch(batch_of(version, len(rest), scores=np.array(rest, dtype=np.float32)))
    elif name == "likeliest":
        scores = np.eye(3, dtype=np.float32)[[int(index) for index in rest]]
        metrics.batches.batch(batch_of(version, len(rest), scores=scores))
    elif name == "routing":
        metrics.routing.routed(int(version), {("production", rest[0]): float(rest[1])})
    elif name == "differs":
        by = float(rest[0])
        metrics.shadows.compared(Pair("production", version, "v2"), ShadowCounts(1, 0, by, by))
    elif name == "answered":
        metrics.predictions.answered(version, [prediction_of(version, latency_s=float(rest[0]))])
    elif name == "failed" and version == "-":
        metrics.predictions.failed([Failure(None, None, rest[0], Fault(rest[1]) if rest[1:] else Fault.SERVER)])
    elif name == "failed":
        fault = Fault(rest[1]) if rest[1:] else Fault.SERVER
        metrics.predictions.failed([Failure(prediction_of(version), version, rest[0], fault)])
    elif name == "started":
        metrics.predictions.started(version, 1)
    else:
        metrics.predictions.cancelled(version, [prediction_of(version)])


def main() -> None:
    folder = prepare_folder()
    metrics = Metrics(["v1", "v2"], classes=("a", "b", "c"))
    print(folder, flush=True)
    for line in sys.stdin:
        if line.strip() == "flush":
            metrics.registry.flush()
            print("flushed", flush=True)
        else:
            obey(metrics, *line.split())


if __name__ == "__main__":
    main()
