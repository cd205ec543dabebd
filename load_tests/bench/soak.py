"""`python -m load_tests.bench.soak`: does Shokado's memory grow over a million requests, some of them bad?

Everything that watches is on: drift, and the request log of every row.

Exit code 0 when it grew by at most 5 % between the 20 % mark and the end, else 1. The figure goes into the notes
of RESULTS.md.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from load_tests.bench import launch, load
from load_tests.bench.contender import Contender
from load_tests.bench.contender_api import ContenderApi
from load_tests.bench.contender_process import Server, ServerError
from load_tests.bench.lineup import contender_named
from load_tests.bench.measure import site_for
from load_tests.bench.reference_model import ModelMissing, draw_rows, find_model

CONTENDER = "shokado-split"
"""Embedded, 2 workers, both versions at work; no header pins a version, so that the body may ask for a wrong one."""
EVERYTHING_ON = launch.recording(workers="2", drift__enabled="true", log__max_waiting_bytes=str(2**20))
"""Drift is watched, and every row is recorded. Little may wait to be written, as what fills that room is no growth."""
SAMPLES = 10
"""How often memory is measured."""
SETTLED_SHARE = 0.2
"""Share of the requests after which growth counts: before, caches and allocators fill."""
GROWTH_LIMIT = 0.05
"""Growth after `SETTLED_SHARE` that is no leak yet: allocators move by so much."""
LEG_SECONDS = 1
"""One run of wrk. Each leg opens its 64 connections anew, so connections are soaked as well."""
GOOD_BODIES = 36
TOLERATED_SHARE = 0.01
"""How far the share of refused requests may be from the tenth that was sent bad."""


@dataclass(frozen=True)
class MemorySample:
    """Memory of the process tree (PSS, 2**20 bytes) after so many answers."""

    requests: int
    megabytes: float


def bodies(api: ContenderApi) -> list[bytes]:
    """36 good requests and 4 bad ones, spread out: broken JSON, NaN, an unknown feature, an unknown version."""
    rows = draw_rows(GOOD_BODIES, seed=5)
    good = [api.encode(rows[number : number + 1]) for number in range(GOOD_BODIES)]
    row = rows[0].tolist()
    bad = [
        good[0][:-5],
        good[0].replace(b"[[", b"[[NaN,", 1),
        json.dumps({"instances": [{"shoe_size": 43}]}).encode(),
        json.dumps({"instances": [row], "version": "v999"}).encode(),
    ]
    share = GOOD_BODIES // len(bad)
    groups = [[*good[number * share : (number + 1) * share], each] for number, each in enumerate(bad)]
    return list(itertools.chain.from_iterable(groups))


def growth(samples: list[MemorySample]) -> float:
    """Relative growth from the first sample at or after the 20 % mark to the last one."""
    mark = SETTLED_SHARE * samples[-1].requests
    settled = next(sample for sample in samples if sample.requests >= mark)
    return samples[-1].megabytes / settled.megabytes - 1


def soak(contender: Contender, requests: int, model_dir: Path | None) -> Iterator[tuple[MemorySample, int]]:
    """Start it and load it until `requests` are answered. Yields a sample and the refusals so far at every tenth."""
    sent = bodies(contender.api)
    site = site_for(contender, find_model(model_dir))
    with Server(contender.launch(site), site.folder / "soak.log") as server:
        target = load.Target(server.url + contender.api.path, sent, contender.api.headers)
        answered = refused = 0
        tenth = requests / SAMPLES
        while answered < requests:
            leg = load.run(target, connections=64, seconds=LEG_SECONDS)
            crossed = (answered + leg.requests) // tenth > answered // tenth
            answered += leg.requests
            refused += leg.refused
            if crossed:
                yield MemorySample(answered, server.pss_megabytes()), refused


def main(
    requests: Annotated[int, typer.Option(min=10, max=100_000_000, help="How many answers to wait for.")] = 1_000_000,
    model_dir: Annotated[Path | None, typer.Option(help="Folder with model.ubj and model.onnx.")] = None,
) -> None:
    """Send a million one-row requests, a tenth of them bad, and watch the memory of the process tree."""
    contender = replace(contender_named(CONTENDER), launch=EVERYTHING_ON)
    samples: list[MemorySample] = []
    refused = 0
    try:
        for sample, refused in soak(contender, requests, model_dir):
            samples.append(sample)
            print(f"{sample.requests:>12,} requests  {sample.megabytes:8.1f} MB PSS  {refused:,} refused", flush=True)
    except (ServerError, load.LoadError, ModelMissing) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    grown, share = growth(samples), refused / samples[-1].requests
    print(f"growth from the {SETTLED_SHARE:.0%} mark to the end: {grown:+.2%} (limit {GROWTH_LIMIT:.0%})")
    print(f"refused: {share:.2%} of the answers, where one in ten requests was bad")
    if grown > GROWTH_LIMIT or abs(share - 0.1) > TOLERATED_SHARE:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
