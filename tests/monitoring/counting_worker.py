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

from shokado.monitoring.metrics import Fault, Metrics, prepare_folder


def obey(metrics: Metrics, name: str, version: str, *rest: str) -> None:
    if name == "batch":
        metrics.batch(version, [0.0], int(rest[0]), rest[1], 0.001, None)
    elif name == "scored":
        metrics.batch(version, [0.0], len(rest), "idle", 0.001, np.array(rest, dtype=np.float32))
    elif name == "likeliest":
        rows = np.eye(3, dtype=np.float32)[[int(index) for index in rest]]
        metrics.batch(version, [0.0], len(rest), "idle", 0.001, rows)
    elif name == "routing":
        metrics.routing(int(version), {("production", rest[0]): float(rest[1])})
    elif name == "differs":
        by = float(rest[0])
        metrics.add_shadow(
            "production", version, "v2", shadow_rows=1, shadow_disagreements=0, shadow_difference_sum=by,
            shadow_difference_max=by, shadow_dropped_rows=0, shadow_failed_rows=0,
        )  # fmt: skip
    elif name == "answered":
        metrics.answered(version, float(rest[0]), 1)
    elif name == "failed":
        metrics.failed(None if version == "-" else version, rest[0], *map(Fault, rest[1:]))
    else:
        {"started": metrics.started, "cancelled": metrics.cancelled}[name](version)


def main() -> None:
    folder = prepare_folder()
    metrics = Metrics(["v1", "v2"], classes=("a", "b", "c"))
    print(folder, flush=True)
    for line in sys.stdin:
        if line.strip() == "flush":
            metrics.flush()
            print("flushed", flush=True)
        else:
            obey(metrics, *line.split())


if __name__ == "__main__":
    main()
