"""The policy of a canary: what is written is what is meant, and what is wrong is named."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from configuration.canary_policy import DEFAULT_FILE, CanaryPolicy, load_policy
from configuration.settings import SettingsError


def test_the_file_says_the_defaults() -> None:
    assert load_policy() == CanaryPolicy()
    assert yaml.safe_load(DEFAULT_FILE.read_bytes()).keys() == CanaryPolicy.model_fields.keys()


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").touch()
    assert load_policy(tmp_path / "policy.yaml") == CanaryPolicy()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("max_eror_rate: 0.1", "max_eror_rate: unknown key; did you mean max_error_rate?"),
        ("min_requests: 0", "min_requests: "),
        ("max_error_rate: 2", "max_error_rate: "),
        ("steps: [10, 50]", "steps are [10.0, 50.0]; they ascend from above 0 to 100"),
        ("steps: [50, 10, 100]", "they ascend"),
        ("steps: [10, 10, 100]", "they ascend"),
        ("steps: [0, 100]", "they ascend"),
        ("steps: []", "steps: "),
        ("{min_seconds: 10, max_seconds: 5}", "max_seconds is 5.0, below min_seconds"),
        ("{steps: [100], experiment: {metric: latency, smallest_effect: 5}}", "which leaves nothing to compare"),
        ("experiment: {metric: latency}", "experiment.smallest_effect: "),
        ("experiment: {smallest_efect: 1}", "experiment.smallest_efect: unknown key"),
        ("experiment: {metric: latency, smallest_effect: 5, at_end: promote}", "experiment.at_end: "),
        (
            "experiment: {metric: reward, smallest_effect: 1, label_delay_s: 5400}",
            "none would count for reward within max_duration_s, which is 5400",
        ),
        ("experiment: {metric: reward, smallest_effect: 1, max_duration_s: 500}", "label_delay_s is 600, and no label"),
        ("- 1", "policy: "),
        ("a: [", "not readable as YAML"),
    ],
)
def test_what_is_wrong_is_named(content: str, named: str, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(content)
    with pytest.raises(SettingsError) as caught:
        load_policy(file)
    assert named in str(caught.value)
    assert str(file) in str(caught.value)


def test_without_an_experiment_the_limits_are_all_there_is(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("{steps: [100], experiment: null}")
    assert load_policy(file) == CanaryPolicy(steps=(100,), experiment=None)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml"):
        load_policy(tmp_path / "none.yaml")


def test_a_policy_does_not_change() -> None:
    with pytest.raises(ValidationError):
        CanaryPolicy().min_requests = 1


def test_steps_follow_one_another_from_any_share() -> None:
    policy = CanaryPolicy(steps=(5, 25, 100))
    assert [policy.step_after(percent) for percent in (0, 5, 10, 25, 99.9, 100)] == [5, 25, 25, 100, 100, None]
