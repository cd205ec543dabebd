"""Shokado's version stands in one place, and what names an image by default names that version's."""

import re
import tomllib
from pathlib import Path

from shokado import __version__

ROOT = Path(__file__).resolve().parents[1]


def test_the_wheel_has_the_version_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert "version" not in project["project"]
    assert project["tool"]["hatch"]["version"] == {"path": "shokado/__init__.py"}


def test_manifests_name_the_image_of_this_version() -> None:
    files = [ROOT / "README.md", ROOT / "compose.yaml", *(ROOT / "k8s").glob("**/*.yaml")]
    found = {
        file.relative_to(ROOT): version
        for file in files
        for version in re.findall(r"(?:shokado[:-]|newTag: )(\d+\.\d+\.\d+)", file.read_text())
    }
    assert len(found) >= 7
    assert set(found.values()) == {__version__}
