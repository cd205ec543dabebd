"""What the server says that it is, where clients of the Open Inference Protocol ask for it, over REST and gRPC."""

from dataclasses import dataclass

from shokado import __version__

NAME = "shokado"


@dataclass(frozen=True)
class ServerMetadata:
    """What the server is."""

    name: str
    version: str
    extensions: tuple[str, ...]


OVER_REST = ServerMetadata(NAME, __version__, ("binary_tensor_data", "classification", "model_repository"))
OVER_GRPC = ServerMetadata(NAME, __version__, ("classification",))
"""Tensors are binary anyhow, and versions are loaded over REST."""
