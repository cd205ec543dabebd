"""The image of the transformer: this project's commands, their packages, and a repository's definitions."""

import shutil
from pathlib import Path

from shokado.lifecycle.packaging.imaging import ContainerEngine
from shokado.lifecycle.packaging.job_image import JobImage
from shokado.lifecycle.transforming.feature_repository import CONFIGURATION, RepositoryError

FEATURES_IMAGE = JobImage("features", "the transformer")
DATA = "data"
"""Where the example's repository has its registry, its tables and SQLite, which belong to no image."""


def build_features_image(
    repository: Path,
    engine: ContainerEngine,
    tag: str | None = None,
    base_image: str | None = None,
    network: str | None = None,
) -> str:
    """Build it, and return its tag. Raises `ImageFailed`, and `RepositoryError` for a folder that is no repository."""
    if not (repository / CONFIGURATION).is_file():
        raise RepositoryError(f"There is no {CONFIGURATION} in {repository}: it is no Feast repository.")
    return FEATURES_IMAGE.build(engine, tag, base_image, network, lambda context: add_repository(repository, context))


def add_repository(repository: Path, context: Path) -> None:
    """Put the definitions, and what they import, into the folder that the image is made of."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", DATA, "*.db", "*.parquet")
    shutil.copytree(repository, context / "feature_repo", ignore=ignored)
