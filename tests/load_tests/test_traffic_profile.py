"""Profiles: those that come along, and what is said of others."""

from pathlib import Path

import pytest
import yaml

from load_tests.traffic.profile import PROFILES, Profile, ProfileError, load_profile

SMALL = {"about": "x", "stages": [{"seconds": 1, "rate": 5}], "users": {"single": 1}, "thresholds": {"p99_ms": 100}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "profiles.yaml"


@pytest.mark.parametrize("name", ["smoke", "ramp", "step", "spike", "soak"])
def test_the_profiles_that_come_along_can_be_run(name: str) -> None:
    profile = load_profile(name)

    assert name in yaml.safe_load(PROFILES.read_text())
    assert profile.users_at(0)
    assert profile.users_at(profile.ends[-1]) is None


def test_a_rate_stays_or_moves_and_then_is_over() -> None:
    stages = [{"seconds": 10, "rate": 20}, {"seconds": 20, "rate": 20, "to": 100}, {"seconds": 5, "rate": 0}]
    profile = Profile.model_validate({**SMALL, "stages": stages, "user_rate": 4})

    assert [profile.rate_at(at) for at in (0, 9.9, 10, 20, 25, 30, 34.9, 35)] == [20, 20, 20, 60, 80, 0, 0, None]
    assert [profile.users_at(at) for at in (0, 20, 30, 35)] == [5, 15, 0, None]
    assert [profile.stage_at(at) for at in (0, 10, 29.9, 30, 99)] == [0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stages": []}, "stages"),
        ({"users": {"nobody": 1}}, "nobody"),
        ({"users": {"single": 0}}, "users.single"),
        ({"thresholds": {"p99_ms": 100, "p98_ms": 1}}, "thresholds.p98_ms"),
        ({"thresholds": {"p99_ms": 100, "error_rate": 2}}, "thresholds.error_rate"),
        ({"shape": "spike"}, "shape"),
    ],
)
def test_what_is_wrong_with_a_profile_is_named(file: Path, change: dict[str, object], words: str) -> None:
    file.write_text(yaml.safe_dump({"mine": {**SMALL, **change}}))

    with pytest.raises(ProfileError, match=words):
        load_profile("mine", file)


def test_a_profile_that_is_not_there_is_named_with_those_that_are(file: Path) -> None:
    file.write_text(yaml.safe_dump({"mine": SMALL, "yours": SMALL}))

    assert load_profile("mine", file).about == "x"
    with pytest.raises(ProfileError, match="no profile 'other'; there are mine, yours"):
        load_profile("other", file)
    file.write_text("- a list")
    with pytest.raises(ProfileError, match="must map names"):
        load_profile("mine", file)
    with pytest.raises(ProfileError, match="cannot be read"):
        load_profile("mine", file / "nowhere")
