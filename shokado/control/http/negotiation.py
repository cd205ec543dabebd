"""Content negotiation. In: what a request's `Accept` says. Out: which of the types on offer is sent."""

import re

_QUALITY = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?").fullmatch


def preferred(accept: str, *offered: str) -> str:
    """The offered media type that the client prefers; of those it likes as much as each other, the first.

    So is it when the client would take none of them. Parameters other than `q` are ignored, and so are ranges whose
    `q` is no quality. Source: RFC 9110, sections 12.4.2 and 12.5.1.
    """
    qualities = _qualities(accept)
    return max(offered, key=lambda media_type: _quality_of(media_type, qualities))


def _qualities(accept: str) -> dict[str, float]:
    """The quality of each media range, which is in lower case."""
    found: dict[str, float] = {}
    for part in accept.split(","):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
        if _QUALITY(quality):
            found[media_range] = max(float(quality), found.get(media_range, 0.0))
    return found


def _quality_of(media_type: str, qualities: dict[str, float]) -> float:
    """The quality of the most specific range which has the type."""
    ranges = (media_type, media_type.partition("/")[0] + "/*", "*/*")
    return next((qualities[media_range] for media_range in ranges if media_range in qualities), 0.0)
