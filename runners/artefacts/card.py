"""The card of an artefact: what a version is, where it came from, and how that was verified.

An artefact is a folder in the BentoML model store that holds `card.json` beside `model.onnx`, `model.ubj` or both, may
hold `reference.json` and `background.json`, and has nothing that could execute. `shokado.lifecycle` writes cards;
`runners` reads them and trusts nothing else.
"""

import statistics
from collections.abc import Collection, Iterable
from enum import StrEnum
from functools import lru_cache
from operator import not_
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from runners.inputs.datatypes import BYTES
from runners.inputs.formats import row_format_of
from runners.inputs.precision import FLOAT64
from runners.inputs.rows import RowFormat
from runners.inputs.schema import Feature

CARD_FILE = "card.json"
ABOVE_HALF = 0.5 + 2**-24
"""The smallest float32 above 0.5."""
ABOVE_ZERO = 2**-149
"""The smallest float32 above 0."""


class CardError(Exception):
    """The artefact's card is missing, unreadable or contradicts itself; the message says which and where."""


class Task(StrEnum):
    """What the model predicts, which fixes the shape of its scores (see `Card.scores_per_row`)."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"
    MULTIOUTPUT = "multioutput"
    """Several values a row, such as quantiles."""
    BINARY_MARGIN = "binary_margin"
    MULTICLASS_MARGIN = "multiclass_margin"
    """Classes without probabilities: the scores are of a decision function."""
    ANOMALY = "anomaly"
    """-1 for an anomaly and 1 for what is none, by a score that is small for anomalies."""
    MULTILABEL = "multilabel"
    """Several labels a row, each one of the same two classes, such as 0 and 1."""
    MULTILABEL_MARGIN = "multilabel_margin"
    """The same without probabilities."""

    @property
    def is_of_values(self) -> bool:
        """Whether scores are values, and there are no classes."""
        return self in (Task.REGRESSION, Task.MULTIOUTPUT)

    @property
    def has_probabilities(self) -> bool:
        """Whether scores are probabilities of classes."""
        return self in (Task.BINARY, Task.MULTICLASS, Task.MULTILABEL)

    @property
    def has_threshold(self) -> bool:
        """Whether each score tells two classes apart, by `Card.positive_from`."""
        return self.has_labels or self in (Task.BINARY, Task.BINARY_MARGIN, Task.ANOMALY)

    @property
    def has_labels(self) -> bool:
        """Whether there are several labels a row, one a score."""
        return self in (Task.MULTILABEL, Task.MULTILABEL_MARGIN)

    @property
    def has_outputs(self) -> bool:
        """Whether the scores of a row have names of their own, `Card.outputs`."""
        return self.has_labels or self is Task.MULTIOUTPUT

    @property
    def in_words(self) -> str:
        """What messages call a model of the task: "a regression model"."""
        return f"a{'n' if self is Task.ANOMALY else ''} {self} model"

    @property
    def since_format(self) -> Literal[2, 3]:
        """The format of cards since which servers know it."""
        return 2 if self in (Task.BINARY, Task.MULTICLASS, Task.REGRESSION) else 3


OwnOutput = Literal["labels", "values", "column", "row", "probabilities", "maps", "numbered"]
"""How an ONNX model's output lies in MLflow's answer: labels, or a value, of each row; a list of the value, of several
values, or of each class's probability; or a map from label to probability, or of all numbers by their positions."""


AskedBy = Literal["invocations", "open_inference"]
"""How another server is asked to score rows that need Python: as MLflow's own, or by tensors as MLServer takes them."""


def is_mixed(features: Collection[Feature]) -> bool:
    """Whether texts stand beside other columns."""
    return len(features) > 1 and any(feature.type == "text" for feature in features)


def format_of(task: Task, features: Iterable[Feature]) -> Literal[2, 3]:
    """The format of a card of that task and those features."""
    features = tuple(features)
    is_new = any(feature.is_typed or feature.precision == FLOAT64.name for feature in features)
    return 3 if is_new or is_mixed(features) else task.since_format


class FileKind(StrEnum):
    """The two formats that a server loads, and the description of a model that another one does; none carries code."""

    ONNX = "onnx"
    UBJ = "ubj"
    MLMODEL = "mlmodel"
    """The registry's own description, of a model that only Python can score: another server has loaded it."""

    @property
    def file_name(self) -> str:
        return f"model.{self.value}"

    @property
    def datatypes(self) -> tuple[str, ...]:
        """The datatypes of rows that its engine takes."""
        return ("FP32", "FP64") if self is FileKind.UBJ else ("FP32", "FP64", BYTES)


def _is_usual(asked_by: AskedBy) -> bool:
    return asked_by == "invocations"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Frozen):
    """Where the version came from, as exactly as the registry can say it."""

    uri: str
    """MLflow registry address, such as `models:/customers/1`; of a checkpoint `file:`, its name and its digests."""
    run_id: str
    flavor: str
    """The MLflow flavor that was imported, such as `sklearn`; `checkpoint` for a file of PyTorch, `python_function`
    for a model in a server that has Python."""
    framework: str
    """Package and version that trained it, such as `xgboost 3.2.0`."""


class ModelFile(_Frozen):
    """A file of the artefact with its digest, so that a damaged file is refused before it is parsed."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(gt=0)


class Verification(_Frozen):
    """The receipt of the import: how far a file's scores lie from the framework's own, over the test rows."""

    rows: int = Field(gt=0)
    max_abs_difference: float = Field(ge=0)
    tolerance: float = Field(gt=0)
    tolerances: tuple[float, ...] = Field(default=(), exclude_if=not_)
    """The tolerance of each of several values a row, which may be of different sizes; `tolerance` is the least, and the
    difference is the one that is largest for its tolerance, in the unit of `tolerance`."""


class CallTime(_Frozen):
    """Microseconds that a call of the engine takes: the median of many, of parent and quantized version in turns."""

    rows: int = Field(gt=0)
    us: float = Field(gt=0)
    parent_us: float = Field(gt=0)

    @property
    def times_faster(self) -> float:
        return self.parent_us / self.us


class QuantizationReceipt(_Frozen):
    """What a quantization gains and costs, beside the version that it was made of, its parent.

    Differences are of scores: of a probability, or of a value in its own unit; of several a row, the largest one, of
    several values in standard deviations of each.
    """

    parent: str
    """Its tag, such as `customers:v2-wide`."""
    parent_digest: str
    size_bytes: int = Field(gt=0)
    parent_size_bytes: int = Field(gt=0)
    times: tuple[CallTime, ...] = Field(min_length=1)
    rows: int = Field(gt=0)
    """How many rows were compared."""
    rows_from: str
    max_abs_difference: float
    mean_abs_difference: float
    same_labels: float | None = Field(ge=0, le=1)
    """Share of rows whose label is the parent's; none for values."""
    max_abs_difference_of_examples: float
    """How far the examples' scores, which are the version's own, lie from the parent's."""
    max_abs_difference_in_company: float
    """How far scores move when a row that is far out joins their batch."""

    @property
    def times_smaller(self) -> float:
        return self.parent_size_bytes / self.size_bytes

    @property
    def times_faster(self) -> float:
        """The median over the sizes of batches."""
        return statistics.median(time.times_faster for time in self.times)


class Examples(_Frozen):
    """Real rows with the framework's own scores: a runner warms up on them, and refuses an engine that disagrees."""

    rows: tuple[tuple[float | None, ...], ...] | tuple[str, ...] | tuple[tuple[float | str | None, ...], ...] = Field(
        min_length=1
    )
    """As they are packed, None where a value is missing; texts where the model takes one."""
    scores: tuple[float | tuple[float, ...], ...]


class Card(_Frozen):
    """Everything a runner needs to know about a version before it opens the model file."""

    format: Literal[2, 3] = 2
    """3 where a feature has levels, may be missing, needs float64, or is a text beside others, or for new tasks, all
    unknown to older servers."""
    model: str
    version: str
    task: Task
    features: tuple[Feature, ...] = Field(min_length=1)
    classes: tuple[int | str, ...] = ()
    """Class labels in the order of the score columns; two where one score tells them apart, none for values."""
    outputs: tuple[str, ...] = Field(default=(), exclude_if=not_)
    """What each of several values, or labels, a row is called, in the order of the score columns."""
    source: Source
    files: dict[FileKind, ModelFile] = Field(min_length=1)
    verification: dict[FileKind, Verification] = Field(min_length=1)
    examples: Examples
    metrics: dict[str, float] = {}
    quantization: str | None = None
    """What became of the weights, such as `int8`; None: they are the framework's own."""
    quantized: QuantizationReceipt | None = None
    """Where there is a quantization. The scores of the examples are its own then, and `verification` compares with the
    parent's."""
    positive_from: float = Field(default=ABOVE_HALF, ge=0, le=1 + 2**-23)
    """The smallest float32 score from which a model of two classes predicts the second one. The default is of
    probabilities, and says that a tie goes to the first one, as XGBoost and scikit-learn's `argmax` have it."""
    predicts: Literal["labels", "label_lists", "scores", "probabilities", "records", "columns", "array"] = "labels"
    """What MLflow's own server gives of a classifier: labels, or each as a list of one; `scores` as ours for a Booster
    of XGBoost or LightGBM; each class's probability where the model was logged with
    `pyfunc_predict_fn="predict_proba"`. Of an ONNX model, all of `own_outputs`: as records, one for each row and
    probability of a list, or as columns. Of a network of PyTorch or Keras the only one of `own_outputs`, as an array.
    """
    own_classes: tuple[bool | int | float | str, ...] = ()
    """What the model itself calls its classes, as MLflow's JSON has them; empty: as `classes`."""
    reference: ModelFile | None = None
    """What its rows and scores were like, if that is known; see `reference.py`."""
    background: ModelFile | None = Field(default=None, exclude_if=not_)
    """Some of its rows, by which scores are explained, if they were kept; see `background.py`."""
    own_outputs: dict[str, OwnOutput] = {}
    """What an ONNX model, or a table that a model answers with, calls its outputs, in their order."""
    asked_by: AskedBy = Field(default="invocations", exclude_if=_is_usual)
    """How the server of a model that needs Python was asked when the version was connected, and is when it serves."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = self.feature_names
        if len(set(names)) != len(names):
            raise ValueError("feature names repeat")
        if any(feature.is_typed for feature in self.features) and self.format < 3:
            raise ValueError("features with levels, or that may be missing, belong into a card of format 3")
        if self.takes_float64 and self.format < 3:
            raise ValueError("features that need float64 belong into a card of format 3")
        if is_mixed(self.features) and self.format < 3:
            raise ValueError("texts beside other features belong into a card of format 3")
        datatype = self.row_format.schema.datatype
        for kind in self.files:
            if datatype not in kind.datatypes:
                raise ValueError(f"{kind.file_name} cannot take rows of {datatype}")
        if self.predicts in ("records", "columns", "array") and not self.own_outputs:
            raise ValueError(f"a model that answers with {self.predicts} must name its outputs")
        if self.predicts == "array" and len(self.own_outputs) != 1:
            raise ValueError(f"a model that answers with an array cannot have {len(self.own_outputs)} outputs")
        return self

    @model_validator(mode="after")
    def _task_fits(self) -> Self:
        count = len(self.classes)
        if not (count == 0 if self.task.is_of_values else count == 2 if self.task.has_threshold else count >= 3):
            raise ValueError(f"{self.task.in_words} cannot have {count} classes")
        if self.format < self.task.since_format:
            raise ValueError(f"{self.task.in_words} belongs into a card of format {self.task.since_format}")
        is_named = len(set(self.outputs)) == len(self.outputs) >= 2
        if not (is_named if self.task.has_outputs else not self.outputs):
            raise ValueError(f"{self.task.in_words} cannot have the outputs {', '.join(self.outputs) or 'of no name'}")
        if self.own_classes and len(self.own_classes) != len(self.classes):
            raise ValueError(f"a model cannot have {len(self.classes)} classes and {len(self.own_classes)} of its own")
        return self

    @model_validator(mode="after")
    def _examples_fit(self) -> Self:
        self.row_format.check_examples(self.examples.rows)
        if len(self.examples.scores) != len(self.examples.rows):
            raise ValueError("examples have another number of scores than of rows")
        return self

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)

    @property
    def row_format(self) -> RowFormat:
        """What a row is, without a server's limits; the same one for all cards of the same features."""
        return _row_format_of(self.features)

    @property
    def input_datatype(self) -> str:
        """The datatype as which its rows travel in tensors."""
        return self.row_format.schema.datatype

    @property
    def needs_python(self) -> bool:
        """Whether only a server with Python can score its rows, so that it is served as a remote version."""
        return FileKind.MLMODEL in self.files

    @property
    def takes_float64(self) -> bool:
        """Whether its rows are packed as float64."""
        return self.row_format.schema.precision is FLOAT64

    @property
    def scores_per_row(self) -> int:
        """1 for a value or two classes (see `scores.py`), else one per class or output."""
        columns = self.outputs or (() if self.task.has_threshold else self.classes)
        return len(columns) or 1

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files.values())


_row_format_of = lru_cache(maxsize=16)(row_format_of)


def read_card(folder: Path) -> Card:
    """Read `card.json` of an artefact. Raises `CardError` with the file's path and what is wrong with it."""
    path = folder / CARD_FILE
    try:
        return Card.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CardError(f"{path}: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "card"
        raise CardError(f"{path}: {where}: {first['msg']}") from error


def write_card(card: Card, folder: Path) -> None:
    """Write `card.json` into the artefact's folder."""
    (folder / CARD_FILE).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
