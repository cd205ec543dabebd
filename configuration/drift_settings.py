"""Drift: whether rows are counted, how many, and what is said of them."""

from pydantic import Field

from configuration.frozen import FrozenSettings


class DriftSettings(FrozenSettings):
    """How served rows are compared with what a version was made of; see `shokado.drift`."""

    enabled: bool = True
    """Whether rows are counted at all."""
    flush_s: float = Field(default=5, ge=0.01, le=300)
    """How often a worker adds its counts to the store: so much of them is lost at most when it is killed."""
    rows_per_flush: int = Field(default=1000, ge=1, le=100_000)
    """Rows of each version that a worker counts between two flushes; of more, so many are drawn."""
    max_features: int = Field(default=100, ge=1, le=1000)
    """Features of each version that are watched: the first ones."""
    threshold: float = Field(default=0.1, gt=0, le=100)
    """The population stability index beyond which a column has drifted."""
    error_rate: float = Field(default=0.01, ge=1e-6, le=0.2)
    """The chance at most that any column of a version is said to have drifted in a window when none has."""
