"""The image of batches: this project's commands, Ray, and the versions of a model."""

import shutil
from pathlib import Path

from runners.artefacts import repository
from shokado.lifecycle.errors import ImageFailed
from shokado.lifecycle.packaging.imaging import ContainerEngine
from shokado.lifecycle.packaging.job_image import JobImage

# What starts it says what it is: Ray's operator its own commands, and a job `python -m shokado batch run ..`.
BATCH_IMAGE = JobImage(
    "batch", "batches", "COPY models /app/bentoml/models\nENV BENTOML_HOME=/app/bentoml RAY_USAGE_STATS_ENABLED=0"
)


def build_batch_image(
    model: str,
    engine: ContainerEngine,
    tag: str | None = None,
    base_image: str | None = None,
    network: str | None = None,
) -> str:
    """Build it, with all versions of the model, and return its tag.

    Raises `ImageFailed` with the engine's last words, and where the model store has no such model.
    """
    return BATCH_IMAGE.build(engine, tag, base_image, network, lambda context: add_versions(model, context))


def add_versions(model: str, context: Path) -> None:
    """Put the model's versions into the folder that the image is made of. Raises `ImageFailed`."""
    folder = repository.home() / "models" / model
    if not folder.is_dir():
        raise ImageFailed(f"There is no model {model} in the model store.", "shokado models list")
    shutil.copytree(folder, context / "models" / model)
