"""Batches: where a server may be asked to score tables, and by what; nowhere, unless somebody names it."""

import re

from pydantic import Field, field_validator

from configuration.frozen import FrozenSettings


class BatchSettings(FrozenSettings):
    """What `POST /v1/batches` may do; see `shokado.batches`. Without both kinds of addresses it does nothing."""

    input: tuple[str, ...] = ()
    """Folders and addresses below which tables may be read: absolute paths, `s3://bucket/folder`."""
    output: tuple[str, ...] = ()
    """The same, below which scores may be written."""
    command: tuple[str, ...] = Field(default=("var/batch/bin/shokado",), min_length=1)
    """What scores tables, relative to the project: the words before `batch run`, of an environment that has Ray."""
    cpus: int = Field(default=1, ge=1, le=1024)
    """Processors that one batch takes of this machine, behind those that serve."""
    max_running: int = Field(default=1, ge=1, le=100)
    """Batches of this machine at a time; more are refused."""
    kept: int = Field(default=100, ge=1, le=10_000)
    """How many are remembered; of more, the oldest that have ended are forgotten. Their output stays."""
    folder: str = "var/batches/{model}"
    """Where they are remembered, relative to the project."""

    @property
    def enabled(self) -> bool:
        """Whether there is anything that may be asked for."""
        return bool(self.input and self.output)

    @field_validator("input", "output")
    @classmethod
    def _are_addresses(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for address in addresses:
            if not re.fullmatch(r"/[^\0]*|(?!file:|local:)[a-z][a-z0-9+.-]*://[A-Za-z0-9._/=+-]+", address):
                raise ValueError(
                    f"{address[:200]!r} is neither an absolute path nor an address such as s3://bucket/folder"
                )
        return addresses
