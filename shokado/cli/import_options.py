"""What commands that import have in common, as it is typed."""

from typing import Annotated

import typer
from pydantic import ByteSize, TypeAdapter, ValidationError


def _bytes(text: str) -> int:
    try:
        size = int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        size = 0
    if size < 1:
        raise typer.BadParameter(f"{text!r} is no size, such as 4GiB or 500MB.")
    return size


ModelName = Annotated[
    str | None, typer.Option("--name", help="Model name in the store; by default the registered one.")
]
NoPickle = Annotated[bool, typer.Option("--no-pickle", help="Refuse formats that can run code when they are read.")]
NoRows = Annotated[
    bool, typer.Option("--no-rows", help="Keep no rows of the data, by which scores could be explained.")
]
MaxSeconds = Annotated[float, typer.Option("--max-seconds", min=1, help="Time that importing may take.")]
MaxMemory = Annotated[
    int | None,
    typer.Option(
        "--max-memory",
        parser=_bytes,
        metavar="SIZE",
        help="Memory that importing may take, such as 4GiB; by default what is free.",
    ),
]
