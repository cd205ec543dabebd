"""A scoring server as a far side: a model that only Python can score, in MLflow's own server or in MLServer.

    card asked by    is it ready?                         a batch --> its scores
    invocations      GET {url}/ping                       POST {url}/invocations
    open_inference   as of an `endpoint`: GET .. /ready   POST .. /infer

It takes columns of any kinds by their names; what its model gives stands on the card.
"""

import time
from collections.abc import Callable

from configuration.settings import RemoteSettings
from runners.artefacts.card import Card
from runners.inputs.rows import Rows
from runners.placements.column_tensors import ColumnTensors
from runners.placements.endpoint import Endpoint
from runners.placements.executor import BatchScores
from runners.placements.far_side import CallRefused, EndpointError, Reply
from runners.placements.frames import FrameWriter, UnfitValue, plain_rows
from runners.placements.inference import Mismatch, RemoteModelMetadata
from runners.placements.invocations import Invocations
from runners.placements.predicted import scores_of


class ScoringServer(Endpoint):
    """A far side; see `far_side`."""

    def __init__(self, target: RemoteSettings, card: Card, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(target, card, clock)
        self._writer: FrameWriter = Invocations(card.feature_names)
        if card.asked_by == "invocations":
            self.address = target.url.rstrip("/")
            self._ready_url = f"{self.address}/ping"
            self._scores_url = f"{self.address}/invocations"

    async def _agree(self) -> None:
        """Learn which tensors it takes; MLflow's own says nothing of itself. The examples will tell whether it is the
        right model.
        """
        if self._card.asked_by == "open_inference":
            model = await self._metadata(self.address, RemoteModelMetadata)
            try:
                self._writer = ColumnTensors(self._card.features, model.inputs or [])
            except Mismatch as error:
                raise EndpointError(str(error)) from None

    def _write(self, rows: Rows) -> tuple[bytes, int | None]:
        try:
            return self._writer.write(plain_rows(self._card.features, self._card.row_format, rows)), None
        except UnfitValue as error:
            raise CallRefused(str(error)) from None

    def _read(self, reply: Reply, rows: int) -> BatchScores:
        predictions, card = self._writer.read(reply.body), self._card
        if len(predictions.rows) != rows:
            raise Mismatch(f"it gives {len(predictions.rows)} predictions, where {rows} rows were sent")
        return scores_of(card.task, card.own_classes or card.classes, card.outputs, predictions)
