"""An example of a Feast repository: the features of the data set `customers`, by customer, and numbers of messages."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from shokado.lifecycle import examples
from shokado.lifecycle.datasets import CUSTOMERS_FEATURES, generate_customers
from shokado.lifecycle.transforming.feature_repository import CONFIGURATION, RepositoryError

SOURCE = Path(examples.__file__).with_name("feature_repo")
CUSTOMERS = 1000
SEED = 17
MAX_AGE = timedelta(hours=12)
"""How long ago the oldest row was true: within the time for which all features hold."""


def write_example(folder: Path, now: datetime | None = None) -> None:
    """Write the definitions, and a table of customers that were true within the last hours.

    Raises `RepositoryError` where a repository lies there.
    """
    import pandas as pd

    if (folder / CONFIGURATION).exists():
        raise RepositoryError(f"There is a Feast repository in {folder} already.", f"rm -r {folder}")
    (folder / "data").mkdir(parents=True)
    for path in SOURCE.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    rows, _ = generate_customers(CUSTOMERS, SEED)
    table = pd.DataFrame(
        {
            feature.name: column.astype(np.float64).round(2) if feature.type == "float" else column.astype(np.int64)
            for feature, column in zip(CUSTOMERS_FEATURES, rows.T, strict=True)
        }
    )
    table.insert(0, "customer_id", np.arange(1, CUSTOMERS + 1))
    ago = np.random.default_rng(SEED).uniform(0.01, 1, CUSTOMERS) * MAX_AGE.total_seconds()
    table["event_timestamp"] = pd.Timestamp(now or datetime.now(UTC)) - pd.to_timedelta(ago.round(), unit="s")
    table.to_parquet(folder / "data" / "customers.parquet")
