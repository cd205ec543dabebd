"""What people score tables with otherwise, as programs of their own: `python -m load_tests.bench.batch_loops KIND ..`.

Both read a table in chunks with pandas, score the customers' XGBoost model, and write a Parquet file a chunk.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

CHUNK_ROWS = 100_000
"""As many as a part of `shokado batch run` has."""


def frames_of(source: Path) -> Iterator[Any]:
    """The rows of a CSV or Parquet file, in chunks."""
    if source.suffix == ".csv":
        yield from pd.read_csv(source, chunksize=CHUNK_ROWS)
        return
    from pyarrow.parquet import ParquetFile

    for batch in ParquetFile(source).iter_batches(CHUNK_ROWS):
        yield batch.to_pandas()


def pandas_scores(model: str) -> Callable[[Any], Any]:
    """XGBoost's own prediction of a frame; `model` is a file."""
    import xgboost

    # It was saved without names; the table has the columns in their order.
    booster = xgboost.Booster(model_file=model)
    return lambda frame: booster.inplace_predict(frame, validate_features=False)


def mlflow_scores(model: str) -> Callable[[Any], Any]:
    """What MLflow's pyfunc predicts of a frame; `model` is an address of the registry."""
    import mlflow

    loaded = mlflow.pyfunc.load_model(model)
    names = loaded.metadata.get_input_schema().input_names()
    kinds = dict(zip(names, (one.to_pandas() for one in loaded.metadata.get_input_schema().input_types()), strict=True))
    return lambda frame: loaded.predict(frame[names].astype(kinds))


def main(kind: str, model: str, source: Path, target: Path) -> None:
    """Score a table."""
    target.mkdir()
    scores = {"pandas": pandas_scores, "mlflow": mlflow_scores}[kind](model)
    for number, frame in enumerate(frames_of(source)):
        scored = pd.DataFrame({"row": range(number * CHUNK_ROWS, number * CHUNK_ROWS + len(frame))})
        scored["score"] = scores(frame)
        scored.to_parquet(target / f"part-{number:05d}.parquet", index=False)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
