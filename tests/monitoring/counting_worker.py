"""A worker process for tests: it counts what it is told to on its standard input, one command a line.

batch v1 30 freed      one batch of v1, of 30 rows, released because `freed`
started v1 · answered v1 0.5 · failed v1 overloaded · failed - malformed · cancelled v1
flush                  answered with a line when it is done
"""

import sys

from monitoring.metrics import Metrics, prepare_folder


def obey(metrics: Metrics, name: str, version: str, *rest: str) -> None:
    if name == "batch":
        metrics.batch(version, [0.0], int(rest[0]), rest[1], 0.001, None)
    elif name == "answered":
        metrics.answered(version, float(rest[0]), 1)
    elif name == "failed":
        metrics.failed(None if version == "-" else version, rest[0])
    else:
        {"started": metrics.started, "cancelled": metrics.cancelled}[name](version)


def main() -> None:
    folder = prepare_folder()
    metrics = Metrics(["v1", "v2"])
    print(folder, flush=True)
    for line in sys.stdin:
        if line.strip() == "flush":
            metrics.flush()
            print("flushed", flush=True)
        else:
            obey(metrics, *line.split())


if __name__ == "__main__":
    main()
