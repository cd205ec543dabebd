"""What the control routes answer with."""

from pydantic import BaseModel, Field

from runners.card import Feature, Source, Task


class Signature(BaseModel):
    """What a version takes and gives."""

    task: Task
    features: list[Feature]
    classes: list[int | str]


class Version(BaseModel):
    """One version as this server has it."""

    version: str
    model: str
    state: str = Field(description="new, starting, ready, draining, closed or failed")
    failure: str | None = Field(default=None, description="Why it failed, when it did.")
    engine: str
    placement: str
    aliases: list[str]
    source: Source
    size_bytes: int
    signature: Signature
    metrics: dict[str, float] = Field(description="Measured on held-out rows when it was trained.")
    max_abs_difference: dict[str, float] = Field(description="Per model file, from the framework's own scores.")
    weights: dict[str, float] = Field(description="Share of each environment's traffic, between 0 and 1.")


class Versions(BaseModel):
    """All versions and the generation of the routing they were read at."""

    generation: int
    versions: list[Version]


class Health(BaseModel):
    """Whether the server can answer, and each version's state."""

    status: str = Field(description="ok or unavailable")
    versions: dict[str, str]
    generation: int


class Index(BaseModel):
    """Where things are."""

    name: str
    model: str
    version: str
    links: dict[str, str]


class ErrorBody(BaseModel):
    """A code for programs, a message for people, and particulars."""

    code: str
    message: str
    detail: dict[str, object] | None = None


class Error(BaseModel):
    """Every error of every route."""

    error: ErrorBody
    request_id: str
