"""The check of answers, before anything is timed: nobody is measured who answers wrongly, redirects or refuses."""

import http.client
import json

import numpy as np

from load_tests.bench.bench_model import BenchModel, Rows
from load_tests.bench.contender import Contender, Truth
from load_tests.bench.contender_api import Format
from load_tests.bench.contender_process import Server

ROWS = 50
TOLERANCE = 1e-4
"""Difference from the framework's own probability that another engine's float32 may have."""
SPLIT_VERSION = "v1"


class WrongScores(Exception):
    """A contender answered something else than the model; the message says what to which row."""


def check(server: Server, contender: Contender, model: BenchModel) -> None:
    """Ask 50 seeded rows one by one, and all at once where that is timed too. Raises `WrongScores`."""
    rows = model.draw(ROWS, seed=7)
    requests = [rows[number : number + 1] for number in range(ROWS)]
    if contender.many_rows:
        requests.append(rows)
    judged = sum(_right(server, contender, model, each) for each in requests)
    if not judged and contender.truth is not Truth.NONE:
        raise WrongScores(f"not one of {ROWS} answers came from {SPLIT_VERSION}")


def _right(server: Server, contender: Contender, model: BenchModel, rows: Rows) -> bool:
    """Whether the answer was comparable with the model's; a wrong one raises."""
    api = contender.api
    status, body = server.post(api.path, api.encode(rows), api.headers)
    if status != http.client.OK:
        raise WrongScores(f"answered {status} to {len(rows)} rows: {body[:200].decode(errors='replace')}")
    if contender.truth is Truth.NONE:
        return False
    try:
        scores = api.decode(body)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise WrongScores(f"answered without scores: {body[:200].decode(errors='replace')}") from error
    if len(scores) != len(rows):
        raise WrongScores(f"answered {len(scores)} scores to {len(rows)} rows")
    if contender.truth is Truth.SPLIT and _version(api.format, body) != SPLIT_VERSION:
        if not ((scores >= 0) & (scores <= 1)).all():
            raise WrongScores(f"answered no probability: {scores[:3]}")
        return False
    difference = float(np.abs(scores - model.predict(rows)).max())
    if not difference < TOLERANCE:
        raise WrongScores(f"is {difference:.2g} away from {model.framework}'s own answer")
    return True


def _version(kind: Format, body: bytes) -> str:
    return "" if kind is Format.FLOAT32 else str(json.loads(body).get("version"))
