"""A client of a running scoring server: it asks for predictions of plain rows (see `runners.placements.frames`)."""

from collections.abc import Sequence
from typing import Any

import httpx
import msgspec

from configuration.settings import RemoteSettings
from runners.inputs.schema import Feature
from runners.placements.column_tensors import ColumnTensors
from runners.placements.frames import FrameWriter
from runners.placements.inference import Mismatch, RemoteModelMetadata
from runners.placements.invocations import Invocations
from runners.placements.predicted import Predicted
from shokado.lifecycle.errors import SourceNotFound, UnsupportedModel
from shokado.lifecycle.importing import registry

ANSWER_S = 120
"""How long the other server may take for all rows."""


class Unanswered(Exception):
    """The server does not score the rows; the message is its own."""


class ScoringClient:
    """Asks a server for one model's predictions.

    Attributes:
        url: where it is asked.
    """

    def __init__(self, url: str, uri: str, features: Sequence[Feature], model: str | None) -> None:
        """`model` is its name at a server of the Open Inference Protocol; None: the server is MLflow's own.

        Raises `SourceNotFound`, and `UnsupportedModel` where the server has another one.
        """
        self._uri, self._model, self._base = uri, model, url
        self._writer: FrameWriter
        if model is None:
            self.url = f"{url.rstrip('/')}/invocations"
            self._writer = Invocations([feature.name for feature in features])
        else:
            address = RemoteSettings(url=url, model=model, version=None).address
            self.url = f"{address}/infer"
            self._writer = self._column_tensors(address, features)

    def predictions(self, rows: Sequence[Sequence[Any]]) -> Predicted:
        """What is predicted for the rows. Raises `Unanswered`, `SourceNotFound` and `UnsupportedModel`."""
        headers = {"Content-Type": "application/json"}
        answer = self._ask("POST", self.url, content=self._writer.write(rows), headers=headers)
        if answer.status_code != 200:
            raise Unanswered(f"it answers {answer.status_code}: {_words(answer)}")
        try:
            predictions = self._writer.read(answer.content)
        except Mismatch as error:
            raise UnsupportedModel(f"{self._uri} cannot be connected: {error}.") from error
        if len(predictions.rows) != len(rows):
            raise UnsupportedModel(f"{self._uri} gives {len(predictions.rows)} predictions for {len(rows)} rows.")
        return predictions

    def _column_tensors(self, address: str, features: Sequence[Feature]) -> ColumnTensors:
        answer = self._ask("GET", address)
        if answer.status_code != 200:
            raise SourceNotFound(f"{address} answers {answer.status_code}: {_words(answer)}", self._serve_command())
        try:
            described = msgspec.json.decode(answer.content, type=RemoteModelMetadata)
            return ColumnTensors(features, described.inputs or [])
        except (msgspec.DecodeError, Mismatch) as error:
            raise UnsupportedModel(f"{address} is not {self._uri}: {error}.") from error

    def _ask(self, method: str, url: str, **options: Any) -> httpx.Response:
        try:
            return httpx.request(method, url, timeout=ANSWER_S, trust_env=False, **options)
        except httpx.HTTPError as error:
            raise SourceNotFound(
                f"No scoring server answers at {self._base}: {error}", self._serve_command()
            ) from error

    def _serve_command(self) -> str:
        if self._model is None:
            return registry.serve_command(self._uri, self._base)
        return registry.mlserver_command(self._uri, self._base, self._model)


def _words(answer: httpx.Response) -> str:
    """What an error says; the last line of a traceback."""
    try:
        content = answer.json()
        said = str(content.get("message") or content["error"])
    except (ValueError, KeyError, TypeError, AttributeError):
        said = answer.text
    if said.startswith("Traceback"):
        said = said.strip().splitlines()[-1]
    return " ".join(said.split())[:300]
