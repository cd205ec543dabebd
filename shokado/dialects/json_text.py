"""JSON as clients write it: how much a text holds, and what is wrong with one that a strict decoder refuses.

Both are for texts that nothing is known of: neither takes more than a small multiple of a text's size, nor more than
linear time.
"""

import json
import math
from collections.abc import Callable
from typing import Any

from runners.inputs.wording import is_unicode, legible
from shokado.dialects.problem import Problem, invalid, malformed

LONG_BYTES = 2**18
"""Length from which on a text's extent is looked at before it is decoded: a decoder makes up to thirty bytes of one."""
_MAX_INTEGER_DIGITS = 400
"""More digits than any float has; and Python takes quadratic time for digits, or refuses them."""
_NO_MARKS = bytes(set(range(256)) - set(b'",[{'))
_NESTING = "nested too deeply"

_Pairs = Callable[[list[tuple[str, Any]]], Any]


def exceeds(text: bytes, values: int, lists: int) -> bool:
    """Whether a text has more commas, or more lists and objects, than these; what strings hold does not count."""
    if _is_within(text, values, lists):
        return False
    # With the escaped quotes gone, every second part between quotes lies within a string. Two quotes with no mark
    # between them change nothing for what follows; without them there are few parts.
    marks = text.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NO_MARKS).replace(b'""', b"")
    if marks.count(b'"') > 2 * (values + lists):
        return True
    return not _is_within(b"".join(marks.split(b'"')[::2]), values, lists)


def _is_within(text: bytes, values: int, lists: int) -> bool:
    return text.count(b",") <= values and text.count(b"[") + text.count(b"{") <= lists


def read_leniently(text: bytes, pairs: _Pairs | None = None) -> Any:
    """The content, with NaN and infinity, which JSON has not, so that they can be named. Raises `Problem` (400).

    `pairs` makes an object of its names and values.
    """
    try:
        return json.loads(text.decode(), object_pairs_hook=pairs, parse_int=_integer)
    except RecursionError:
        raise malformed(_NESTING) from None
    except ValueError as error:
        raise malformed(f"the body is not JSON: {error}" if text else "the body is empty") from None


def _integer(digits: str) -> int | float:
    if len(digits) <= _MAX_INTEGER_DIGITS:
        return int(digits)
    number = float(digits)
    return number if math.isinf(number) else int(number)


def refuse_half_characters(text: bytes, content: Any) -> None:
    """Raise `Problem` (422) that names the first text in the content which is no Unicode.

    JSON can spell half a surrogate pair, which is no character, and which no UTF-8, store or answer can say.
    """
    if b"\\u" not in text:
        return
    found = _path_to(content, lambda value: isinstance(value, str) and not is_unicode(value))
    if found is not None:
        where = ".".join(found) or "the body"
        message = f"{where}: the text holds half a surrogate pair, which is no character"
        raise invalid("not_unicode", message, field=where)


def refuse_endless_numbers(content: Any) -> None:
    """Raise `Problem` (400) that names the first number in the content which is NaN, or infinite as a float64."""
    found = _path_to(content, lambda value: isinstance(value, float) and not math.isfinite(value))
    if found is not None:
        raise malformed(f"{'.'.join(found) or 'the body'}: the number is NaN or infinite, which JSON has not")


def _path_to(content: Any, is_bad: Callable[[Any], bool]) -> list[str] | None:
    """The names and indices that lead to the first bad value, or bad name. Raises `Problem` (400)."""
    try:
        return _path(content, is_bad)
    except RecursionError:
        raise malformed(_NESTING) from None


def _path(content: Any, is_bad: Callable[[Any], bool]) -> list[str] | None:
    match content:
        case dict():
            for name, value in content.items():
                if is_bad(name):
                    return [legible(name)]
                if (path := _path(value, is_bad)) is not None:
                    return [legible(name), *path]
        case list():
            for index, value in enumerate(content):
                if (path := _path(value, is_bad)) is not None:
                    return [str(index), *path]
        case _ if is_bad(content):
            return []
    return None


def refusal(text: bytes, error: Exception) -> Problem:
    """Why a strict decoder refused a body: `error` is what it raised."""
    if not text:
        return malformed("the body is empty")
    try:
        content = read_leniently(text)
    except Problem:
        return malformed(_NESTING if isinstance(error, RecursionError) else str(error))
    try:
        refuse_half_characters(text, content)
        refuse_endless_numbers(content)
    except Problem as problem:
        return problem
    return malformed(str(error))
