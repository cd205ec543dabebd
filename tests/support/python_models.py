"""Models that only Python can score, over one table, and MLflow's own server of them beside our card."""

import asyncio
import itertools
import time
from typing import Any

import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel

from configuration.settings import RemoteSettings
from runners.artefacts.artefact import Artefact
from runners.placements.scoring_server import ScoringServer
from shokado.lifecycle.importing.connecting import ConnectOrder, connect_version
from shokado.lifecycle.importing.version import ImportOrder
from tests.support.invocations import scoring

PORTS = {"C": 1.0, "Q": 20.0, "S": 300.0}


def passengers(count: int, seed: int = 0) -> pd.DataFrame:
    """A table with gaps, whole numbers, truth values and texts."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"age": random.normal(40, 9, count).round(1), "visits": random.integers(0, 9, count)})
    frame["member"] = random.random(count) < 0.5
    frame["port"] = random.choice(list(PORTS), count)
    frame.loc[::5, "age"] = None
    return frame


class Tariff(PythonModel):
    """A price, by rules that are no model of any framework."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        assert model_input["member"].dtype == bool
        port = model_input["port"].map(PORTS)
        assert port.notna().all()
        return port + model_input["age"].fillna(30) * np.where(model_input["member"], 0.5, 1) + model_input["visits"]


class Band(Tariff):
    """Which band the price is in."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        return np.array(["low", "middle", "high"])[np.digitize(super().predict(context, model_input), [50, 100])]


class Both(Tariff):
    """The price in two units."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        price = super().predict(context, model_input)
        return pd.DataFrame({"price": price, "thousands": price / 1000})


class Mixed(Tariff):
    """The price beside a label."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        price = super().predict(context, model_input)
        return pd.DataFrame({"price": price, "band": "low"})


class Same(Tariff):
    """One label for whatever it is given."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        return ["low"] * len(model_input)


class Moody(Tariff):
    """Another answer each time."""

    calls = itertools.count()

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        return super().predict(context, model_input) + next(self.calls)


class Crowd(Tariff):
    """How much more than the others a row costs."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        price = super().predict(context, model_input)
        return price - price.mean()


class Clock(PythonModel):
    """Seconds since a day in 2023, of which float32 has none."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        return model_input["at"] - 1.7e9


class Length(PythonModel):
    """How long a text is."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        return model_input["message"].str.len()


def connected(uri: str, **changes: Any) -> Artefact:
    order = {"uri": uri, "version": "v1", "model": "python"} | changes
    classes = order.pop("classes", ())
    with scoring(uri) as url:
        return connect_version(ConnectOrder(ImportOrder(**order), url, classes)).artefact


def scores(artefact: Artefact, uri: str, rows: list[dict[str, Any]]) -> Any:
    """What a server gets of the model for rows of JSON."""
    row_format = artefact.card.row_format
    batch = row_format.join([row_format.pack_values(rows)], len(rows))

    async def ask(url: str) -> Any:
        far_side = ScoringServer(RemoteSettings(url=url), artefact.card)
        try:
            await far_side.meet()
            found = await far_side.infer(batch, time.monotonic() + 60)
        finally:
            await far_side.close()
        assert found.failures == {}
        return found.scores

    with scoring(uri) as url:
        return asyncio.run(ask(url))


def plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as a client writes them in JSON."""
    return [
        {name: None if pd.isna(value) else value for name, value in row.items()} for row in frame.to_dict("records")
    ]
