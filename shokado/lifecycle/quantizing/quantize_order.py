"""What somebody asks for who wants a quantized version."""

import shlex
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.importing import names


class Method(StrEnum):
    """What becomes of the weights; also how a card says it."""

    INT8 = "int8"
    """Whole numbers, and what they are multiplied with as well, by scales that were measured over reference rows."""
    INT8_DYNAMIC = "int8-dynamic"
    """The same by scales of the batch at hand, so that a row's scores depend on the others in its batch."""
    FLOAT16 = "float16"
    """Half as many bits in the file alone; ONNX Runtime makes float32 of them as it opens it."""


@dataclass(frozen=True)
class Limits:
    """How much agreement may be lost.

    Attributes:
        tolerance: largest mean difference of the scores: of a probability; of a value, in units of the values'
            standard deviation. A row may move by as much when others are in its batch.
        same_labels: smallest share of rows whose label stays what it was, for classifiers.
    """

    tolerance: float = 0.02
    same_labels: float = 0.99


@dataclass(frozen=True)
class QuantizeOrder:
    """What to quantize, and as what. Raises `LifecycleError` if the store cannot have the names.

    Attributes:
        tag: `<model>:<version>` of the store.
        version: label of the quantized version, such as `v2-quantized`.
        method: how.
        limits: how much agreement may be lost.
        rows: a CSV or Parquet file with a column for each feature: rows to measure scales and agreement over. By
            default those of the data set that it learned from, if that is one of ours, else the card's examples.
        replace: whether to go on where the label is taken.
        force: whether to store what gains nothing, or differs too much.
    """

    tag: str
    version: str
    method: Method = Method.INT8
    limits: Limits = field(default_factory=Limits)
    rows: Path | None = None
    replace: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        model, colon, version = self.tag.partition(":")
        if not colon or not model or not version or "/" in self.tag:
            raise LifecycleError(
                f"{self.tag!r} is no version of the store: use <model>:<version>, such as customers:v2.",
                "shokado models list",
            )
        names.check_name("version label", self.version)

    @property
    def model(self) -> str:
        return self.tag.partition(":")[0]

    @property
    def new_tag(self) -> str:
        return f"{self.model}:{self.version}"

    def command(self, tag: str = "", version: str = "", more: str = "") -> str:
        """What somebody types for the same, but for what is given."""
        method = "" if self.method is Method.INT8 else f" --method {self.method}"
        rows = f" --rows {shlex.quote(str(self.rows))}" if self.rows else ""
        words = f"{shlex.quote(tag or self.tag)} --as {version or self.version}"
        return f"shokado models quantize {words}{method}{rows}{more}"
