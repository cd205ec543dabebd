"""Which handler answers a path, and what the path names."""

from typing import Any

import pytest

from shokado.transports.routes import Routes, names_in, without_prefix


class Nobody:
    """A handler that is only looked up."""

    def __init__(self, path: str) -> None:
        self.path = path

    def judge(self, *_: Any) -> None:
        raise AssertionError("not asked for")

    def begin(self, *_: Any) -> None:
        raise AssertionError("not asked for")


PLAIN, VERSION, BOTH, VERB = handlers = [
    Nobody(path)
    for path in ("/predict", "/m/{version}/predict", "/m/{model}/versions/{version}/x", "/m/{model}:predict")
]
ROUTES = Routes(handlers, "customers")


@pytest.mark.parametrize(
    ("path", "handler", "pins"),
    [
        (b"/predict", PLAIN, ()),
        (b"/m/v1/predict", VERSION, ("v1",)),
        (b"/m/customers/predict", VERSION, ()),
        (b"/m/customers/versions/v2/x", BOTH, ("v2",)),
        (b"/m/v1/versions/v2/x", BOTH, ("v1", "v2")),
        (b"/m/v2:predict", VERB, ("v2",)),
        ("/m/é/predict".encode(), VERSION, ("Ã©",)),
        (b"/m/v1:predict:predict", VERB, ("v1:predict",)),
        (b"/m/v%1?/predict", VERSION, ("v%1?",)),
    ],
)
def test_a_path_finds_its_handler_and_the_versions_it_names(path: bytes, handler: Any, pins: tuple[str, ...]) -> None:
    assert ROUTES.find(path) == (handler, pins)


@pytest.mark.parametrize(
    "path",
    [b"", b"/", b"/predict/", b"/predict?x", b"/m//predict", b"/m/a/b/predict", b"/m/:predict", b"/m/v1:predicts"],
)
def test_any_other_path_finds_nothing(path: bytes) -> None:
    assert ROUTES.find(path) is None


def test_names_of_a_path_are_told() -> None:
    assert names_in(BOTH.path) == ["model", "version"]
    assert names_in(PLAIN.path) == []


@pytest.mark.parametrize(
    ("path", "prefix", "route"),
    [
        ("/", "", "/"),
        ("/docs", "", "/docs"),
        ("/docs/", "", "/docs"),
        ("//", "", "/"),
        ("/shokado/docs/", "/shokado", "/docs"),
        ("/shokado", "/shokado", "/"),
        ("/shokado/", "/shokado", "/"),
        ("/shokadocs", "/shokado", "/shokadocs"),
        ("/docs", "/shokado", "/docs"),
    ],
)
def test_paths_as_routes_know_them(path: str, prefix: str, route: str) -> None:
    assert without_prefix(path, prefix) == route
