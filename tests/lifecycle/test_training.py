"""What training leaves in the registry, and that both models have learnt something without being perfect."""

from pathlib import Path

import pytest

from shokado.lifecycle import datasets
from shokado.lifecycle.importing import registry
from shokado.lifecycle.importing.version import Imported

FLOORS = {
    "customers": {"auc": 0.84, "accuracy": 0.80},
    "iris": {"auc": 0.97, "accuracy": 0.93},
    "breast_cancer": {"auc": 0.98, "accuracy": 0.92},
    "diabetes": {"r2": 0.38},
    "spam": {"auc": 0.90, "accuracy": 0.86},
}


@pytest.mark.parametrize("label", ["v1", "v2"])
@pytest.mark.parametrize("name", datasets.NAMES)
def test_models_have_learnt(name: str, label: str, prepared: dict[str, Imported]) -> None:
    metrics = prepared[f"{name}:{label}"].artefact.card.metrics
    for metric, floor in FLOORS[name].items():
        assert metrics[metric] >= floor


@pytest.mark.parametrize("label", ["v1", "v2"])
def test_customers_leave_room_for_a_better_model(label: str, prepared: dict[str, Imported]) -> None:
    assert prepared[f"customers:{label}"].artefact.card.metrics["auc"] < 0.89


def test_the_second_spam_filter_sees_more_and_neither_sees_all(prepared: dict[str, Imported]) -> None:
    first, second = (prepared[f"spam:{label}"].artefact.card.metrics for label in ("v1", "v2"))
    assert first["auc"] + 0.02 < second["auc"] < 0.99
    assert second["accuracy"] < 0.95


@pytest.mark.parametrize(("label", "number", "alias"), [("v1", 1, "champion"), ("v2", 2, "challenger")])
def test_the_registry_says_what_each_version_is(
    label: str, number: int, alias: str, prepared: dict[str, Imported]
) -> None:
    with registry.session() as client:
        version = client.get_model_version_by_alias("customers", alias)
        assert int(version.version) == number
        assert version.tags["shokado.version"] == label
        assert version.tags["dataset"] == "customers"
        run = client.get_run(str(version.run_id))
    assert run.data.params["train_rows"] == "16000"
    assert set(run.data.metrics) == {"accuracy", "auc", "log_loss"}


def test_the_model_carries_named_columns_and_an_example(prepared: dict[str, Imported], tmp_path: Path) -> None:
    with registry.session() as client:
        loaded = registry.fetch(client, "models:/customers/1", tmp_path)
    assert loaded.signature is not None
    assert tuple(loaded.signature.inputs.input_names()) == datasets.load("customers").feature_names
    assert loaded.example.shape == (5, 10)
