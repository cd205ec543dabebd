"""The plan of an experiment refuses what would count nothing."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from configuration.experiment_plan import ExperimentPlan, load_plan
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
