"""What all sections of the settings are: values that nobody changes, whose unknown keys are errors."""

from pydantic import BaseModel, ConfigDict


class FrozenSettings(BaseModel):
    """A section, or a part of one."""

    model_config = ConfigDict(frozen=True, extra="forbid")
