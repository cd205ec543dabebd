"""Sites for the tests of routes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control.site import Site, open_site


@pytest.fixture
def empty_site(tmp_path: Path) -> Iterator[Site]:
    """One without workers."""
    with open_site(tmp_path) as site:
        yield site


@pytest.fixture
def site(empty_site: Site) -> Site:
    """One with one worker, all of whose versions are ready."""
    empty_site.join()
    return empty_site
