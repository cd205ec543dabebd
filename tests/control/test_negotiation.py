"""Content negotiation: browsers prefer HTML, and whoever does not say so gets JSON."""

import pytest

from shokado.control.http.negotiation import preferred

JSON, HTML = "application/json", "text/html"
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
CHROME = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
    "application/signed-exchange;v=b3;q=0.7"
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/json", JSON),
        (FIREFOX, HTML),
        (CHROME, HTML),
        ("text/html", HTML),
        ("TEXT/HTML; Charset=utf-8", HTML),
        ("text/*", HTML),
        ("text/*, application/json;q=0.9", HTML),
        ("text/html, application/json", JSON),
        ("application/json;q=0.5, text/html;q=0.501", HTML),
        ("application/json;q=0.5, text/html;q=0.5", JSON),
        ("text/html;q=0", JSON),
        ("text/html;q=0.000, */*;q=0.1", JSON),
        ("text/html;q=0, text/*, application/*;q=0.1", JSON),
        ("application/json;q=0, */*;q=0.1", HTML),
        ("text/html;level=1;q=0.3, text/html;q=0.7, application/json;q=0.5", HTML),
        ("text/html ; q=0.3 , application/json ; q=0.2", HTML),
        ("image/png", JSON),
        ("text/html;q=2", JSON),
        ("text/html;q=-1", JSON),
        ("text/html;q=nan", JSON),
        ("text/html;q=", JSON),
        ("text/html;q=0.1234", JSON),
        (",;,text/html", HTML),
        (";q=1", JSON),
    ],
)
def test_the_type_is_the_one_that_the_client_prefers(accept: str, expected: str) -> None:
    assert preferred(accept, JSON, HTML) == expected


def test_ranges_that_nothing_is_offered_for_are_passed_over() -> None:
    assert preferred("a/b, " * 10_000 + HTML, JSON, HTML) == HTML
