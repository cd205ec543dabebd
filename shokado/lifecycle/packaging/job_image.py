"""Images of jobs beside the servers: this project's commands and the packages of one lock."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shokado import __version__
from shokado.lifecycle.importing import registry
from shokado.lifecycle.packaging.imaging import ContainerEngine, build_options, not_built
from shokado.lifecycle.progress import step

SOURCES = ("configuration", "runners", "shokado")
"""The folders that such an image holds."""
_SHARED = "job.Dockerfile"
_STAGED = "Dockerfile"


@dataclass(frozen=True)
class JobImage:
    """A kind of job, which has the packages of `requirements/<name>.txt`."""

    name: str
    what: str
    """The job in words."""
    last_lines: str | None = None
    """How the Dockerfile ends that jobs share; without, the job has `<name>.Dockerfile`."""

    @property
    def dockerfile(self) -> str:
        file = f"{self.name}.Dockerfile" if self.last_lines is None else _SHARED
        text = Path(__file__).with_name(file).read_text(encoding="utf-8")
        return text if self.last_lines is None else f"{text}{self.last_lines}\n"

    @property
    def log(self) -> Path:
        """What the engine said in the last build."""
        return registry.PROJECT / "var" / f"image-{self.name}.log"

    def build(
        self,
        engine: ContainerEngine,
        tag: str | None = None,
        base_image: str | None = None,
        network: str | None = None,
        add: Callable[[Path], None] = lambda _: None,
    ) -> str:
        """Build it, and return its tag; `add` puts more into the folder that it is made of.

        Raises `ImageFailed` with the engine's last words.
        """
        tag = tag or f"shokado-{self.name}:{__version__}"
        with (
            step(f"build the image of {self.what}") as current,
            tempfile.TemporaryDirectory(prefix="shokado-image-") as at,
        ):
            context = Path(at) / "context"
            self.stage(context)
            add(context)
            options = _as_arguments(build_options(engine, base_image, network, Path(at)))
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("wb") as log:
                command = [engine, "build", "--file", str(context / _STAGED), "--tag", tag, *options, str(context)]
                status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
            if status:
                raise not_built(engine, tag, self.log)
            current.outcome = tag
        return tag

    def stage(self, context: Path) -> None:
        """Write what the image is made of into a folder that is not there."""
        for name in SOURCES:
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(registry.PROJECT / name, context / "src" / name, ignore=ignored)
        (context / "requirements").mkdir()
        shutil.copy(registry.PROJECT / "requirements" / f"{self.name}.txt", context / "requirements" / "job.txt")
        (context / _STAGED).write_text(self.dockerfile, encoding="utf-8")


def _as_arguments(options: Mapping[str, Any]) -> Iterator[str]:
    """Options by name, of which some have several values, as a command line has them."""
    for name, value in options.items():
        values = [f"{k}={v}" for k, v in value.items()] if isinstance(value, dict) else value
        for one in [values] if isinstance(values, str) else values:
            yield from (f"--{name.replace('_', '-')}", one)
