"""Faults of input: why rows cannot be taken, as values.

No protocol is known here: `shokado.dialects.error_codes` gives each code its statuses.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class InputFault(Exception):
    """Rows that the model cannot be given: a code for programs, a message for people, and where the fault is."""

    code: str
    message: str
    row: int | None = None
    feature: str | None = None
    beside: dict[str, Any] = field(default_factory=dict)
    """Further particulars, such as a limit."""

    @property
    def detail(self) -> dict[str, Any]:
        """The particulars by name, as clients are told them."""
        where = {"row": self.row, "feature": self.feature}
        return {name: value for name, value in where.items() if value is not None} | self.beside


def too_many_rows(rows: int | str, limit: int) -> InputFault:
    """The fault of a request that has more rows than `limit`."""
    message = f"{rows} rows in one request; at most {limit} are allowed"
    return InputFault("too_many_rows", message, beside={"limit": limit})
