"""Writes values into the online store: customer 1 has all, 2 nulls and a profile that is too old, 3 nothing."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd


def fill(store: Any, now: datetime) -> None:
    """Into Feast's `FeatureStore`."""

    def write(view: str, ago: timedelta, **columns: object) -> None:
        frame = pd.DataFrame({name: [value] for name, value in columns.items()})
        frame["event_timestamp"] = now - ago
        store.write_to_online_store(view, frame)

    write("profile", timedelta(minutes=5), customer_id=1, age=39, income=1.5, city="Bern", member=True)
    write("profile", timedelta(minutes=61), customer_id=2, age=40, income=None, city=None, member=None)
    write("forever", timedelta(days=900), customer_id=1, region=4)
    write("sales", timedelta(minutes=2), customer_id=1, shop="Basel", sold=7, age=1)
    write("lists", timedelta(0), customer_id=1, many=[1, 2])


# `feast apply` imports every file of a repository.
if __name__ == "__main__":
    from feast import FeatureStore

    fill(FeatureStore("."), datetime.now(UTC))
