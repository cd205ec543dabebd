"""The unit of a request: what sticky assignment sticks to, as bodies name it."""

from shokado.dialects.head import MAX_UNIT_CHARACTERS
from shokado.dialects.problem import invalid

Unit = str | int | None


def unit_of(unit: Unit, user_id: Unit, request_id: Unit) -> str:
    """The first of a body's fields that names one, else nothing. Raises `Problem` when it is too long."""
    if unit.__class__ is str and 0 < len(unit) <= MAX_UNIT_CHARACTERS:
        return unit  # the usual case, at a tenth of the price
    if unit is user_id is request_id is None:
        return ""
    return _first_of(unit, user_id, request_id)


def _first_of(*named: Unit) -> str:
    for unit in named:
        if unit is not None and unit != "":
            text = str(unit)
            if len(text) > MAX_UNIT_CHARACTERS:
                message = f"the unit has {len(text)} characters; at most {MAX_UNIT_CHARACTERS} are allowed"
                raise invalid("unit_too_long", message, limit=MAX_UNIT_CHARACTERS)
            return text
    return ""
