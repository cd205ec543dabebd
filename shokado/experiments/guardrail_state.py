"""Guardrail states, apart from the tests that find them: a command that is told of one loads no numerical library."""

from enum import StrEnum


class GuardrailState(StrEnum):
    """What is to be said of one guardrail."""

    BROKEN = "broken"
    """The candidate is beyond it for sure."""
    BEYOND = "beyond"
    """It was observed beyond it, which may be chance."""
    UNKNOWN = "unknown"
    """It was not, which may be chance as well; or nothing was observed."""
    KEPT = "kept"
    """The candidate is within it for sure."""
