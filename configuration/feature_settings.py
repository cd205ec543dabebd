"""Features by entity: where they are looked up, how long that may take, and what becomes of those that are missing."""

import re
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from configuration.frozen import FrozenSettings
from configuration.port import check_port

EntityName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
"""What a join key of Feast, or a value that is transformed, may be called."""
FeatureValue = bool | int | float | str


class EntityType(StrEnum):
    """What an entity's value in a request must be."""

    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    BOOLEAN = "boolean"


class WhenMissing(StrEnum):
    """What becomes of a row whose feature cannot be had."""

    REFUSE = "refuse"
    """It is answered with 424, which names the entity and the feature."""
    DEFAULT = "default"
    """The feature has its configured default, or is null where it may be missing; else the row is refused as well."""


class FeatureSettings(FrozenSettings):
    """The features that a transformer, `shokado features serve`, knows of the entities that requests name."""

    url: str | None = None
    """The transformer's address, http://host:port or unix:/path/of.sock; None: no features are looked up."""
    entities: dict[EntityName, EntityType] = Field(default_factory=dict)
    """What requests may name in `entities`, and of which type: join keys of Feast, and values that it transforms."""
    unit: EntityName | None = None
    """The entity that sticky assignment sticks to where a request names no unit."""
    when_missing: WhenMissing = WhenMissing.REFUSE
    """What becomes of features that the store does not have of an entity, or that are older than they may be."""
    when_unavailable: WhenMissing = WhenMissing.REFUSE
    """What becomes of features that could not be looked up in time, or at all."""
    defaults: dict[str, FeatureValue | None] = Field(default_factory=dict)
    """Values of features that are missing, by name, as requests would have them; None is null."""
    timeout_ms: float = Field(default=50, ge=1, le=60_000)
    """How long a row waits for its features, if its request's deadline leaves as much."""
    connect_ms: float = Field(default=50, ge=1, le=60_000)
    """Time to make a connection."""
    connections: int = Field(default=2, ge=1, le=64)
    """Batches that each worker may have under way at once."""
    max_batch_entities: int = Field(default=256, ge=1, le=10_000)
    """Entities of one batch."""
    max_waiting_entities: int = Field(default=10_000, ge=1, le=1_000_000)
    """Entities that may wait in one worker; beyond them a request is refused."""
    cache_ttl_s: float = Field(default=5, ge=0, le=86_400)
    """Seconds that an entity's features are remembered, if none of them is older than it may be; 0: not at all."""
    cache_entities: int = Field(default=10_000, ge=1, le=10_000_000)
    """Entities that each worker remembers."""
    eject_after_failures: int = Field(default=5, ge=1, le=1000)
    """Failed batches in a row after which the transformer is left alone for a while, and nobody waits for it."""
    eject_for_s: float = Field(default=1, gt=0, le=300)
    """How long; then one batch is tried, and if that fails as well, it is left alone again."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str | None) -> str | None:
        if url is None or re.fullmatch(r"unix:/[^?#\s]+", url):
            return url
        if "@" in url:
            # Not repeated: whoever reads the log needs no password.
            raise ValueError("an address with credentials or @ in it; the transformer takes none")
        if not re.fullmatch(r"https?://[^/?#\s]+/?", url):
            examples = "http://127.0.0.1:6570 or unix:/run/features.sock"
            raise ValueError(f"{url!r} is no address of a transformer, such as {examples}")
        return check_port(url.rstrip("/"))

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.url is not None and not self.entities:
            raise ValueError("url is set, so entities must say what requests may name, such as {customer_id: integer}")
        if self.unit is not None and self.unit not in self.entities:
            raise ValueError(f"unit is {self.unit}, which is none of the entities")
        return self
