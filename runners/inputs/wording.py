"""Values and names of JSON in a client's words, as explanations repeat them."""

import math
from typing import Any


def kind_of(value: Any) -> str:
    """What a JSON value is, in a client's words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case "":
            return "an empty text"
        case str():
            return f"the text {value[:40]!r}"
        case list():
            return "a list"
        case dict():
            return "an object"
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "infinity"
        case _:
            return f"the number {value}"


def legible(name: str) -> str:
    """As much of a name as an answer repeats, in characters that it can spell."""
    return name[:100].encode(errors="replace").decode()


def is_unicode(text: str) -> bool:
    """Whether it holds no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
