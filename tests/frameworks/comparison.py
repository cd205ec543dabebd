"""A model is asked over HTTP, by list and by name, and must answer as its framework and MLflow's server do."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from runners.artefacts.artefact import Artefact
from tests.frameworks.framework_answers import OwnAnswers, own_answers
from tests.frameworks.samples import TEXT, UNKNOWN
from tests.frameworks.tried_model import TriedModel
from tests.support import http
from tests.support.invocations import theirs
from tests.support.server import Server

FAR_OUT = 1e-5
"""Share of a value by which it may differ besides, as in the import: a value far out has rounding of its own."""


@dataclass(frozen=True)
class Version:
    """A version of a running server."""

    server: Server
    label: str

    def ask(self, path: str, body: Any, status: int = 200) -> Any:
        answer = http.post(f"{self.server.url}{path}", json=body, headers={"X-Model-Version": self.label}, timeout=60)
        assert answer.status_code == status, answer.text
        assert status != 200 or answer.headers["X-Model-Version"] == self.label
        return answer.json()


def compare(tried: TriedModel, uri: str, artefact: Artefact, version: Version) -> None:
    """Raise `AssertionError` unless the version answers the rows that are held out as the framework does."""
    card = artefact.card
    assert card.task is tried.outcome
    own = own_answers(tried, uri, tried.held)
    allowed = max(receipt.tolerance for receipt in card.verification.values())
    rows = rows_of(tried.held)
    lists = [list(row.values()) for row in rows]
    for instances in (rows, lists, [row[0] for row in lists] if TEXT in rows[0] else lists):
        _same(version.ask("/v1/models/predict", {"instances": instances}), own, allowed)
    _as_mlflow(tried, uri, version, own, allowed)
    _refuses_what_it_does_not_take(tried, version, rows)


def rows_of(frame: Any) -> list[dict[str, Any]]:
    """Rows as JSON has them: None where a value is missing, and every digit."""
    found: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return found


def _same(answer: Any, own: OwnAnswers, allowed: float) -> None:
    np.testing.assert_allclose(answer["predictions"], own.scores, rtol=FAR_OUT, atol=allowed)
    if own.labels is not None:
        assert answer["classes"] == own.labels


def _as_mlflow(tried: TriedModel, uri: str, version: Version, own: OwnAnswers, allowed: float) -> None:
    """`/invocations` answers as MLflow's own server does, or labels where that one fails.

    In its table a text that is missing is None, for which most models that were trained with NaN have no answer.
    """
    frame = tried.held
    if own.by_mlflow:
        texts = frame.select_dtypes(exclude=["number", "bool"])
        frame = frame[texts.notna().all(axis=1)]
    rows = rows_of(frame)
    body = {"dataframe_split": {"columns": list(frame.columns), "data": [list(row.values()) for row in rows]}}
    expected = theirs(uri, body) if own.by_mlflow else {"predictions": own.labels or own.scores.tolist()}
    _alike(version.ask("/invocations", body), expected, allowed)


def _alike(mine: Any, expected: Any, allowed: float) -> None:
    """Numbers are near, and all else is the same, kinds included."""
    assert type(mine) is type(expected)
    if isinstance(mine, dict):
        assert list(mine) == list(expected)
        mine, expected = list(mine.values()), list(expected.values())
    if isinstance(mine, list):
        assert len(mine) == len(expected)
        for one, other in zip(mine, expected, strict=True):
            _alike(one, other, allowed)
    elif isinstance(mine, float):
        assert abs(mine - expected) <= allowed + FAR_OUT * abs(expected)
    else:
        assert mine == expected


def _refuses_what_it_does_not_take(tried: TriedModel, version: Version, rows: list[dict[str, Any]]) -> None:
    """A gap, and a text that it has not learned, are errors that name the feature where they are not answered."""
    sample = tried.sample
    wrong: dict[str, Any] = {} if sample.has_gaps or TEXT in rows[0] else {next(iter(rows[0])): None}
    if "port" in rows[0] and not tried.takes_unknown:
        wrong["port"] = UNKNOWN
    for name, value in wrong.items():
        refused = version.ask("/v1/models/predict", {"instances": [rows[0] | {name: value}]}, status=422)
        assert name in refused["error"]["message"]
