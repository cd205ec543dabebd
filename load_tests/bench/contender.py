"""What a contender is: a name, a sentence about its settings, what it speaks, and how it is started."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from load_tests.bench.bench_model import BenchModel
from load_tests.bench.contender_api import ContenderApi
from load_tests.bench.contender_process import Launch


class Truth(StrEnum):
    """What the answers of a contender are compared with before it is timed."""

    MODEL = "every answer equals the framework's own"
    SPLIT = "every answer of version v1 equals the framework's own; other versions answer probabilities"
    NONE = "a constant"


@dataclass(frozen=True)
class Site:
    """Where one contender runs: its Python, a folder to write to, free ports, and the model."""

    python: Path
    folder: Path
    ports: tuple[int, ...]
    model: BenchModel

    @property
    def port(self) -> int:
        return self.ports[0]


@dataclass(frozen=True)
class Contender:
    """One row of the tables that is reached over HTTP."""

    name: str
    title: str
    settings: str
    """One sentence: processes, threads, batching."""
    api: ContenderApi
    launch: Callable[[Site], Launch]
    requirements: str | None = None
    """Name of the pinned requirements; None runs in the project's own environment."""
    packages: tuple[str, ...] = ()
    """Packages whose versions the report names."""
    truth: Truth = Truth.MODEL
    many_rows: bool = False
    """Whether it also competes with up to 10,000 rows per request."""
