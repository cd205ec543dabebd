"""Imports go one way, the check that says so sees one that does not, and the map of the house is one of this house."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("configuration", "runners", "shokado", "load_tests")
UPWARD = {
    "runners/errors.py": "shokado.dispatch.state",
    "runners/engines/engine.py": "runners.runner",
    "shokado/dialects/problem.py": "shokado.transports.call",
    "shokado/worker/readiness.py": "shokado.control.health",
    "shokado/lifecycle/rollout/canary.py": "shokado.worker.versions.loading",
    "shokado/cli/keys.py": "shokado.stores.machine",
    "shokado/transports/call.py": "shokado.monitoring.statistics",
    "shokado/monitoring/metrics/metric_registry.py": "shokado.access.keys",
    "shokado/client/errors.py": "runners.errors",
    "shokado/stores/record.py": "shokado.client.errors",
    "load_tests/traffic/routing.py": "shokado.dispatch.state",
}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the code, without anything else."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "[!.]*.[!p]*"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def check(house: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=house, capture_output=True, text=True, check=False)


def test_imports_go_one_way(house: Path) -> None:
    result = check(house)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("file", UPWARD)
def test_an_import_upward_is_found(house: Path, file: str) -> None:
    path = house / file
    path.write_text(f"import {UPWARD[file]}\n{path.read_text()}")
    result = check(house)
    assert result.returncode == 1
    assert f"{path.relative_to(house).with_suffix('').as_posix().replace('/', '.')} -> {UPWARD[file]}" in result.stdout


def test_a_room_of_runners_without_a_layer_is_found(house: Path) -> None:
    (house / "runners" / "novel.py").touch()
    result = check(house)
    assert result.returncode == 1
    assert "- runners.novel" in result.stdout


@pytest.mark.parametrize(
    ("file", "imported", "where"),
    [
        ("shokado/dispatch/cache.py", "shokado.dispatch.redis_cache", "shokado.dispatch"),
        ("shokado/worker/stopping.py", "shokado.worker.versions.fleet", "shokado.worker"),
    ],
)
def test_a_circle_is_found(house: Path, file: str, imported: str, where: str) -> None:
    """Of two files, and of a folder with what stands beside it; also where the import is within a function."""
    path = house / file
    path.write_text(f"{path.read_text()}\n\ndef late() -> None:\n    import {imported}\n")
    result = check(house)
    assert result.returncode == 1
    assert f"No cycles are allowed in {where}." in result.stdout


def test_the_map_of_the_house_names_what_is_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    drawing, ways = text.split("```")[1], text.split("\n## ")[1:]
    folders = re.findall(r"^ {4}(\w+/) |  (\w+/) ", drawing, re.MULTILINE)
    for room in (first or second for first, second in folders):
        assert (ROOT / "shokado" / room).is_dir() or (ROOT / "runners" / room).is_dir(), room
    assert len(ways) == 3
    for way in ways:
        files = re.findall(r"^\d+\. `([^`]+)`", way, re.MULTILINE)
        assert files == [file for file in files if (ROOT / file).is_file()]
        assert len(files) <= 10
