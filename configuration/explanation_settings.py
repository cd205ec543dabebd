"""What explanations of predictions may cost; see `docs/explanations.md`."""

from pydantic import Field

from configuration.frozen import FrozenSettings


class ExplanationSettings(FrozenSettings):
    """How much is explained, and with how much of a worker's time."""

    share: float = Field(default=0.1, ge=0, le=1)
    """Part of each worker's time that explanations may take; 0: nothing is explained."""
    max_rows: int = Field(default=20, ge=1, le=1000)
    """Rows of one request."""
    max_scored_rows: int = Field(default=4000, ge=100, le=20_000)
    """Rows that the model scores to explain one, where its trees are not asked themselves."""
    max_queue_requests: int = Field(default=8, ge=1, le=1000)
    """Requests that may wait for their explanation in one worker."""
    keep_rows: bool = True
    """Whether an import that a load begins keeps rows of the data to explain by."""
