"""`python -m load_tests.bench.capacity`: what a number of requests a second needs, out of the figures of RESULTS.md.

    tables of RESULTS.md --> CapacityFigures --(requests/s)--> CapacityPlan: processors, workers, memory, Redis, metrics

Nothing is measured here. A plan is arithmetic with figures of one machine: it tells the order of magnitude, and what is
short first; what your model takes on your machines, `make load` tells.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from load_tests.bench.report import table

RESULTS = Path(__file__).with_name("RESULTS.md")
TOLD = (10_000, 100_000, 1_000_000)
"""Requests a second that docs/scale.md has plans for."""
USED = 0.5
"""Part of the top throughput that is planned with: there p99 is still a few times p50."""
REDIS_USED = 0.5
"""Part of the processor of Redis's thread that is planned with, for the same reason."""
CONNECTIONS = 2
"""To Redis, of each worker: one asks, and one hears of changes."""
MAX_CLIENTS = 10_000
"""How many connections a Redis takes, unless its `maxclients` says otherwise."""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class FigureMissing(Exception):
    """RESULTS.md lacks a figure; the message names it."""


@dataclass(frozen=True)
class CapacityFigures:
    """What was measured; requests are of one row."""

    embedded: float
    """Requests a second that a processor answers where the version runs in the worker itself."""
    remote: float
    """What one answers with the version behind a hop: its processor, the runner's and the load generator's count."""
    nginx: float
    """What one answers behind the NGINX gateway, counted likewise."""
    first_worker_mb: float
    more_workers_mb: float
    """Memory of each further worker of a machine."""
    follower_us: float
    """Processor time of Redis that a worker takes in a second, with its reports and tallies."""
    feedback_alone_us: float
    feedback_together_us: float
    """Processor time of Redis for a piece of feedback, alone and of a request with many."""

    @classmethod
    def read(cls, results: str) -> "CapacityFigures":
        """Those of a RESULTS.md. Raises `FigureMissing`."""
        rows = dict(_rows(results))
        alone, two = _row(rows, "Shokado, 1 worker"), _row(rows, "Shokado")
        top, memory = 6, 11
        return cls(
            embedded=alone[top],
            remote=_row(rows, "Shokado, placement remote")[top] / 2,
            nginx=_row(rows, "Shokado behind the NGINX gateway")[top] / 2,
            first_worker_mb=alone[memory],
            more_workers_mb=two[memory] - alone[memory],
            follower_us=_row(rows, "Redis, for each worker")[0],
            feedback_alone_us=_row(rows, "a piece of feedback alone")[0],
            feedback_together_us=_row(rows, "a piece of feedback of 500")[0],
        )


@dataclass(frozen=True)
class CapacityPlan:
    """What so many requests a second need, at half of what processors can do."""

    requests: float
    workers: int
    """Each of them takes a processor, where versions are embedded."""
    memory_gb: float
    remote_processors: int
    """What takes the workers' place where each version is a Deployment of its own, as in Kubernetes."""
    nginx_processors: int
    """What takes the workers' place where NGINX is before them."""
    redis: float
    """The part of a processor that following takes."""
    feedback: float
    """Pieces of feedback a second for which there is room in Redis besides, told one by one."""
    feedback_together: float
    """Pieces of feedback a second for which there is room, told 500 at a time."""

    @classmethod
    def of(cls, requests: float, figures: CapacityFigures) -> "CapacityPlan":
        workers = _processors(requests, figures.embedded)
        redis = workers * figures.follower_us / 1e6
        room_us = max(0.0, REDIS_USED - redis) * 1e6
        return cls(
            requests=requests,
            workers=workers,
            memory_gb=(figures.first_worker_mb + (workers - 1) * figures.more_workers_mb) / 1024,
            remote_processors=_processors(requests, figures.remote),
            nginx_processors=_processors(requests, figures.nginx),
            redis=redis,
            feedback=room_us / figures.feedback_alone_us,
            feedback_together=room_us / figures.feedback_together_us,
        )

    @property
    def cells(self) -> list[str]:
        return [
            f"{self.requests:,.0f}", f"{self.workers:,}", f"{self.memory_gb:.1f} GB", f"{self.remote_processors:,}",
            f"{self.nginx_processors:,}", f"{self.redis:.3f}", f"{_short(self.feedback)}",
            f"{_short(self.feedback_together)}",
        ]  # fmt: skip


HEADER = (
    "requests/s", "processors, embedded", "memory", "processors, a version a Deployment", "processors, behind NGINX",
    "of Redis's processor", "feedback/s, one by one", "feedback/s, 500 together",
)  # fmt: skip


def most_workers(figures: CapacityFigures) -> int:
    """How many workers one Redis carries, without feedback."""
    return int(REDIS_USED * 1e6 / figures.follower_us)


def most_connected() -> int:
    """How many workers get their connections, unless Redis is told to take more."""
    return MAX_CLIENTS // CONNECTIONS


def plans(requests: Sequence[float], figures: CapacityFigures) -> str:
    """A table of plans, as Markdown."""
    return table(HEADER, [CapacityPlan.of(number, figures).cells for number in requests])


@app.command()
def main(
    requests: Annotated[list[float] | None, typer.Option(min=1, help="Requests a second, several times.")] = None,
) -> None:
    """Print what so many requests a second need: python -m load_tests.bench.capacity --requests 25000."""
    figures = CapacityFigures.read(RESULTS.read_text())
    print(plans(requests or TOLD, figures))
    print(f"\nOne Redis carries {most_workers(figures):,} workers, at {REDIS_USED:.0%} of its processor;")
    print(f"with more than {most_connected():,}, its maxclients must be more than {MAX_CLIENTS:,}.")


def _processors(requests: float, each: float) -> int:
    return max(1, math.ceil(requests / (each * USED)))


def _short(number: float) -> str:
    """Two digits, as more would tell of nothing."""
    if number == 0:
        return "0"
    digits = 1 - math.floor(math.log10(number))
    return f"{round(number, digits):,.0f}"


def _rows(results: str) -> Iterator[tuple[str, list[float]]]:
    """The rows of all tables by their first cell; the first with a name counts, and cells without a number are 0."""
    seen = set()
    for line in results.splitlines():
        cells = [cell.strip().strip("*") for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[0] not in seen:
            seen.add(cells[0])
            numbers = [re.match(r"-?[\d,.]*\d", cell) for cell in cells[1:]]
            yield cells[0], [float(found[0].replace(",", "")) if found else 0.0 for found in numbers]


def _row(rows: Mapping[str, list[float]], name: str) -> list[float]:
    if name not in rows:
        raise FigureMissing(f"RESULTS.md has no row {name!r}")
    return rows[name]


if __name__ == "__main__":
    app()
