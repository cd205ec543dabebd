"""Imaging: a bento and a container engine go in, an OCI image that serves it comes out, and what weighs most in it.

The image is made by `shokado/lifecycle/packaging/Dockerfile`, which travels in the bento: `bentoml containerize` makes
the same one. This module adds what that cannot: the host's ways to packages for the time of the build, another base
image, labels, and an exit status that can be trusted.
"""

import logging
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from shokado import __version__
from shokado.lifecycle.errors import ImageFailed, LifecycleError
from shokado.lifecycle.importing import registry
from shokado.lifecycle.packaging import package_sources
from shokado.lifecycle.progress import say, step

LOG = registry.PROJECT / "var" / "image.log"
"""What the engine said in the last build."""
_LAST_LINES = 15
"""Lines of the log that a failure shows; the whole log is in its file."""


class ContainerEngine(StrEnum):
    """What builds and holds images."""

    DOCKER = "docker"
    PODMAN = "podman"
    BUILDAH = "buildah"


@dataclass(frozen=True)
class ImagePart:
    """A folder of the image, such as one package."""

    path: str
    size_bytes: int
    """Size on disk, everything below it included."""


@dataclass(frozen=True)
class Image:
    """An image that was built."""

    tag: str
    engine: ContainerEngine
    base_bytes: int
    """Size of the base image's files, unpacked."""
    parts: tuple[ImagePart, ...]
    """Everything beyond the base, the largest first."""

    @property
    def own_bytes(self) -> int:
        return sum(part.size_bytes for part in self.parts)

    def largest(self, count: int) -> tuple[ImagePart, ...]:
        return self.parts[:count]

    def command(self) -> str:
        """What starts it, as hardened as it runs."""
        runner = self.engine if self.engine is not ContainerEngine.BUILDAH else ContainerEngine.PODMAN
        return (
            f"{runner} run --rm --read-only --tmpfs /tmp --cap-drop=ALL --security-opt no-new-privileges "
            f"-p 127.0.0.1:3000:3000 {self.tag}"
        )


@dataclass(frozen=True)
class ImageOrder:
    """What to build. None stands for the default: Shokado's version as tag, the Dockerfile's base image."""

    bento: str
    engine: ContainerEngine
    tag: str | None = None
    base_image: str | None = None
    network: str | None = None
    """The build's network, as the engine calls it, such as `host`."""


def find_engine(wanted: ContainerEngine | None = None) -> ContainerEngine:
    """The wanted engine, or the first one that works. Raises `LifecycleError` where there is none."""
    for engine in [wanted] if wanted else list(ContainerEngine):
        # A client without its daemon builds nothing.
        if shutil.which(engine) and _run([engine, "version"]).returncode == 0:
            return engine
    if wanted:
        raise LifecycleError(f"{wanted} is not installed, or its daemon does not run.", f"{wanted} version")
    raise LifecycleError(
        "No container engine works here: docker, podman or buildah is needed.", "apt-get install podman"
    )


def build_image(order: ImageOrder) -> Image:
    """Build the image of a bento and weigh it.

    Raises:
        ImageFailed: the engine refused; the message has its last words.
    """
    tag = order.tag or f"shokado:{__version__}"
    with step("build the image") as current:
        with tempfile.TemporaryDirectory(prefix="shokado-image-") as folder:
            options = build_options(order.engine, order.base_image, order.network, Path(folder))
            _containerize(order, tag, options)
        image = Image(tag, order.engine, *_weigh(order.engine, tag))
        current.outcome = f"{tag}, {megabytes(image.own_bytes)} beyond its base of {megabytes(image.base_bytes)}"
    return image


def megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"


def build_options(engine: ContainerEngine, base_image: str | None, network: str | None, folder: Path) -> dict[str, Any]:
    """Options of the engine's build command, with this host's ways to packages.

    What the build may see only while it runs is written into `folder`.
    """
    sources = package_sources.of_this_host()
    labels = {"org.opencontainers.image.version": __version__} | _revision()
    options: dict[str, Any] = {"label": labels}
    if base_image:
        options["build_arg"] = {"BASE_IMAGE": base_image}
    if network:
        options["network"] = network
    if engine is ContainerEngine.DOCKER:
        if sources.folders():
            say("docker mounts no folders into a build: packages are not looked for in this host's local folders")
        sources = sources.without_folders()
    else:
        # The OCI format has no HEALTHCHECK.
        options["format"] = "docker"
        options["volume"] = [f"{path}:{path}:ro" for path in sources.folders()]
    configuration = folder / "pip.conf"
    configuration.write_text(sources.configuration(), encoding="utf-8")
    options["secret"] = [f"id=pip.conf,src={configuration}"]
    if sources.certificates:
        options["secret"].append(f"id=ca.pem,src={sources.certificates}")
    return options


def _revision() -> dict[str, str]:
    found = _run(["git", "-C", str(registry.PROJECT), "rev-parse", "HEAD"])
    return {"org.opencontainers.image.revision": found.stdout.strip()} if found.returncode == 0 else {}


def _containerize(order: ImageOrder, tag: str, options: dict[str, Any]) -> None:
    import bentoml.container
    from bentoml.exceptions import BentoMLException

    LOG.parent.mkdir(parents=True, exist_ok=True)
    # BentoML reads the Dockerfile from a copy of the bento, and reads no files outside of the working directory.
    with _log_into(LOG), chdir("/"):
        try:
            built = bentoml.container.build(order.bento, backend=order.engine.value, image_tag=(tag,), **options)
        except (BentoMLException, OSError, ValueError) as error:
            raise ImageFailed(f"{order.engine} did not build {tag}: {error}") from error
    if built is None:
        raise not_built(order.engine, tag, LOG)


def not_built(engine: ContainerEngine, tag: str, log: Path) -> ImageFailed:
    """The failure of a build, with the last that the engine said in its log."""
    last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:])
    return ImageFailed(f"{engine} did not build {tag}:\n{last}", f"less {log}")


@contextmanager
def _log_into(path: Path) -> Iterator[None]:
    """BentoML logs what the engine says; keep it in a file, off the terminal."""
    logger = logging.getLogger("bentoml._internal.container")
    level, propagates = logger.level, logger.propagate
    handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    # The traceback that BentoML logs leads to its own code and ends in the engine's words, which stand above it.
    handler.addFilter(_without_traceback)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
        logger.setLevel(level)
        logger.propagate = propagates


def _without_traceback(record: logging.LogRecord) -> bool:
    record.exc_info = None
    return True


# Runs in the image: bytes on disk below each folder that the Dockerfile adds to the base, and of all the rest.
_SCALE = """
import os
def size(top, seen=set()):
    total = 0
    for folder, names, files in os.walk(top):
        names[:] = [n for n in names if not os.path.ismount(os.path.join(folder, n))]
        for name in files:
            status = os.lstat(os.path.join(folder, name))
            total += 0 if status.st_ino in seen else status.st_blocks * 512
            seen.add(status.st_ino)
    return total
packages = next(e.path for e in os.scandir("/app/.venv/lib") if e.name.startswith("python")) + "/site-packages"
bento = "/home/bentoml/bento"
parts = [e.path for top in (packages, bento) for e in os.scandir(top)]
for part in parts:
    print(size(part) if os.path.isdir(part) else os.lstat(part).st_blocks * 512, part)
print(size("/"), "/")
"""


def _weigh(engine: ContainerEngine, tag: str) -> tuple[int, tuple[ImagePart, ...]]:
    """Bytes of the base image, and the parts beyond it, the largest first."""
    output = _in_image(engine, tag, ["python", "-c", _SCALE])
    weighed = [ImagePart(path, int(size)) for size, _, path in (line.partition(" ") for line in output.splitlines())]
    base = next(part.size_bytes for part in weighed if part.path == "/")
    parts = sorted((part for part in weighed if part.path != "/"), key=lambda part: part.size_bytes, reverse=True)
    return base, tuple(parts)


def _in_image(engine: ContainerEngine, tag: str, command: Sequence[str]) -> str:
    """What a command prints that runs in a container of the image."""
    if engine is not ContainerEngine.BUILDAH:
        return _checked([engine, "run", "--rm", "--network=none", "--user=0", tag, *command])
    container = _checked([engine, "from", tag]).strip()
    try:
        return _checked([engine, "run", "--user=0", container, "--", *command])
    finally:
        _run([engine, "rm", container])


def _checked(command: Sequence[str]) -> str:
    finished = _run(command)
    if finished.returncode:
        raise ImageFailed(f"{' '.join(command[:3])} failed: {finished.stderr.strip()}")
    return finished.stdout


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
