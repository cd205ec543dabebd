"""LightGBM and CatBoost, logged with `mlflow.lightgbm` and `mlflow.catboost`, and LightGBM in pipelines."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from runners.artefacts.card import Task
from tests.frameworks.conftest import Try
from tests.frameworks.samples import COLUMNS, FLAGS, FLOAT_GAPS, FLOATS, GAPS, MIXED, NUMBERS, Sample
from tests.frameworks.tried_model import LazyPackage, Train, TriedModel, fitted

lightgbm, catboost = LazyPackage("lightgbm"), LazyPackage("catboost")
LIGHT: dict[str, Any] = {"n_estimators": 8, "num_leaves": 8, "min_child_samples": 5, "n_jobs": 1, "verbose": -1}
CAT: dict[str, Any] = {"iterations": 8, "depth": 4, "thread_count": 1, "verbose": False, "allow_writing_files": False}
TEXTS = ["sex", "port", "deck"]


def light(learned: str, kind: str = "LGBMClassifier", **parameters: Any) -> Train:
    """What fits an estimator of LightGBM to the attribute `learned` of the rows."""
    return fitted(lambda: getattr(lightgbm, kind)(**LIGHT | parameters), learned)


def booster(learned: str, objective: Any, **parameters: Any) -> Train:
    def train(rows: Sample) -> Any:
        chosen = {"objective": objective, "num_leaves": 8, "num_threads": 1, "verbose": -1, **parameters}
        return lightgbm.train(chosen, lightgbm.Dataset(rows.frame, getattr(rows, learned)), 8)

    return train


def cat(learned: str, kind: str = "CatBoostClassifier", **parameters: Any) -> Train:
    """The same of CatBoost."""
    return fitted(lambda: getattr(catboost, kind)(**CAT | parameters), learned)


def ranked(rows: Sample) -> Any:
    return lightgbm.LGBMRanker(**LIGHT).fit(rows.frame, rows.three, group=np.bincount(rows.groups))


def ranked_by_cat(rows: Sample) -> Any:
    return catboost.CatBoostRanker(loss_function="YetiRank", **CAT).fit(rows.frame, rows.three, group_id=rows.groups)


def own_loss(found: Any, data: Any) -> tuple[Any, Any]:
    return found - data.get_label(), np.ones_like(found)


def columns(estimator: Any, numbers: Any) -> Pipeline:
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return make_pipeline(ColumnTransformer([("n", numbers, ["age", "fare"]), ("t", encoder, TEXTS)]), estimator)


of_light = partial(TriedModel, "lightgbm", arguments={"serialization_format": "cloudpickle"})
of_booster, of_cat = partial(TriedModel, "lightgbm"), partial(TriedModel, "catboost")
of_sklearn = partial(TriedModel, "sklearn")
BINARY, MULTICLASS, REGRESSION = Task.BINARY, Task.MULTICLASS, Task.REGRESSION
OBJECTIVES = ("regression", "regression_l1", "huber", "quantile", "mape", "poisson", "gamma", "tweedie")
LOSSES = ("RMSE", "MAE", "Quantile:alpha=0.9", "Poisson", "Tweedie:variance_power=1.5", "Huber:delta=2")
MODELS = (
    of_light("LGBMClassifier", FLOATS, BINARY, light("two")),
    of_light("LGBMClassifier", NUMBERS, BINARY, light("two")),
    of_light("LGBMClassifier", FLAGS, BINARY, light("yes")),
    of_light("LGBMClassifier", GAPS, BINARY, light("two")),
    of_light("LGBMClassifier", FLOAT_GAPS, BINARY, light("yes")),
    of_light("LGBMClassifier of three", FLOATS, MULTICLASS, light("sizes")),
    of_light("LGBMClassifier of three", FLOAT_GAPS, MULTICLASS, light("three")),
    of_light("LGBMClassifier, multiclassova", FLOATS, MULTICLASS, light("three", objective="multiclassova")),
    of_light("LGBMClassifier, dart", FLOATS, BINARY, light("two", boosting_type="dart")),
    of_light("LGBMClassifier, rf", FLOATS, BINARY, light("two", boosting_type="rf", subsample=0.6, subsample_freq=1)),
    *(
        of_light(f"LGBMRegressor, {one}", FLOATS, REGRESSION, light("value", "LGBMRegressor", objective=one))
        for one in OBJECTIVES
    ),
    of_light("LGBMRegressor", FLOAT_GAPS, REGRESSION, light("value", "LGBMRegressor")),
    of_light("LGBMRegressor, linear_tree", FLOATS, REGRESSION, light("value", "LGBMRegressor", linear_tree=True)),
    of_light("LGBMRegressor, linear_tree", FLOAT_GAPS, REGRESSION, light("value", "LGBMRegressor", linear_tree=True)),
    of_light("LGBMClassifier of three, linear_tree", FLOATS, MULTICLASS, light("three", linear_tree=True)),
    of_light("LGBMRanker", FLOATS, REGRESSION, ranked),
    of_booster("Booster, binary", FLOATS, BINARY, booster("two", "binary")),
    of_booster("Booster, multiclass", FLOATS, MULTICLASS, booster("three", "multiclass", num_class=3)),
    of_booster("Booster, cross_entropy", FLOATS, REGRESSION, booster("share", "cross_entropy")),
    of_booster("Booster, a loss of one's own", FLOATS, REGRESSION, booster("value", own_loss)),
    of_cat("CatBoostClassifier", FLOATS, BINARY, cat("two")),
    of_cat("CatBoostClassifier", NUMBERS, BINARY, cat("yes")),
    of_cat("CatBoostClassifier", FLOAT_GAPS, BINARY, cat("two")),
    of_cat("CatBoostClassifier of three", FLOATS, MULTICLASS, cat("sizes")),
    of_cat("CatBoostClassifier of three", FLOAT_GAPS, MULTICLASS, cat("three")),
    of_cat("CatBoostClassifier, MultiClassOneVsAll", FLOATS, MULTICLASS,
           cat("three", loss_function="MultiClassOneVsAll")),
    of_cat("CatBoostClassifier, Lossguide", FLOATS, BINARY, cat("two", grow_policy="Lossguide", max_leaves=12)),
    of_cat("CatBoostClassifier, counted categories", COLUMNS, BINARY,
           cat("two", cat_features=TEXTS, one_hot_max_size=1, max_ctr_complexity=1), takes_unknown=True),
    *(
        of_cat(f"CatBoostRegressor, {one.partition(':')[0]}", FLOATS, REGRESSION,
               cat("value", "CatBoostRegressor", loss_function=one))
        for one in LOSSES
    ),
    of_cat("CatBoostRegressor", FLOAT_GAPS, REGRESSION, cat("value", "CatBoostRegressor")),
    of_cat("CatBoostClassifier of labels, MultiLogloss", FLOATS, Task.MULTILABEL,
           cat("flags", loss_function="MultiLogloss")),
    of_cat("CatBoostClassifier of labels, MultiCrossEntropy", FLOAT_GAPS, Task.MULTILABEL,
           cat("flags", loss_function="MultiCrossEntropy")),
    *(
        of_cat(f"CatBoostRegressor, {one.partition(':')[0]}", FLOATS, Task.MULTIOUTPUT,
               cat(learned, "CatBoostRegressor", loss_function=one))
        for one, learned in (
            ("MultiRMSE", "pair"), ("MultiQuantile:alpha=0.1,0.9", "value"), ("RMSEWithUncertainty", "value")
        )
    ),
    of_cat("CatBoostRanker, YetiRank", FLOATS, REGRESSION, ranked_by_cat),
    of_sklearn("LGBMClassifier behind a scaler", FLOATS, BINARY,
               fitted(lambda: make_pipeline(StandardScaler(), lightgbm.LGBMClassifier(**LIGHT)), "two")),
    of_sklearn("GridSearchCV of LGBMClassifier", FLOATS, BINARY,
               fitted(lambda: GridSearchCV(lightgbm.LGBMClassifier(**LIGHT), {"num_leaves": [4, 8]}, cv=2), "two")),
    of_sklearn("MultiOutputClassifier of LGBMClassifier", FLOATS, Task.MULTILABEL,
               fitted(lambda: MultiOutputClassifier(lightgbm.LGBMClassifier(**LIGHT)), "flags")),
    of_sklearn("MultiOutputClassifier of CatBoostClassifier", FLOATS, Task.MULTILABEL,
               fitted(lambda: MultiOutputClassifier(catboost.CatBoostClassifier(**CAT)), "flags")),
    of_sklearn("OneHotEncoder(ignore), LGBMClassifier", MIXED, BINARY,
               fitted(lambda: columns(lightgbm.LGBMClassifier(**LIGHT), SimpleImputer()), "two"), takes_unknown=True),
)  # fmt: skip


@pytest.mark.parametrize("tried", MODELS, ids=str)
def test_a_model_is_served_as_it_answers_or_refused(tried: TriedModel, try_out: Try) -> None:
    try_out(tried)
