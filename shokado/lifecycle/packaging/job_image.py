"""Images of jobs beside the servers: this project's commands and the packages of one lock; of batches, models too."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runners.artefacts import repository
from shokado import __version__
from shokado.lifecycle.errors import ImageFailed
from shokado.lifecycle.importing import registry
from shokado.lifecycle.packaging.imaging import ContainerEngine, build_options, not_built
from shokado.lifecycle.progress import step

DOCKERFILE = Path(__file__).with_name("job.Dockerfile")
SOURCES = ("configuration", "runners", "shokado")
"""The folders that an image holds."""


@dataclass(frozen=True)
class JobImage:
    """A kind of job.

    Attributes:
        name: of its lock, `requirements/NAME.txt`, and at the end of its image's.
        last_lines: the end of its Dockerfile.
    """

    name: str
    last_lines: str

    @property
    def dockerfile(self) -> str:
        return f"{DOCKERFILE.read_text(encoding='utf-8')}{self.last_lines}\n"


DRIFT = JobImage("drift", 'ENV BENTOML_HOME=/tmp/bentoml\nENTRYPOINT ["python", "-m", "shokado", "drift", "report"]')
# What starts it says what it is: Ray's operator its own commands, and a job `python -m shokado batch run ..`.
BATCH = JobImage("batch", "COPY models /app/bentoml/models\nENV BENTOML_HOME=/app/bentoml RAY_USAGE_STATS_ENABLED=0")


def build_job_image(
    job: JobImage,
    engine: ContainerEngine,
    tag: str | None = None,
    base_image: str | None = None,
    network: str | None = None,
    model: str | None = None,
) -> str:
    """Build it, with all versions of a model if one is named, and return its tag.

    Raises `ImageFailed` with the engine's last words, and where the model store has no such model.
    """
    tag = tag or f"shokado-{job.name}:{__version__}"
    with (
        step(f"build the image of the {job.name} job") as current,
        tempfile.TemporaryDirectory(prefix="shokado-image-") as at,
    ):
        context = Path(at) / "context"
        stage(job, context, model)
        options = _as_arguments(build_options(engine, base_image, network, Path(at)))
        log_path = registry.PROJECT / "var" / f"image-{job.name}.log"
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("wb") as log:
            command = [engine, "build", "--file", str(context / DOCKERFILE.name), "--tag", tag, *options, str(context)]
            status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
        if status:
            raise not_built(engine, tag, log_path)
        current.outcome = tag
    return tag


def stage(job: JobImage, context: Path, model: str | None = None) -> None:
    """Write what the image is made of into a folder that is not there. Raises `ImageFailed`."""
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(registry.PROJECT / name, context / "src" / name, ignore=ignored)
    (context / "requirements").mkdir()
    shutil.copy(registry.PROJECT / "requirements" / f"{job.name}.txt", context / "requirements" / "job.txt")
    (context / DOCKERFILE.name).write_text(job.dockerfile, encoding="utf-8")
    if model is not None:
        folder = repository.home() / "models" / model
        if not folder.is_dir():
            raise ImageFailed(f"There is no model {model} in the model store.", "shokado models list")
        shutil.copytree(folder, context / "models" / model)


def _as_arguments(options: Mapping[str, Any]) -> Iterator[str]:
    """Options by name, of which some have several values, as a command line has them."""
    for name, value in options.items():
        values = [f"{k}={v}" for k, v in value.items()] if isinstance(value, dict) else value
        for one in [values] if isinstance(values, str) else values:
            yield from (f"--{name.replace('_', '-')}", one)
