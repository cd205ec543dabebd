"""Contributions of a Booster's trees: those of the published algorithm, and they add up to what the engine answers."""

from itertools import combinations
from math import factorial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from numpy.typing import NDArray

from configuration.settings import EngineChoice
from runners.artefacts.card import FileKind, Task
from runners.artefacts.integrity import describe_file
from runners.engines.engine import likely_rows, open_engine
from runners.explanations.contributions import ExplanationMethod, ExplanationScale
from runners.explanations.trees import LINKS, TreeExplainer, open_trees
from tests.runners.conftest import FindArtefact
from tests.support.cards import make_card

FEATURES = 4
LEVELS = 5
TYPES = ["float", "float", "float", "c"]


def training_rows(rows: int = 400) -> NDArray[np.float32]:
    """Three numbers with gaps, and a category."""
    random = np.random.default_rng(3)
    found = random.normal(size=(rows, FEATURES))
    found[random.random(rows) < 0.2, 1] = np.nan
    found[:, 3] = random.integers(0, LEVELS, rows)
    return found.astype(np.float32)


def trained(objective: str, labels: NDArray[Any], **more: Any) -> xgboost.Booster:
    matrix = xgboost.DMatrix(training_rows(), labels, feature_types=TYPES, enable_categorical=True, missing=np.nan)
    settings = {"objective": objective, "max_depth": 4, "nthread": 1, "max_cat_to_onehot": 1, **more}
    booster = xgboost.train(settings, matrix, num_boost_round=6)
    booster.feature_names = booster.feature_types = None
    return booster


def labels_of(kind: str) -> NDArray[Any]:
    rows = training_rows()
    signal = rows[:, 0] * np.nan_to_num(rows[:, 1], nan=2.0) + (rows[:, 3] % 2) * 1.5
    kinds: dict[str, NDArray[Any]] = {
        "binary": (signal > 0.5).astype(int),
        "multiclass": np.digitize(signal, [-0.5, 1.0]),
        "value": signal,
        "count": np.round(np.exp(np.clip(signal, -2, 2))),
    }
    return kinds[kind]


def expected_margin(nodes: dict[str, Any], node: str, row: NDArray[Any], known: set[int]) -> float:
    """What a tree gives on average where only some features are known, by the training rows that took each branch.

    Algorithm 1 of Lundberg, Erion and Lee, Consistent Individualized Feature Attribution for Tree Ensembles, 2018.
    """
    at = nodes[node]
    if at["Feature"] == "Leaf":
        return float(at["Gain"])
    feature = int(at["Feature"][1:])
    if feature in known:
        value = row[feature]
        if np.isnan(value):
            follows = at["Missing"]
        elif isinstance(at["Category"], list):
            follows = at["No"] if str(int(value)) not in [str(one) for one in at["Category"]] else at["Yes"]
        else:
            follows = at["Yes"] if value < at["Split"] else at["No"]
        return expected_margin(nodes, follows, row, known)
    parts = [(nodes[child]["Cover"], expected_margin(nodes, child, row, known)) for child in (at["Yes"], at["No"])]
    return float(sum(cover * value for cover, value in parts) / sum(cover for cover, _ in parts))


def by_definition(booster: xgboost.Booster, row: NDArray[Any], groups: int) -> NDArray[np.float64]:
    """Shapley values of those expectations over all sets of features, (features, groups)."""
    typed = booster.copy()
    typed.feature_names, typed.feature_types = [f"f{at}" for at in range(FEATURES)], TYPES
    table = typed.trees_to_dataframe()
    found = np.zeros((FEATURES, groups))
    for tree, frame in table.groupby("Tree"):
        nodes = {str(record["ID"]): record for record in frame.to_dict("records")}
        for feature in range(FEATURES):
            others = [one for one in range(FEATURES) if one != feature]
            for size in range(FEATURES):
                weight = factorial(size) * factorial(FEATURES - size - 1) / factorial(FEATURES)
                for chosen in combinations(others, size):
                    without = expected_margin(nodes, f"{tree}-0", row, set(chosen))
                    found[feature, int(tree) % groups] += weight * (
                        expected_margin(nodes, f"{tree}-0", row, {*chosen, feature}) - without
                    )
    return found


@pytest.mark.parametrize(
    ("objective", "kind", "groups", "link"),
    [
        ("binary:logistic", "binary", 1, "logistic"),
        ("multi:softprob", "multiclass", 3, "softmax"),
        ("reg:squarederror", "value", 1, "identity"),
        ("count:poisson", "count", 1, "exponential"),
    ],
)
def test_contributions_are_those_of_the_published_algorithm(objective: str, kind: str, groups: int, link: str) -> None:
    booster = trained(objective, labels_of(kind), **({"num_class": groups} if groups > 1 else {}))
    explainer = TreeExplainer(booster, link, make_card(Task.REGRESSION))
    rows = training_rows()[:12]
    assert np.isnan(rows).any()
    found = explainer.explain(rows)
    assert found.method is ExplanationMethod.TREES
    assert found.contributions.shape == (12, FEATURES, groups)
    for row, contributions in zip(rows, found.contributions, strict=True):
        assert contributions == pytest.approx(by_definition(booster, row, groups), abs=2e-5)
    scores = booster.inplace_predict(rows).reshape(12, -1)
    assert LINKS[link](found.base + found.contributions.sum(axis=1)) == pytest.approx(scores, rel=1e-4, abs=1e-5)
    assert explainer.agrees(found, scores.astype(np.float64))
    assert not explainer.agrees(found, scores.astype(np.float64) + 0.01)


def test_contributions_without_categories_are_those_of_shap() -> None:
    shap = pytest.importorskip("shap")
    rows, labels = training_rows()[:, :3], labels_of("binary")
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(rows, labels), 8)
    found = TreeExplainer(booster, "logistic", make_card()).explain(rows[:20])
    explained = shap.TreeExplainer(booster)(rows[:20])
    assert found.contributions[:, :, 0] == pytest.approx(explained.values, abs=1e-5)
    assert found.base[0] == pytest.approx(np.ravel(explained.base_values)[0], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "scale", "link"),
    [
        ("customers", ExplanationScale.MARGIN, "logistic"),
        ("iris", ExplanationScale.MARGIN, "softmax"),
        ("diabetes", ExplanationScale.VALUE, ""),
        ("breast_cancer", ExplanationScale.MARGIN, "logistic"),
    ],
)
def test_contributions_add_up_to_what_the_engine_answers(
    dataset: str, scale: ExplanationScale, link: str, artefact_of: FindArtefact
) -> None:
    artefact = artefact_of(dataset, "v1")
    explainer = open_trees(artefact.folder, artefact.card)
    assert explainer is not None
    rows = likely_rows(artefact.card, 200)
    found = explainer.explain(rows)
    assert (found.scale, found.link) == (scale, link)
    scores = open_engine(artefact.folder, artefact.card, EngineChoice.XGBOOST).predict(rows).reshape(len(rows), -1)
    implied = LINKS[link or "identity"](found.explained)
    assert implied == pytest.approx(scores, rel=1e-4, abs=1e-5)
    assert found.base + found.contributions.sum(axis=1) == pytest.approx(found.explained, rel=1e-6)


def test_what_has_no_booster_has_no_trees_to_ask(artefact_of: FindArtefact) -> None:
    artefact = artefact_of("customers", "v2")
    assert open_trees(artefact.folder, artefact.card) is None


def test_a_booster_whose_scores_are_no_sum_behind_a_link_is_left_to_sampling(tmp_path: Path) -> None:
    rows = training_rows()[:, :2]
    matrix = xgboost.DMatrix(rows, labels_of("binary"))
    booster = xgboost.train({"objective": "binary:hinge", "nthread": 1}, matrix, 3)
    path = tmp_path / FileKind.UBJ.file_name
    booster.save_model(path)
    card = make_card(files={FileKind.UBJ: describe_file(path).model_dump()})
    assert open_trees(tmp_path, card) is None
