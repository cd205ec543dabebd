"""Retraining: what is called, or started, when a version has drifted or failed a guardrail."""

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from configuration.credentials import check_credentials
from configuration.frozen import FrozenSettings

Cause = Literal["drift", "guardrail"]


class RetrainingSettings(FrozenSettings):
    """What retraining is asked for by; see `shokado.retraining`. Without `webhook` and `command` nobody is asked."""

    webhook: str | None = None
    """An address that events are posted to as JSON, such as https://ci.example/retrain."""
    key_file: str | None = None
    """A file with the secret that signs them, as of Standard Webhooks: `whsec_` and base64, or at least 24 bytes as
    they are. Relative to the project.
    """
    command: tuple[str, ...] = ()
    """In place of a webhook, a program and its arguments that are started on this machine, such as
    `[mlflow, run, projects/churn]`; it reads the event as JSON from its standard input.
    """
    causes: tuple[Cause, ...] = Field(default=("drift", "guardrail"), min_length=1)
    drift_window: Literal["hour", "day"] = "day"
    """The window in which a version must have drifted."""
    drift_hold_s: float = Field(default=900, ge=0, le=86_400)
    """How long it must have had that verdict without a break, as the worker that leads sees it."""
    look_every_s: float = Field(default=60, ge=0.1, le=3600)
    """How often is looked for causes."""
    min_interval_s: float = Field(default=3600, ge=0, le=604_800)
    """How far the beginnings of two events are apart at least; a cause that still holds then has its turn."""
    timeout_s: float | None = Field(default=None, gt=0, le=604_800)
    """How long a call may take: 30 seconds of a webhook, and 6 hours of a command, where nothing is said."""
    max_attempts: int = Field(default=5, ge=1, le=20)
    """How many failures make an event one that has failed for good."""
    retry_s: float = Field(default=30, ge=0.01, le=3600)
    """Rest after the first failure; each further one is three times as long, an hour at most."""

    @property
    def enabled(self) -> bool:
        return self.webhook is not None or bool(self.command)

    @property
    def timeout(self) -> float:
        """Seconds."""
        if self.timeout_s is not None:
            return self.timeout_s
        return 6 * 3600.0 if self.command else 30.0

    @field_validator("webhook")
    @classmethod
    def _is_an_address(cls, webhook: str | None) -> str | None:
        if webhook is None:
            return None
        if "@" in webhook:
            # Not repeated: whoever reads the log needs no password.
            raise ValueError("an address with credentials or @ in it; sign events with key_file")
        if not re.fullmatch(r"https?://[^/?#\s]+(/[^#\s]*)?", webhook):
            raise ValueError("no address, such as https://ci.example/retrain")
        return check_credentials(webhook)

    @field_validator("command")
    @classmethod
    def _names_a_program(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        if command and (not command[0] or any("\0" in part for part in command)):
            raise ValueError("a command begins with a program, and holds no NUL")
        return command

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.webhook is not None and self.command:
            raise ValueError("webhook and command: give one of both")
        if self.key_file is not None and self.webhook is None:
            raise ValueError("key_file signs what is posted to webhook, and there is none")
        return self
