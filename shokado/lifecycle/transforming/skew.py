"""Skew: whether serving gives the values that a version was trained on.

In: a table of training rows, with the names of entities beside features, and a running transformer. Out: for each
feature, in how many rows both agree. A stored value that is newer than its training row is no skew: the world has
changed, and the training row would have that value today. Such rows are told apart where the table says when its rows
were true.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from shokado.features.feature_wire import (
    FEATURES_PATH,
    FeatureColumn,
    FeatureQuestion,
    decode_answer,
    decode_refusal,
    encode,
)
from shokado.lifecycle.errors import LifecycleError

if TYPE_CHECKING:
    import pandas as pd

TIME_COLUMN = "event_timestamp"
"""As Feast's tables have it."""
BATCH = 256
TIMEOUT_S = 30.0
_CLOCK_S = 1.0
"""Online stores keep times in seconds, and tables in fractions of them."""


class SkewUnknown(LifecycleError):
    """Table and transformer cannot be compared; the message says why."""


@dataclass(frozen=True)
class SkewOrder:
    """What is to be compared."""

    table: Path
    """CSV or Parquet."""
    url: str
    """The transformer's, as serving.yaml names it."""
    max_rows: int = 1000
    """Rows that are looked up: the last one of each entity, and of these so many."""
    tolerance: float = 1e-6
    """How far numbers may lie apart, relative to the larger of 1 and the trained one."""


@dataclass
class FeatureSkew:
    """What became of one feature."""

    name: str
    equal: int = 0
    different: int = 0
    missing: int = 0
    """Rows whose value serving has not."""
    newer: int = 0
    """Rows whose value has changed since they were true; not compared."""
    largest: float = 0.0
    """Largest difference of two numbers."""
    example: str = ""
    """The first row that differs, in words."""

    @property
    def compared(self) -> int:
        return self.equal + self.different + self.missing

    @property
    def share(self) -> float:
        """Part of the compared rows in which serving has another value, or none."""
        return (self.different + self.missing) / self.compared if self.compared else 0.0


@dataclass(frozen=True)
class SkewReport:
    """What was compared."""

    rows: int
    features: Sequence[FeatureSkew]
    left_out: Sequence[str] = field(default=())
    """Columns of the table that the transformer does not have, such as the label."""


def check_skew(order: SkewOrder) -> SkewReport:
    """Compare a table with what the transformer gives. Raises `SkewUnknown`."""
    with _client(order.url) as client:
        offered = _offered(client, order.url)
        table = _read(order.table)
        names = [name for name in offered["entities"] if name in table.columns]
        features = [name for name in offered["features"] if name in table.columns]
        if not names or not features:
            raise SkewUnknown(
                f"{order.table} has {', '.join(map(str, table.columns))}; needed are entities out of "
                f"{', '.join(offered['entities'])}, and features out of {', '.join(offered['features'])}."
            )
        table = _last_of_each(table, names, order.max_rows)
        found = {name: FeatureSkew(name) for name in features}
        for start in range(0, len(table), BATCH):
            _compare(client, table.iloc[start : start + BATCH], names, found, order)
    left_out = [str(name) for name in table.columns if name not in (*names, *features, TIME_COLUMN)]
    return SkewReport(len(table), list(found.values()), left_out)


def _client(url: str) -> httpx.Client:
    if url.startswith("unix:"):
        return httpx.Client(
            base_url="http://transformer",
            transport=httpx.HTTPTransport(uds=url.removeprefix("unix:")),
            timeout=TIMEOUT_S,
        )
    return httpx.Client(base_url=url, timeout=TIMEOUT_S)


def _offered(client: httpx.Client, url: str) -> Mapping[str, Sequence[str]]:
    try:
        answer = client.get(FEATURES_PATH)
        offered = msgspec.json.decode(answer.content) if answer.status_code == 200 else None
    except (httpx.HTTPError, msgspec.DecodeError) as error:
        raise SkewUnknown(f"No transformer answers at {url}: {error}", "shokado features serve --help") from None
    if not isinstance(offered, dict) or not {"entities", "features"} <= offered.keys():
        raise SkewUnknown(f"What answers at {url} is no transformer of Shokado.", "shokado features serve --help")
    return offered


def _read(path: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise SkewUnknown(f"{path} cannot be read: {error}") from None
    if TIME_COLUMN in table.columns:
        table[TIME_COLUMN] = pd.to_datetime(table[TIME_COLUMN], utc=True)
    return table


def _last_of_each(table: "pd.DataFrame", names: list[str], max_rows: int) -> "pd.DataFrame":
    """Rows of which the entity is known, the last one of each, and no more than so many, drawn the same each time."""
    table = table.dropna(subset=names)
    if TIME_COLUMN in table.columns:
        table = table.sort_values(TIME_COLUMN, kind="stable")
    table = table.drop_duplicates(subset=names, keep="last")
    return table.sample(max_rows, random_state=0) if len(table) > max_rows else table


def _compare(
    client: httpx.Client,
    rows: "pd.DataFrame",
    names: list[str],
    found: Mapping[str, FeatureSkew],
    order: SkewOrder,
) -> None:
    entities = {name: [_plain(value) for value in rows[name]] for name in names}
    try:
        answer = client.post(FEATURES_PATH, content=encode(FeatureQuestion(entities)))
        if answer.status_code != 200:
            raise SkewUnknown(f"The transformer refuses: {decode_refusal(answer.content).error}")
        columns = {column.name: column for column in decode_answer(answer.content).features}
    except (httpx.HTTPError, msgspec.DecodeError) as error:
        raise SkewUnknown(f"The transformer at {order.url} does not answer: {error}") from None
    true_at = [stamp.timestamp() for stamp in rows[TIME_COLUMN]] if TIME_COLUMN in rows.columns else None
    for name, skew in found.items():
        if name in columns:
            trained = [_plain(value) for value in rows[name]]
            _count(skew, trained, columns[name], true_at, entities, order.tolerance)
        else:
            skew.missing += len(rows)


def _count(
    skew: FeatureSkew,
    trained: Sequence[Any],
    served: FeatureColumn,
    true_at: Sequence[float] | None,
    entities: Mapping[str, Sequence[Any]],
    tolerance: float,
) -> None:
    for at, (was, now, there) in enumerate(zip(trained, served.values, served.found, strict=True)):
        if there and true_at is not None and served.times is not None and served.times[at] > true_at[at] + _CLOCK_S:
            skew.newer += 1
            continue
        value = now if there else None
        difference = _difference(was, value)
        if _are_numbers(was, value):
            skew.largest = max(skew.largest, difference)
        if difference <= tolerance * (max(1.0, abs(was)) if _are_numbers(was, value) else 1.0):
            skew.equal += 1
            continue
        if value is None:
            skew.missing += 1
        else:
            skew.different += 1
        if not skew.example:
            whose = ", ".join(f"{name}={str(values[at])[:40]}" for name, values in entities.items())
            skew.example = f"{whose}: trained on {was!r}, served {value!r}"


def _are_numbers(one: Any, other: Any) -> bool:
    return isinstance(one, int | float) and isinstance(other, int | float)


def _difference(was: Any, now: Any) -> float:
    if _are_numbers(was, now):
        return abs(float(was) - float(now))
    return 0.0 if was == now else math.inf


def _plain(value: Any) -> Any:
    """The value as JSON has it; None where it is missing."""
    value = value.item() if hasattr(value, "item") else value
    is_missing = value is None or value != value or type(value).__name__ == "NAType"  # noqa: PLR0124
    return None if is_missing else value
