"""The plan of an experiment refuses what would count nothing."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from configuration.experiment_plan import ExperimentPlan, load_plan
from configuration.experiment_policy import STORED
from configuration.settings import SettingsError

NEVER = "label_delay_s is 0, within which no label or reward comes, and none would count for {}: set it to the seconds"


@pytest.mark.parametrize(
    ("policy", "late"),
    [
        ({"metric": "reward"}, "reward"),
        ({"metric": "squared_error"}, "squared_error"),
        ({"metric": "latency", "guardrails": [{"metric": "accuracy", "margin": 0.1}]}, "accuracy"),
        ({"metric": "reward", "guardrails": [{"metric": "accuracy", "margin": 0.1}]}, "reward, accuracy"),
    ],
)
def test_labels_that_have_no_time_to_come_are_refused(policy: dict[str, Any], late: str) -> None:
    with pytest.raises(ValidationError, match=NEVER.format(late)):
        ExperimentPlan.model_validate({**policy, "smallest_effect": 0.1, "label_delay_s": 0})
    assert ExperimentPlan.model_validate({**policy, "smallest_effect": 0.1, "label_delay_s": 1}).label_delay_s == 1


@pytest.mark.parametrize("given", [{"max_duration_s": 86_400}, {"max_duration_s": 100, "label_delay_s": 100}])
@pytest.mark.parametrize("rails", [(), ({"metric": "accuracy", "margin": 0.1},)])
def test_labels_that_count_after_the_end_are_refused(given: dict[str, Any], rails: tuple[dict[str, Any], ...]) -> None:
    plan = {"metric": "latency" if rails else "reward", "smallest_effect": 0.1, "guardrails": rails, **given}
    what = "accuracy" if rails else "reward"
    with pytest.raises(ValidationError, match=f"none would count for {what} within max_duration_s, which is"):
        ExperimentPlan.model_validate(plan)
    assert ExperimentPlan.model_validate(plan, context=STORED).max_duration_s == given["max_duration_s"]
    plan["guardrails"], plan["metric"] = (), "latency"
    assert ExperimentPlan.model_validate(plan).max_duration_s == given["max_duration_s"]


def test_what_waits_for_no_labels_may_give_them_no_time() -> None:
    plan = {"metric": "latency", "smallest_effect": 1, "guardrails": [{"metric": "error_rate", "limit": 0.1}]}
    assert ExperimentPlan.model_validate({**plan, "label_delay_s": 0}).label_delay_s == 0


def test_what_else_is_wrong_is_said_as_well() -> None:
    with pytest.raises(ValidationError) as refused:
        ExperimentPlan.model_validate({"metric": "luck", "smallest_effect": 0, "guardrails": [{}], "label_delay_s": 0})
    assert {error["loc"][0] for error in refused.value.errors()} == {"metric", "smallest_effect", "guardrails"}


def test_a_file_is_refused_by_the_same_words(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("metric: reward\nsmallest_effect: 0.1\nlabel_delay_s: 0\n")
    with pytest.raises(SettingsError, match="label_delay_s: " + NEVER.format("reward")):
        load_plan(path)


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ({"name": "checkout", "from": 0.5, "to": 0.5}, "from is 0.5 and to is 0.5: nobody is inside"),
        ({"name": "checkout", "from": 0.6, "to": 0.5}, "nobody is inside unless from is below to"),
        ({"name": "checkout", "from": -0.1, "to": 0.5}, "layer.from: Input should be greater than or equal to 0"),
        ({"name": "checkout", "from": 0, "to": 1.1}, "layer.to: Input should be less than or equal to 1"),
        ({"name": "checkout", "from": 0, "to": ".nan"}, "layer.to: Input should be"),
        ({"name": "checkout", "to": 0.5}, "layer.from: Field required"),
        ({"name": "Check out", "from": 0, "to": 0.5}, "layer.name: String should match pattern"),
        ({"name": "checkout", "from": 0, "to": 0.5, "salt": "x"}, "layer.salt: unknown key"),
        ({"name": "checkout", "start": 0, "to": 0.5}, "layer.start: unknown key"),
    ],
)
def test_a_part_of_a_layer_without_anybody_in_it_is_refused(tmp_path: Path, layer: dict[str, Any], says: str) -> None:
    path = tmp_path / "plan.yaml"
    inside = ", ".join(f"{name}: {value}" for name, value in layer.items())
    path.write_text(f"metric: reward\nsmallest_effect: 0.1\nlayer: {{{inside}}}\n")
    with pytest.raises(SettingsError) as refused:
        load_plan(path)
    assert says in str(refused.value)


def test_a_part_of_a_layer_is_written_as_it_is_read() -> None:
    content = {"name": "checkout", "from": 0.0, "to": 0.5}
    plan = ExperimentPlan.model_validate({"metric": "latency", "smallest_effect": 1, "layer": content})
    assert plan.model_dump(mode="json")["layer"] == content
    assert ExperimentPlan.model_validate(plan.model_dump(mode="json")) == plan


@pytest.mark.parametrize("metric", ["accuracy", "reward", "error_rate", "slow_share"])
def test_an_effect_that_no_two_shares_have_is_refused_unless_it_was_begun_with(metric: str) -> None:
    """Versions of which nothing was seen would be equivalent."""
    plan = {"metric": metric, "smallest_effect": 1}
    with pytest.raises(ValidationError, match=r"smallest_effect\n.*must be below 1"):
        ExperimentPlan.model_validate(plan)
    assert ExperimentPlan.model_validate(plan, context=STORED).smallest_effect == 1
    assert ExperimentPlan.model_validate(plan | {"metric": "latency"}).smallest_effect == 1
