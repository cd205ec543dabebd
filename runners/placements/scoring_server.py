"""A scoring server as a far side: one model that `mlflow models serve`, or MLServer's runtime of MLflow, has loaded.

    GET  {url}/ping            can it answer?
    POST {url}/invocations     a batch --> its scores

It takes columns of any kinds by their names, and says nothing of itself: the card knows what its model takes and gives.
"""

import time
from collections.abc import Callable

from configuration.settings import RemoteSettings
from runners.artefacts.card import Card
from runners.inputs.rows import Rows
from runners.placements.endpoint import Endpoint
from runners.placements.executor import BatchScores
from runners.placements.far_side import CallRefused, Reply
from runners.placements.inference import Mismatch
from runners.placements.invocations import UnfitValue, read_predictions, scores_of, write_batch


class ScoringServer(Endpoint):
    """A far side; see `far_side`."""

    def __init__(self, target: RemoteSettings, card: Card, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(target, card, clock)
        self.address = target.url.rstrip("/")
        self._ready_url = f"{self.address}/ping"
        self._scores_url = f"{self.address}/invocations"

    async def _agree(self) -> None:
        """The examples will tell whether it is the right model."""

    def _write(self, rows: Rows) -> tuple[bytes, int | None]:
        try:
            return write_batch(self._card.features, self._card.row_format, rows), None
        except UnfitValue as error:
            raise CallRefused(str(error)) from None

    def _read(self, reply: Reply, rows: int) -> BatchScores:
        predictions, card = read_predictions(reply.body), self._card
        if len(predictions) != rows:
            raise Mismatch(f"it gives {len(predictions)} predictions, where {rows} rows were sent")
        return scores_of(card.task, card.own_classes or card.classes, predictions)
