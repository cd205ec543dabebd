"""Twenty versions under load, in colours that everybody can tell apart."""

import itertools
import math
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from shokado.control.pages import dashboard_page
from tests.browser.served_page import PaperServer
from tests.browser.viewer import Viewer

pytestmark = pytest.mark.slow

SEEN_BY = {
    "most people": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "who sees no red": (
        (0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998),
    ),
    "who sees no green": (
        (0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881),
    ),
}  # fmt: skip
"""Matrices for linear RGB: Machado, Oliveira and Fernandes, A Physiologically-based Model for Simulation of Color
Vision Deficiency, 2009, table 1, severity 1.0.
"""
TOLD_APART = 15.0
"""Distance in CIELAB (CIE76). Of it 2.3 are just noticeable side by side; lines are thin, and seldom so."""
CONTRAST = 3.0
"""Of graphical objects (WCAG 2.2, 1.4.11)."""


def themes() -> dict[str, dict[str, str]]:
    """The colours of versions and the panel's ground, by theme."""
    css = dashboard_page._files()["theme.css"].content.decode()
    light, dark = css.split("@media")
    return {
        name: dict(re.findall(r"--(version-\d|panel): (#[0-9a-f]{6})", part))
        for name, part in (("light", light), ("dark", dark))
    }


def linear(colour: str) -> tuple[float, ...]:
    parts = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return tuple(part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)


def luminance(rgb: tuple[float, ...]) -> float:
    return 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]


def lab(rgb: tuple[float, ...]) -> tuple[float, float, float]:
    """CIELAB under D65."""
    x = 0.4124 * rgb[0] + 0.3576 * rgb[1] + 0.1805 * rgb[2]
    z = 0.0193 * rgb[0] + 0.1192 * rgb[1] + 0.9505 * rgb[2]
    fx, fy, fz = (
        part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116
        for part in (x / 0.9505, luminance(rgb), z / 1.089)
    )
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def seen(rgb: tuple[float, ...], matrix: tuple[tuple[float, ...], ...]) -> tuple[float, ...]:
    return tuple(min(1.0, max(0.0, sum(a * b for a, b in zip(row, rgb, strict=True)))) for row in matrix)


@pytest.mark.parametrize("who", SEEN_BY)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everybody_tells_the_colours_apart(theme: str, who: str) -> None:
    colours = themes()[theme]
    ground = luminance(linear(colours.pop("panel")))
    assert len(colours) == 7
    for colour in colours.values():
        high, low = sorted((ground, luminance(linear(colour))), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= CONTRAST, colour
    places = {name: lab(seen(linear(colour), SEEN_BY[who])) for name, colour in colours.items()}
    for (one, here), (other, there) in itertools.combinations(places.items(), 2):
        assert math.dist(here, there) >= TOLD_APART, (one, other)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperServer]:
    names = [f"v{number}" for number in range(1, 21)]
    environment = {"active": "v1", "weights": dict.fromkeys(names, 1), "strategy": "hash", "shadow": "v2"}
    server = PaperServer(
        tmp_path_factory.mktemp("crowd"), versions=20, settings={"environments": {"production": environment}}
    )
    server.start()
    yield server
    server.kill()


def test_twenty_versions_under_load_each_have_a_row_and_a_line_of_their_own(crowd: PaperServer, viewer: Viewer) -> None:
    viewer.open(crowd)
    answered = {one["version"] for one in crowd.predict(200)}
    page = viewer.page
    expect(page.locator("#version-table tbody tr")).to_have_count(20)
    lines = [
        (line.get_attribute("style"), line.get_attribute("stroke-dasharray"))
        for line in page.locator("#version-table .swatch line").all()
    ]
    assert len(set(lines)) == 20
    # As the chart says it in words, for who cannot see it.
    expect(page.get_by_role("img", name=re.compile("Requests per second, now: v1 .*v20 "))).to_be_visible()
    for version in sorted(answered)[:3]:
        expect(viewer.row(version)).to_contain_text(re.compile(r"[\d.]+ ms"))
    page.get_by_role("checkbox", name="Show v20 in charts").uncheck()
    expect(page.get_by_role("img", name=re.compile("Requests per second, now: v1 .*v19 [^v]*$"))).to_be_visible()
    page.set_viewport_size({"width": 360, "height": 640})
    assert viewer.overflow() == 0
