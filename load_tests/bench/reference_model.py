"""The model every contender serves, the rows it is asked about, and the answers that count as right."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from xgboost import Booster, DMatrix

FloatArray = npt.NDArray[np.float32]

RANGES = (
    (18, 80, 0),  # age
    (15_000, 180_000, 2),  # income
    (300, 850, 0),  # credit_score
    (0, 120, 0),  # num_purchases
    (1, 4_000, 0),  # account_age_days
    (5, 900, 2),  # avg_transaction
    (0, 20, 0),  # num_returns
    (0, 2, 0),  # is_premium
    (0, 5, 0),  # region
    (0, 8, 0),  # category_preference
)
"""Lowest value, end of the range and decimals of each feature, in the model's order."""


class ModelMissing(Exception):
    """There is no folder with both model files; the message says how to get one."""


@dataclass(frozen=True)
class ReferenceModel:
    """A folder with `model.ubj` and `model.onnx`, two files of the same trees."""

    folder: Path
    framework: ClassVar[str] = "XGBoost"

    def draw(self, count: int, seed: int) -> npt.NDArray[np.float64]:
        """Rows to ask about; see `draw_rows`."""
        return draw_rows(count, seed)

    def predict(self, rows: npt.NDArray[np.floating]) -> FloatArray:
        """Probability of the positive class by XGBoost's own `predict`, the reference of every check."""
        booster = Booster(model_file=self.folder / "model.ubj")
        given = rows.astype(np.float32)
        matrix = DMatrix(given, feature_names=booster.feature_names, feature_types=booster.feature_types)
        return np.asarray(booster.predict(matrix), dtype=np.float32)


def find_model(folder: Path | None, tag: str = "customers:v1") -> ReferenceModel:
    """The given folder, else the artefact `tag` of the BentoML model store."""
    folder = folder or _stored(tag)
    missing = [name for name in ("model.ubj", "model.onnx") if not (folder / name).is_file()]
    if missing:
        raise ModelMissing(f"{folder} has no {' and no '.join(missing)}.")
    return ReferenceModel(folder.resolve())


def _stored(tag: str) -> Path:
    import bentoml

    try:
        return Path(bentoml.models.get(tag).path)
    except bentoml.exceptions.NotFound as error:
        raise ModelMissing(f"The model store has no {tag}: run `make models`, or give --model-dir.") from error


def draw_rows(count: int, seed: int) -> npt.NDArray[np.float64]:
    """Random customers, [count, 10], rounded as people write them so that JSON bodies have a realistic size."""
    random = np.random.default_rng(seed)
    columns = [np.floor(random.uniform(low, high, count) * 10**digits) / 10**digits for low, high, digits in RANGES]
    return np.stack(columns, axis=1)
