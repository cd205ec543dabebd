"""ONNX files that no MLflow registry has: bare ones, and those that `bentoml.onnx.save_model` has put into its store.

A path or a BentoML tag goes in, with what somebody says of the file; a loaded model comes out. Names and types of its
columns are those that are said, else those of its inputs where each is a column, of its metadata, or of a table of
rows. What answers for the file is the evaluator of the onnx package, which shares nothing with ONNX Runtime, where it
runs the file in time. Importing this module imports no framework.
"""

import hashlib
import json
import re
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from runners.artefacts import repository
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import CARD_FILE
from shokado.lifecycle.errors import FeaturesUnknown, SourceNotFound, UnsupportedModel
from shokado.lifecycle.importing.column_names import ColumnName, columns_of, rows_of, signature_of
from shokado.lifecycle.importing.names import fitting_name
from shokado.lifecycle.importing.output_meaning import OutputMeaning
from shokado.lifecycle.importing.registry import ONNX_FILE, LoadedModel

if TYPE_CHECKING:
    import pandas as pd
    from onnx import ModelProto

    from shokado.lifecycle.importing.onnx_models import OnnxModel

SUFFIX = ".onnx"
_TAG = re.compile(r"(?P<name>[a-z0-9][-._a-z0-9]*):(?P<version>[a-z0-9][-._a-z0-9]*)")
_BENTOML = "bentoml.onnx"
_BENTOML_FILE = "saved_model.onnx"
_LATEST = "latest"
_DIGITS = 16
"""How many of a digest's 64 tell files apart."""
_PATIENCE_S = 2.0
"""What the evaluator may take for 256 rows. A verification asks for some thirty times as many."""


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file. Raises `SourceNotFound` where there is none, and `UnsupportedModel` for what it cannot be.

    Attributes:
        address: as it was typed: a path, or a tag of BentoML's store.
        columns: what its columns are called, in their order; empty: what the file says.
        said: what its outputs mean.
        table: a CSV or Parquet file of rows like those that it was trained on; what it has of other columns is ignored
            where names are known.
    """

    address: str
    columns: tuple[ColumnName, ...] = ()
    said: OutputMeaning = field(default_factory=OutputMeaning)
    table: Path | None = None

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise SourceNotFound(f"There is no file {self.path}.")

    @cached_property
    def tag(self) -> str | None:
        """The exact tag in BentoML's store; None for a file."""
        match = _TAG.fullmatch(self.address)
        if match is None:
            return None
        name, version = match["name"], match["version"]
        if version == _LATEST:
            pointer = repository.folder_of(name, _LATEST)
            version = pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else _LATEST
        return f"{name}:{version}"

    @cached_property
    def path(self) -> Path:
        if self.tag is None:
            return Path(self.address)
        folder = repository.folder_of(*self.tag.split(":"))
        if not (folder / repository.MODEL_YAML).is_file():
            raise SourceNotFound(f"BentoML's store {repository.home() / 'models'} has no {self.tag}.")
        if (folder / CARD_FILE).is_file():
            raise UnsupportedModel(
                f"{self.tag} is a version of Shokado's already, and can be served as it is.",
                f"shokado serve {self.tag}",
            )
        if (module := str(_described(folder).get("module"))) != _BENTOML:
            raise UnsupportedModel(
                f"{self.tag} was saved with {module}, and only what {_BENTOML} saves is read from BentoML's store: log "
                "others with MLflow."
            )
        return folder / _BENTOML_FILE

    @property
    def model_name(self) -> str | None:
        """What the store calls the model; a file does not say it."""
        return model_name(self.address)

    @property
    def label(self) -> str:
        """What it is called beside others."""
        return fitting_name(self.path.stem if self.tag is None else self.tag.split(":")[1])

    @cached_property
    def uri(self) -> str:
        """Its name, and digests of its content and of what is said of it."""
        said = json.dumps([[column.typed for column in self.columns], *vars(self.said).values()])
        order = hashlib.sha256(said.encode()).hexdigest()
        name = f"file:{self.path.name}" if self.tag is None else f"bentoml:{self.tag}"
        return f"{name}@{self._content[:_DIGITS]}+{order[:_DIGITS]}"

    @property
    def typed(self) -> list[str]:
        """What somebody types for it, in words."""
        columns = ",".join(column.typed for column in self.columns)
        return [self.address, *(["--features", columns] if columns else []), *self.said.typed]

    def load(self) -> LoadedModel:
        """The file as a model that the evaluator, or else ONNX Runtime, answers for.

        Raises `FeaturesUnknown` where nobody says what its columns are called, and `UnsupportedModel` where the file
        and what is said of it do not fit.
        """
        import onnxruntime

        from shokado.lifecycle.importing import onnx_models

        classes = self.said.classes or tuple(self._stated("classes"))
        said = replace(self.said, classes=classes)

        def read(has_classes: bool) -> "OnnxModel":
            model = onnx_models.read(self._graph)
            return onnx_models.as_classifier(model, is_logits=said.is_logits) if has_classes else model

        model = judged(said.settled(self.path.name, read))
        columns, frame = self._columns(model)
        judge = f"onnxruntime {onnxruntime.__version__} alone"
        if model.evaluator is not None:
            import onnx

            judge = f"onnx.reference {onnx.__version__}"
        maker = f"{self._graph.producer_name} {self._graph.producer_version}".strip() or "somebody's own"
        return LoadedModel(
            model=model,
            uri=self.uri,
            run_id="",
            flavor=ONNX_FILE,
            framework=f"onnx of {maker}, compared with {judge}",
            signature=signature_of(columns, model.columns, frame),
            example=frame,
            metrics={},
            metadata={},
        )

    @cached_property
    def _graph(self) -> "ModelProto":
        import onnx

        try:
            graph = onnx.load(self.path)
        except Exception as error:  # of protobuf, onnx and the file system
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UnsupportedModel(f"{self.path} cannot be read as an ONNX file: {reason}") from error
        if not graph.graph.output:
            raise UnsupportedModel(f"{self.path} is no ONNX file: it gives nothing.")
        return graph

    @cached_property
    def _content(self) -> str:
        """The digest of the file, and of those beside it that hold its weights."""
        from onnx.external_data_helper import ExternalDataInfo, uses_external_data

        digest = hashlib.sha256(self.path.read_bytes())
        outside = {ExternalDataInfo(item).location for item in self._stored if uses_external_data(item)}
        for name in sorted(outside):
            with (self.path.parent / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    @property
    def _stored(self) -> list[Any]:
        """Its weights as the file has them."""
        import onnx

        # Read with the weights first, which refuses those that lie outside of its folder.
        assert self._graph
        body = onnx.load(self.path, load_external_data=False).graph
        return [*body.initializer, *(item.t for node in body.node for item in node.attribute if item.HasField("t"))]

    def _columns(self, model: "OnnxModel") -> tuple[tuple[ColumnName, ...], "pd.DataFrame | None"]:
        """What its columns are called, and rows of them where there is a table."""
        width = model.n_features_in_
        columns = self.columns or tuple(ColumnName(str(name)) for name in self._stated("feature_names"))
        own = tuple(source.name for source in model.inputs)
        if not columns and len(own) == width:
            columns = tuple(map(ColumnName, own))
        if not columns and self.table is not None and len(names := columns_of(self.table)) == width:
            columns = tuple(map(ColumnName, names))
        if not columns:
            lies = f", and {self.table} has {len(columns_of(self.table))} columns" if self.table is not None else ""
            raise FeaturesUnknown(
                f"{self.address} takes {width} columns, and does not say what they are called{lies}: name them with "
                "--features, in their order, or give a --reference that has these columns alone.",
                shlex.join(["shokado", "models", "import", self.address])
                + ' --features "<names, with commas>"'
                + "".join(f" {shlex.quote(word)}" for word in self.said.typed),
            )
        if len(columns) != width:
            raise UnsupportedModel(f"{len(columns)} features are named, and {self.address} takes {width} columns.")
        if len(own) == width > 1 and {column.name for column in columns} != set(own):
            raise UnsupportedModel(f"{self.address} calls its inputs {', '.join(own)}: --features has other names.")
        by_name = {column.name: column for column in columns}
        if len(own) == width > 1:
            columns = tuple(by_name[name] for name in own)
        return columns, None if self.table is None else rows_of(self.table, columns, model.columns)

    def _stated(self, key: str) -> list[Any]:
        """A list in the file's metadata, or in those of BentoML's model; empty where there is none."""
        stated: Any = {item.key: item.value for item in self._graph.metadata_props}.get(key)
        if stated is None and self.tag is not None:
            stated = (_described(self.path.parent).get("metadata") or {}).get(key)
        if stated is None:
            return []
        try:
            found = json.loads(stated) if isinstance(stated, str) else stated
        except ValueError:
            found = None
        if not isinstance(found, list) or not all(isinstance(value, int | str) for value in found):
            raise UnsupportedModel(f"The metadata {key} of {self.address} are no JSON list of names.")
        return found


def is_named(address: str) -> bool:
    """Whether an address is that of a file, or a tag of BentoML's store."""
    is_path = address.lower().endswith(SUFFIX) and not address.startswith(("models:/", "runs:/"))
    return is_path or _TAG.fullmatch(address) is not None


def model_name(address: str) -> str | None:
    """What BentoML's store calls the model of such an address; None for a file."""
    match = _TAG.fullmatch(address)
    return match["name"] if match else None


def imported_before(address: str) -> Artefact | None:
    """The version that a tag is of, where it is one of Shokado's own. Raises `ArtefactDamaged`."""
    match = _TAG.fullmatch(address)
    if match is None or not (repository.folder_of(match["name"], match["version"]) / CARD_FILE).is_file():
        return None
    return repository.look_up(match["name"], match["version"])


def judged(model: "OnnxModel") -> "OnnxModel":
    """The model with the evaluator of the onnx package to answer for it, where that runs it, and in time."""
    from onnx.reference import ReferenceEvaluator

    from shokado.lifecycle.importing.onnx_models import ZipMap, probes

    try:
        found = replace(model, evaluator=ReferenceEvaluator(model.graph, new_ops=[ZipMap]))
        began = time.process_time()
        found.run(probes(model.columns))
        return found if time.process_time() - began < _PATIENCE_S else model
    except Exception:  # operators that it has not, or has otherwise, raise whatever they do
        return model


def _described(folder: Path) -> Mapping[str, Any]:
    """What BentoML has written about a model."""
    found = yaml.safe_load((folder / repository.MODEL_YAML).read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}
