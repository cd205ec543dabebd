"""Profiles: how many requests are sent when, by which users, and what must hold. Data, in `profiles.yaml`.

In: a YAML file, name to profile. Out: a frozen `Profile`, or a `ProfileError` whose message says what is wrong.
"""

from collections.abc import Sequence
from enum import StrEnum
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

PROFILES = Path(__file__).parent.parent / "profiles.yaml"

Share = Annotated[float, Field(ge=0, le=1)]


class ProfileError(Exception):
    """There is no such profile, or it cannot be read."""


class Kind(StrEnum):
    """What a user does; see `load_tests/locustfile.py`."""

    SINGLE = "single"
    BATCH = "batch"
    STICKY = "sticky"
    OPEN_INFERENCE = "open_inference"


class Stickiness(StrEnum):
    """When a unit must keep its version within a generation."""

    AS_PROMISED = "as_promised"
    """Units stick where the generation's strategy is `hash`."""
    ALWAYS = "always"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Stage(_Frozen):
    """A part of a run, in which requests arrive at `rate` a second, or at a rate that moves from there to `to`."""

    seconds: float = Field(gt=0)
    rate: float = Field(ge=0)
    to: float | None = Field(default=None, ge=0)


class Thresholds(_Frozen):
    """What must hold of a run."""

    p99_ms: float = Field(gt=0)
    """Limit of accepted requests' p99, from when they were due to when their answer was here."""
    error_rate: Share = 0
    """Limit of errors in all requests. Wrong answers are errors; refusals with `Retry-After` are not."""
    refusal_rate: Share = 0
    """Limit of 429 and 503 with `Retry-After` in all requests."""
    fallback_rate: Share = 0
    """Answers by the active version because the one that the split chose was not ready, of those that tell why."""
    stickiness: Stickiness = Stickiness.AS_PROMISED


class Profile(_Frozen):
    """A run: its stages, its users, and what must hold."""

    about: str
    stages: tuple[Stage, ...] = Field(min_length=1)
    users: dict[Kind, Annotated[float, Field(gt=0)]] = Field(min_length=1)
    """How the requests are shared out among the kinds of users."""
    user_rate: float = Field(default=5, gt=0)
    """Requests a second of one user, on average."""
    batch_rows: int = Field(default=100, ge=1)
    units: int = Field(default=1000, ge=1)
    """How many different ones the sticky users are."""
    thresholds: Thresholds

    @cached_property
    def ends(self) -> Sequence[float]:
        """When each stage ends, in seconds from the start."""
        return tuple(accumulate(stage.seconds for stage in self.stages))

    def stage_at(self, seconds: float) -> int:
        """Index of the stage at that time after the start; the last one's when all are over."""
        return next((index for index, end in enumerate(self.ends) if seconds < end), len(self.stages) - 1)

    def rate_at(self, seconds: float) -> float | None:
        """Requests a second at that time after the start; None when all stages are over."""
        if seconds >= self.ends[-1]:
            return None
        index = self.stage_at(seconds)
        stage = self.stages[index]
        if stage.to is None:
            return stage.rate
        passed = (seconds - (self.ends[index] - stage.seconds)) / stage.seconds
        return stage.rate + (stage.to - stage.rate) * passed

    def users_at(self, seconds: float) -> int | None:
        """How many users make that rate; None when all stages are over."""
        rate = self.rate_at(seconds)
        return None if rate is None else round(rate / self.user_rate)


def load_profile(name: str, path: Path = PROFILES) -> Profile:
    """The profile of that name. Raises `ProfileError`."""
    try:
        found: Any = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ProfileError(f"{path} has no profiles: it must map names to them")
    if name not in found:
        raise ProfileError(f"there is no profile {name!r}; there are {', '.join(map(str, found))}")
    try:
        return Profile.model_validate(found[name])
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ProfileError(f"profile {name!r}: {faults}") from error
