"""The unit of a request: what sticky assignment sticks to, as bodies name it."""

from protocols.head import MAX_UNIT_LETTERS
from protocols.problem import invalid

Unit = str | int | None


def unit_of(*named: Unit) -> str:
    """The first of a body's fields that names one, else nothing. Raises `Problem` when it is too long."""
    for unit in named:
        if unit is not None and unit != "":
            text = str(unit)
            if len(text) > MAX_UNIT_LETTERS:
                message = f"the unit has {len(text)} letters; at most {MAX_UNIT_LETTERS} are allowed"
                raise invalid("unit_too_long", message, limit=MAX_UNIT_LETTERS)
            return text
    return ""
