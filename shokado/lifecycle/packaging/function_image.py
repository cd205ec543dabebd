"""A function as an image: an order goes in, an image comes out that holds what a zip would, and may be larger."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from shokado import __version__
from shokado.lifecycle.errors import BuildFailed
from shokado.lifecycle.importing import registry
from shokado.lifecycle.packaging.function_order import FunctionOrder, Processor, Runtime
from shokado.lifecycle.packaging.function_zip import refuse_too_large, staged
from shokado.lifecycle.packaging.imaging import ContainerEngine, megabytes, not_built
from shokado.lifecycle.progress import step

DOCKERFILE = Path(__file__).with_name("lambda.Dockerfile")
LOG = registry.PROJECT / "var" / "image-lambda.log"
"""What the engine said in the last build."""
MAX_IMAGE_BYTES = 10 * 2**30
"""Size of an image that a function is made of, uncompressed."""
_PLATFORMS = {Processor.X86_64: "linux/amd64", Processor.ARM64: "linux/arm64"}


@dataclass(frozen=True)
class FunctionImage:
    """An image that was built."""

    tag: str
    own_bytes: int
    """Size of what it has beyond its base."""
    cold_start: str


def build_function_image(
    order: FunctionOrder, engine: ContainerEngine, tag: str | None = None, base_image: str | None = None
) -> FunctionImage:
    """Build it. Raises `ImageFailed` with the engine's last words, and what `staged` raises."""
    tag = tag or f"shokado-lambda:{__version__}"
    base_image = base_image or f"public.ecr.aws/lambda/python:{order.runtime.python}"
    with staged(order) as function:
        refuse_too_large(function.parts, function.bytes, MAX_IMAGE_BYTES)
        context = function.folder.parent
        shutil.copy(DOCKERFILE, context)
        with step("build the image") as current:
            run_build(build_command(order, engine, tag, base_image, context), engine, tag)
            current.outcome = f"{tag}, {megabytes(function.bytes)} beyond its base"
    return FunctionImage(tag, function.bytes, function.cold_start)


def build_command(order: FunctionOrder, engine: ContainerEngine, tag: str, base_image: str, context: Path) -> list[str]:
    """The engine's command, which must be run where `context` is."""
    command = [engine.value, "build", "--file", str(context / DOCKERFILE.name), "--tag", tag]
    command += ["--build-arg", f"BASE_IMAGE={base_image}"]
    if order.runtime is not Runtime.HERE:
        command += ["--platform", _PLATFORMS[order.architecture]]
    if engine is ContainerEngine.DOCKER:
        # Lambda takes an image, and not the index that an attestation makes of it.
        command.append("--provenance=false")
    else:
        command += ["--format", "docker"]
    return [*command, str(context)]


def run_build(command: list[str], engine: ContainerEngine, tag: str) -> None:
    """Raises `ImageFailed`."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("wb") as log:
        try:
            status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
        except OSError as error:
            raise BuildFailed(f"{engine} cannot be started: {error}") from error
    if status:
        raise not_built(engine, tag, LOG)
