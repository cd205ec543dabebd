"""The request log: what is recorded, where, and how much of it is kept."""

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from configuration.credentials import check_credentials
from configuration.frozen import FrozenSettings


class SinkSettings(FrozenSettings):
    """Where files of the log are sent when they are ended; see `shokado.request_log.shipping`."""

    url: str | None = None
    """A receiver of CloudEvents (`https://host/path`), or an address of fsspec (`s3://bucket/folder`); None: they stay.
    `{model}` is the model's name."""
    key_file: str | None = None
    """A file with the key that a receiver of CloudEvents is shown as a bearer token, relative to the project."""
    timeout_s: float = Field(default=30, gt=0, le=3600)
    """Seconds that one batch, or one file, may take."""
    max_batch_bytes: int = Field(default=2**20, ge=2**10, le=2**28)
    """Size of one batch of CloudEvents; an event that is longer is alone in its own."""
    namespace: str = Field(default="default", pattern=r"^[\x21-\x7e]{1,63}$")
    """What CloudEvents call the namespace, as KServe's do."""

    @property
    def is_http(self) -> bool:
        """Whether the sink takes CloudEvents."""
        return self.url is not None and self.url.startswith(("http://", "https://"))

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if "@" in url:
            # Not repeated: whoever reads the log needs no password.
            raise ValueError("an address with credentials or @ in it; a key belongs into key_file")
        if not re.fullmatch(r"https?://[^/?#\s]+(/[^?#\s]*)?", url) and not re.fullmatch(
            r"(?!https?:)[a-z][a-z0-9+.-]*://[^?#\s]+", url
        ):
            raise ValueError(f"{url!r} is no address, such as https://events.example/ or s3://bucket/folder")
        return check_credentials(url)

    @model_validator(mode="after")
    def _a_key_is_for_events(self) -> Self:
        if self.key_file is not None and not self.is_http:
            raise ValueError("key_file is for http:// and https://; others take credentials from the environment")
        return self


class LogSettings(FrozenSettings):
    """What is recorded of requests; see `shokado.request_log`."""

    share: float = Field(default=0, ge=0, le=1)
    """Part of the requests whose rows are recorded, with their answers; 0: none."""
    drop: tuple[str, ...] = ()
    """Features whose values are left out."""
    hash: tuple[str, ...] = ()
    """Features of whose values only a keyed hash is recorded."""
    unit: Literal["plain", "hash", "drop"] = "plain"
    """What is recorded of the unit that a request sticks to."""
    key_file: str | None = None
    """The 32 bytes that are the key; None: the folder has a key of its own."""
    show_values: bool = False
    """Whether `GET /v1/log` tells the values of rows, and the units."""
    folder: str = "var/request-log/{model}"
    """Relative to the project."""
    flush_s: float = Field(default=1, ge=0.01, le=3600)
    """How often records are written: so much of them is lost at most when a process is killed."""
    segment_bytes: int = Field(default=16 * 2**20, ge=4096, le=2**30)
    segment_s: float = Field(default=600, ge=1, le=86_400)
    """Size and age at which a file is ended and another one begun."""
    max_bytes: int = Field(default=2**30, ge=2**20)
    max_age_hours: float = Field(default=168, gt=0, le=87_600)
    """Size of all files together, and their age, beyond which the oldest ones are removed."""
    max_waiting_bytes: int = Field(default=8 * 2**20, ge=2**16, le=2**30)
    """Memory of one worker for what is not written yet; records beyond it are dropped."""
    sink: SinkSettings = SinkSettings()

    @model_validator(mode="after")
    def _masks_once(self) -> Self:
        if both := sorted({*self.drop} & {*self.hash}):
            raise ValueError(f"drop and hash both name {', '.join(both)}")
        return self
