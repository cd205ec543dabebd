"""A candidate of the model store, scored in this process by the engine that would serve it, without a server.

Rows of many calls are scored together, so there are no latencies to compare.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configuration.settings import EngineChoice
from runners.artefacts import repository
from runners.artefacts.artefact import Artefact, ArtefactDamaged
from runners.artefacts.card import CardError
from runners.artefacts.scores import positions_of
from runners.engines.engine import open_engine
from runners.inputs.faults import InputFault
from runners.inputs.rows import RequestRows
from shokado.lifecycle.errors import ReplayRefused
from shokado.lifecycle.replaying.candidate import CandidateSignature, Progress, ReplayedCall
from shokado.lifecycle.replaying.logged_calls import LoggedCall

BATCH_ROWS = 1_000
"""Rows that are scored at once, or those of one call."""


class StoredCandidate:
    """An artefact, and its engine."""

    has_latency = False

    def __init__(self, artefact: Artefact) -> None:
        """Raises `ReplayRefused` where only another server can score its rows."""
        self._card = artefact.card
        self.signature = CandidateSignature.of_card(artefact.card)
        self.address = f"{artefact.tag} in the model store"
        try:
            self._engine = open_engine(artefact.folder, artefact.card, EngineChoice.AUTO)
        except CardError as error:
            raise ReplayRefused(f"{error}.", f"shokado replay --against {artefact.version} --url URL") from error

    def replay(self, calls: Sequence[LoggedCall], progress: Progress) -> list[ReplayedCall]:
        found: list[ReplayedCall] = []
        for batch in _batches(calls):
            packed = [self._packed(call) for call in batch]
            replayed = self._scored(packed)
            progress(replayed)
            found += replayed
        return found

    def _packed(self, call: LoggedCall) -> tuple[RequestRows, int] | InputFault:
        try:
            return self.signature.row_format.pack_values(self.signature.rows_of(call)), len(call.batch)
        except InputFault as fault:
            return fault

    def _scored(self, packed: Sequence[tuple[RequestRows, int] | InputFault]) -> list[ReplayedCall]:
        """The scores of each; where they cannot be had together, of each alone."""
        taken = [one for one in packed if not isinstance(one, InputFault)]
        try:
            together = self._scores(taken) if taken else []
        except Exception:
            together = [self._alone(one) for one in taken]
        scores = iter(together)
        return [
            ReplayedCall(fault=one.code, message=one.message) if isinstance(one, InputFault) else next(scores)
            for one in packed
        ]

    def _alone(self, one: tuple[RequestRows, int]) -> ReplayedCall:
        try:
            return self._scores([one])[0]
        except Exception as error:
            return ReplayedCall(fault="model_failure", message=f"{type(error).__name__}: {error}")

    def _scores(self, taken: Sequence[tuple[RequestRows, int]]) -> list[ReplayedCall]:
        parts, counts = zip(*taken, strict=True)
        scores = self._engine.predict(self.signature.row_format.join(parts, sum(counts)))
        return [self._replayed(part) for part in np.split(scores, np.cumsum(counts)[:-1])]

    def _replayed(self, scores: NDArray[Any]) -> ReplayedCall:
        if not np.isfinite(scores).all():
            return ReplayedCall(fault="no_score", message=f"{self._card.version} has no score for a row")
        card = self._card
        positions = positions_of(card.task, scores, card.positive_from) if card.classes else None
        return ReplayedCall(scores, positions)


def find_artefact_of(against: str, models: Sequence[str]) -> Artefact:
    """The artefact that is named by its tag, or by its version where all requests were asked of one model.

    Raises `ReplayRefused`.
    """
    model, _, version = against.rpartition(":")
    if not model:
        if len(models) != 1:
            raise ReplayRefused(
                f"The log has requests to {', '.join(models)}: say of which model the version is.",
                f"shokado replay --against {models[0]}:{version}",
            )
        model = models[0]
    try:
        found = repository.look_up(model, version)
    except ArtefactDamaged as error:
        raise ReplayRefused(f"{error}.", f"shokado models import models:/{model}/.. --as {version} --replace") from None
    if found is None:
        raise ReplayRefused(f"There is no {model}:{version} in the model store.", f"shokado models list {model}")
    return found


def _batches(calls: Sequence[LoggedCall]) -> Iterator[list[LoggedCall]]:
    batch: list[LoggedCall] = []
    rows = 0
    for call in calls:
        if batch and rows + len(call.batch) > BATCH_ROWS:
            yield batch
            batch, rows = [], 0
        batch.append(call)
        rows += len(call.batch)
    if batch:
        yield batch
