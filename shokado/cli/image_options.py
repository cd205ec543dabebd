"""What commands that build an image have in common, as it is typed."""

from typing import Annotated

import typer

from shokado.lifecycle.packaging.imaging import ContainerEngine

Engine = Annotated[
    ContainerEngine | None, typer.Option(envvar="ENGINE", help="By default the first one that works here.")
]
BaseImage = Annotated[
    str | None, typer.Option(envvar="BASE_IMAGE", help="Any with Python 3.11; by default the public Python image.")
]
BuildNetwork = Annotated[str | None, typer.Option(help="Of the build, as the engine calls it, such as host.")]
