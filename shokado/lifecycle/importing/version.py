"""Import: a model of the MLflow registry, or of a file, goes in, a verified artefact in the BentoML store comes out.

    registry address -> load (SourceNotFound, UnsupportedModel) -> describe -> convert (UnsupportedModel)
                     -> verify (VerificationFailed) -> reference (ReferenceRefused) -> card
                     -> one rename into the store

Whatever fails, and whenever the process is killed, the store is as it was before. An artefact that is there already
is found without importing MLflow, scikit-learn or XGBoost.
"""

import dataclasses
import hashlib
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from pathlib import Path
from typing import TYPE_CHECKING

from runners.artefacts import repository
from runners.artefacts.artefact import Artefact, ArtefactDamaged
from runners.artefacts.card import Card, Source, format_of, write_card
from runners.artefacts.integrity import describe_file
from runners.artefacts.reference import write_reference
from shokado.lifecycle.errors import (
    CanCarryCode,
    FeaturesUnknown,
    LifecycleError,
    NeedsPython,
    UnsupportedModel,
    VerificationFailed,
    VersionTaken,
)
from shokado.lifecycle.importing import names, registry
from shokado.lifecycle.importing.checkpoints import Checkpoint
from shokado.lifecycle.importing.onnx_files import OnnxFile
from shokado.lifecycle.importing.registry import Formats
from shokado.lifecycle.isolation import ProcessLimits, Stored, Work, isolated
from shokado.lifecycle.progress import say, step

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from shokado.lifecycle.importing.conversion import ModelDescription
    from shokado.lifecycle.importing.registry import LoadedModel
    from shokado.lifecycle.importing.verification import Verified


Make = Callable[["MlflowClient | None", "ImportOrder", str, Path], Artefact]
"""What makes an artefact of the model at an exact address, in a folder of its own, and puts it into the store."""


class ImportOutcome(StrEnum):
    """What an import did to the store."""

    ALREADY_THERE = "already imported"
    IMPORTED = "imported"
    REPLACED = "replaced"


class WhenTaken(Enum):
    """What to do when another source is there under the label."""

    REFUSE = auto()
    REPLACE = auto()
    """Import in any case, in place of what is there."""
    BESIDE = auto()
    """Import under the label with the registry's number behind it, or if that is taken too, with a digest."""


@dataclass(frozen=True)
class ImportOrder:
    """What to import, and as what. Raises `LifecycleError` if the store cannot take the names.

    Attributes:
        uri: `models:/<name>/<number>`, `models:/<name>/latest`, `models:/<name>@<alias>`, `models:/<model id>` or
            `runs:/<id>/<path>`.
        version: label in the store, such as `v3`.
        model: name in the store; by default the registered model's. `runs:/` has none, so it must be given.
        when_taken: what to do when another source is there under that label.
        tolerance: largest difference that verification allows: of a probability; of a value, in units of the values'
            standard deviation.
        formats: which formats the registry's model may have.
        reference: a CSV or Parquet file of rows for the version's reference; by default what the registry has.
        file: a file that is imported in place of a registry's model; `uri` is its own then.
        float64: give it rows of float64, also where those of float32 are close enough.
        keep_rows: keep some rows of the reference's data, by which scores are explained.
    """

    uri: str
    version: str
    model: str | None = None
    when_taken: WhenTaken = WhenTaken.REFUSE
    tolerance: float = 1e-4
    formats: Formats = Formats.ANY
    reference: Path | None = None
    file: Checkpoint | OnnxFile | None = None
    float64: bool = False
    keep_rows: bool = True

    def __post_init__(self) -> None:
        if self.file is None:
            registry.check_address(self.uri)
        names.check_name("version label", self.version)
        try:
            names.check_name("model name", self.name)
        except LifecycleError as error:
            raise LifecycleError(str(error), self.command(name=names.fitting_name(self.name))) from None

    @property
    def name(self) -> str:
        name = self.model or (registry.model_name(self.uri) if self.file is None else self.file.model_name)
        if name is None:
            message = f"{self.uri} does not say which model it is a version of: add --name."
            raise LifecycleError(message, self.command(name="<name>"))
        return name

    def command(self, name: str, label: str | None = None) -> str:
        """What somebody types to import the same by hand under other names; they may read any format."""
        source = shlex.join([self.uri] if self.file is None else self.file.typed)
        flags = (" --float64" if self.float64 else "") + ("" if self.keep_rows else " --no-rows")
        return f"shokado models import {source} --name {name} --as {label or self.version}{flags}"

    def connecting(self, uri: str) -> str:
        """What somebody types to serve that model, the one that is meant, where MLflow's own server scores it."""
        words = ["shokado", "models", "connect", uri, "--as", self.version, "--name", self.name]
        return shlex.join([*words, "--url", registry.SCORING_SERVER])

    @property
    def typed(self) -> str:
        """What somebody types for all of this."""
        source = [self.uri] if self.file is None else self.file.typed
        words = ["shokado", "models", "import", *source, "--as", self.version]
        words += ["--name", self.model] if self.model is not None else []
        words += ["--tolerance", str(self.tolerance)] if self.tolerance != ImportOrder.tolerance else []
        words += ["--reference", str(self.reference)] if self.reference is not None else []
        flags = {
            "--replace": self.when_taken is WhenTaken.REPLACE,
            "--beside": self.when_taken is WhenTaken.BESIDE,
            "--no-pickle": self.formats is Formats.WITHOUT_CODE,
            "--float64": self.float64,
            "--no-rows": not self.keep_rows,
        }
        return shlex.join([*words, *(flag for flag, on in flags.items() if on)])


@dataclass(frozen=True)
class Imported:
    """The artefact, and whether it was there before."""

    artefact: Artefact
    outcome: ImportOutcome

    @property
    def stored(self) -> Stored:
        """The same, in the words of a process of its own."""
        return Stored(self.artefact.tag, self.outcome, self.artefact.card.source.uri)

    @classmethod
    def of(cls, stored: Stored) -> "Imported":
        """What a process of its own has left in the store. Raises `LifecycleError` if it is not there."""
        try:
            artefact = repository.look_up(*stored.tag.split(":"))
        except ArtefactDamaged as error:
            raise LifecycleError(f"{error}.") from error
        if artefact is None:
            raise LifecycleError(f"{stored.tag} was {stored.outcome}, and is not in the store any more.")
        return cls(artefact, ImportOutcome(stored.outcome))


def present(model: str, version: str) -> Artefact | None:
    """The artefact if a server can use it; one that it would refuse counts as absent."""
    try:
        return repository.look_up(model, version)
    except ArtefactDamaged:
        return None


def import_isolated(order: ImportOrder, limits: ProcessLimits) -> Imported:
    """`import_version` in a process of its own, which is not started for what is there already.

    Raises `LifecycleError`: as `import_version` does, and as `isolated` does.
    """
    if order.reference is None and (artefact := already_there(order)):
        return Imported(artefact, ImportOutcome.ALREADY_THERE)
    registry.require_packages()
    work = Work("shokado.lifecycle.importing", f"The import of {order.uri}", order.typed)
    return Imported.of(*isolated(work, order, limits))


def import_version(order: ImportOrder) -> Imported:
    """Carry out the order; when the artefact is there already, without opening the registry.

    Also such an artefact gets the reference that is ordered.

    Raises:
        SourceNotFound, UnsupportedModel, VerificationFailed, ReferenceRefused: see the module's docstring.
        VersionTaken: another source is there under that label, and is to stay.
    """
    imported = _imported(order)
    if order.reference is not None and imported.outcome is ImportOutcome.ALREADY_THERE:
        artefact = set_reference(imported.artefact.tag, order.reference, keep_rows=order.keep_rows)
        return Imported(artefact, imported.outcome)
    return imported


def set_reference(tag: str, path: Path, *, keep_rows: bool = True) -> Artefact:
    """Give an artefact of the store the reference of that file's rows, and some of them for explanations, unless none
    may be kept. Raises `LifecycleError`.
    """
    registry.require_packages()
    from shokado.lifecycle.importing.reference_data import replace_reference

    return replace_reference(tag, path, keep_rows=keep_rows)


def _imported(order: ImportOrder) -> Imported:
    if artefact := already_there(order):
        return Imported(artefact, ImportOutcome.ALREADY_THERE)
    # Of the many workers of a server that want the same version at once, one opens the registry, which takes 300 MB.
    with repository.exclusive("registry"):
        if artefact := already_there(order):
            return Imported(artefact, ImportOutcome.ALREADY_THERE)
        if order.file is not None:
            registry.require_packages()
            return import_from(None, order)
        with registry.session() as client:
            return import_from(client, order)


def already_there(order: ImportOrder) -> Artefact | None:
    """The artefact that importing an exact address would find, without asking the registry; None for other addresses.

    Raises `VersionTaken`.
    """
    is_exact = order.file is not None or registry.is_exact(order.uri)
    return _reusable(_labelled(order, order.uri), order.uri) if is_exact else None


def import_from(client: "MlflowClient | None", order: ImportOrder, make: "Make | None" = None) -> Imported:
    """`import_version` over a registry session that is open already; None: for a file, which needs none.

    `make` makes the artefact in another way.
    """
    uri = order.uri if client is None or order.file is not None else registry.resolve(client, order.uri)
    with repository.staging() as stage:
        # Asked under the lock: another process may have imported it in the meantime.
        order = _labelled(order, uri)
        if artefact := _reusable(order, uri):
            return Imported(artefact, ImportOutcome.ALREADY_THERE)
        there = _say_what_is_replaced(order)
        artefact = (make or _import)(client, order, uri, stage)
        return Imported(artefact, ImportOutcome.REPLACED if there else ImportOutcome.IMPORTED)


def _say_what_is_replaced(order: ImportOrder) -> bool:
    try:
        artefact = repository.look_up(order.name, order.version)
    except ArtefactDamaged as error:
        say(f"{error}; it is imported again")
        return True
    return artefact is not None


def _labelled(order: ImportOrder, uri: str) -> ImportOrder:
    """The order with the label that it gets in the end: the first one that is free or has the same source."""
    if order.when_taken is not WhenTaken.BESIDE:
        return order
    number = re.split("[/+]", uri)[-1]
    digest = hashlib.sha256(uri.encode()).hexdigest()[:8]
    for label in (order.version, f"{order.version}-{number}"):
        artefact = present(order.name, label)
        if artefact is None or _is_import_of(artefact, uri, order):
            return dataclasses.replace(order, version=label)
    return dataclasses.replace(order, version=f"{order.version}-{digest}")


def _reusable(order: ImportOrder, uri: str) -> Artefact | None:
    artefact = None if order.when_taken is WhenTaken.REPLACE else present(order.name, order.version)
    if artefact is None or _is_import_of(artefact, uri, order):
        return artefact
    quantized = f"quantized ({artefact.card.quantization}) from " if artefact.card.quantization else ""
    narrow = " with rows of float32" if order.float64 and not artefact.card.takes_float64 else ""
    raise VersionTaken(
        f"{artefact.tag} is {quantized}{artefact.card.source.uri}{narrow}, not {uri}{narrow and ' with float64'}: "
        "choose another label, or add --replace.",
        dataclasses.replace(order, uri=uri).command(order.name, "<label>"),
    )


def _is_import_of(artefact: Artefact, uri: str, order: ImportOrder) -> bool:
    """Whether an import of that address gives this artefact; what is quantized has its parent's address."""
    card = artefact.card
    return card.source.uri == uri and card.quantization is None and (card.takes_float64 or not order.float64)


def _import(client: "MlflowClient | None", order: ImportOrder, uri: str, stage: Path) -> Artefact:
    from shokado.lifecycle.importing import background_rows, conversion, reference_data

    tag = f"{order.name}:{order.version}"
    prepared, downloads = stage / "prepared", stage / "downloads"
    prepared.mkdir()
    downloads.mkdir()
    with step(f"{tag}: load {uri}") as current:
        try:
            source = _loaded(client, order, uri, downloads)
        except CanCarryCode as error:
            by_hand = dataclasses.replace(order, uri=uri).command(order.name)
            raise CanCarryCode(f"{error} It will be {tag}.", by_hand) from error
        except FeaturesUnknown as error:
            raise FeaturesUnknown(
                str(error), f"{error.next_command} --name {order.name} --as {order.version}"
            ) from error
        except NeedsPython as error:
            raise NeedsPython(
                f"{error} Run `{registry.serve_command(uri)}`, and then:", order.connecting(uri)
            ) from error
        description = conversion.describe(source)
        current.outcome = f"{source.framework}, {_shown_task(description)}, {len(description.features)} features"
    description, verified = _converted(tag, order, source, description, prepared)
    card = _card(order, source, description, prepared, verified)
    with step(f"{tag}: reference") as current:
        if order.reference is not None:
            made = reference_data.reference_of_file(order.reference, card, prepared)
        else:
            made = reference_data.reference_of_import(client, source, description.dataset, card, prepared)
        current.outcome = made.said
        if made.reference is not None:
            card = card.model_copy(update={"reference": write_reference(made.reference, prepared)})
        card = background_rows.with_background(card, made.background if order.keep_rows else None, prepared)
    with step(f"{tag}: store") as current:
        write_card(card, prepared)
        labels = {"dataset": description.dataset or "unknown", "task": description.task.value, "source": uri}
        artefact = repository.put(prepared, stage, labels)
        current.outcome = f"{artefact.card.size_bytes / 1024:,.0f} KiB"
    return artefact


def _loaded(client: "MlflowClient | None", order: ImportOrder, uri: str, downloads: Path) -> "LoadedModel":
    if order.file is not None:
        return order.file.load()
    assert client is not None, "what is in a registry needs a session"
    return registry.fetch(client, uri, downloads, order.formats)


def _converted(
    tag: str, order: ImportOrder, source: "LoadedModel", description: "ModelDescription", folder: Path
) -> tuple["ModelDescription", "Verified"]:
    """Files that score as the framework does, in the first precision of rows in which they do."""
    from shokado.lifecycle.importing.conversion import candidates

    first, *others = candidates(source, description, wide=order.float64)
    try:
        return first, _verified(tag, order, source, first, folder)
    except (VerificationFailed, UnsupportedModel) as error:
        # What has no conversion to float32 has none to float64 either.
        if not others or (isinstance(error, UnsupportedModel) and not first.is_wide):
            raise
        of_first = error
    try:
        return others[0], _verified(tag, order, source, others[0], folder)
    except (VerificationFailed, UnsupportedModel) as error:
        raise (error if first.is_wide else of_first) from None


def _verified(
    tag: str, order: ImportOrder, source: "LoadedModel", description: "ModelDescription", folder: Path
) -> "Verified":
    from shokado.lifecycle.importing import conversion, verification

    float64 = " for rows of float64" if description.is_wide else ""
    with step(f"{tag}: convert{float64}") as current:
        kinds = conversion.convert(source.model, description, folder)
        current.outcome = ", ".join(kind.file_name for kind in kinds)
    with step(f"{tag}: verify") as current:
        verified = verification.verify(source, description, folder, kinds, order.tolerance)
        current.outcome = "largest difference " + ", ".join(
            f"{kind} {receipt.max_abs_difference:.1e}" for kind, receipt in verified.files.items()
        )
        if verified.close_calls:
            current.outcome += f"; {verified.close_calls} labels that rounding to float32 decides"
        if verified.is_rounded:
            said = "a number that float32 cannot tell from a threshold may take its other side; --float64 mends that"
            current.outcome += f"; {said}"
        if description.is_wide:
            current.outcome += "; its rows are float64"
    return verified


def _shown_task(description: "ModelDescription") -> str:
    return f"{description.task} of {len(description.outputs)}" if description.outputs else str(description.task)


def _card(
    order: ImportOrder,
    source: "LoadedModel",
    description: "ModelDescription",
    folder: Path,
    verified: "Verified",
) -> Card:
    return Card(
        format=format_of(description.task, description.features),
        model=order.name,
        version=order.version,
        task=description.task,
        features=description.features,
        classes=description.classes,
        outputs=description.outputs,
        source=Source(uri=source.uri, run_id=source.run_id, flavor=source.flavor, framework=source.framework),
        files={kind: describe_file(folder / kind.file_name) for kind in verified.files},
        verification=verified.files,
        examples=verified.examples,
        metrics=source.metrics,
        positive_from=description.positive_from,
        predicts=description.predicts,
        own_classes=description.own_classes,
        own_outputs=description.own_outputs,
    )
