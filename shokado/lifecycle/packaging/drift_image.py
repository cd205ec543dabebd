"""The image of the job that reports drift: this project's commands and `requirements/drift.txt`, without a model."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shokado import __version__
from shokado.lifecycle.importing import registry
from shokado.lifecycle.packaging.imaging import ContainerEngine, build_options, not_built
from shokado.lifecycle.progress import step

DOCKERFILE = Path(__file__).with_name("drift.Dockerfile")
LOG = registry.PROJECT / "var" / "image-drift.log"
"""What the engine said in the last build."""
SOURCES = ("configuration", "runners", "shokado")
"""The folders that the image holds."""


def build_drift_image(
    engine: ContainerEngine, tag: str | None = None, base_image: str | None = None, network: str | None = None
) -> str:
    """Build it, and return its tag. Raises `ImageFailed` with the engine's last words."""
    tag = tag or f"shokado-drift:{__version__}"
    with (
        step("build the image of the drift job") as current,
        tempfile.TemporaryDirectory(prefix="shokado-image-") as at,
    ):
        context = Path(at) / "context"
        stage(context)
        options = _as_arguments(build_options(engine, base_image, network, Path(at)))
        LOG.parent.mkdir(parents=True, exist_ok=True)
        with LOG.open("wb") as log:
            command = [engine, "build", "--file", str(context / DOCKERFILE.name), "--tag", tag, *options, str(context)]
            status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
        if status:
            raise not_built(engine, tag, LOG)
        current.outcome = tag
    return tag


def stage(context: Path) -> None:
    """Write what the image is made of into a folder that is not there."""
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(registry.PROJECT / name, context / "src" / name, ignore=ignored)
    (context / "requirements").mkdir()
    shutil.copy(registry.PROJECT / "requirements" / "drift.txt", context / "requirements")
    shutil.copy(DOCKERFILE, context)


def _as_arguments(options: Mapping[str, Any]) -> Iterator[str]:
    """Options by name, of which some have several values, as a command line has them."""
    for name, value in options.items():
        values = [f"{k}={v}" for k, v in value.items()] if isinstance(value, dict) else value
        for one in [values] if isinstance(values, str) else values:
            yield from (f"--{name.replace('_', '-')}", one)
