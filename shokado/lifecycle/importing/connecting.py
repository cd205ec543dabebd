"""Connecting: a model that only Python can score stays with a server that has loaded it, and the store gets its card.

    registry address -> signature and rows, out of files; nothing of the model is loaded -> features
    running server <- rows as they are -> what it takes and gives -> card
                   <- the same rows as a server sends them -> the same? (VerificationFailed)
    -> one rename into the store

Everything that runs the model's code is the other server, which whoever trusts the model has started.
"""

import shlex
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import ValidationError

from configuration.settings import RemoteSettings
from runners.artefacts import repository
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import AskedBy, Card, FileKind, Source, format_of, write_card
from runners.artefacts.integrity import describe_file
from shokado.lifecycle.errors import LifecycleError, VersionTaken
from shokado.lifecycle.importing import registry
from shokado.lifecycle.importing.version import Imported, ImportOrder, import_from
from shokado.lifecycle.progress import step

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class ConnectOrder:
    """What to connect, and as what. Raises `LifecycleError` for an address that is none.

    Attributes:
        source: the model and its names in the store; `reference` has rows that tell the levels of categories.
        url: the scoring server's address, up to `/invocations` or `/v2`.
        classes: the labels that the model gives, in their order; by default those that it gives for the rows.
        served_as: the model's name at a server of the Open Inference Protocol; None: the server is MLflow's own.
    """

    source: ImportOrder
    url: str
    classes: tuple[str, ...] = ()
    served_as: str | None = None

    def __post_init__(self) -> None:
        try:
            RemoteSettings(url=self.url)
        except ValidationError as error:
            raise LifecycleError(f"--url: {error.errors()[0]['msg'].removeprefix('Value error, ')}.") from None

    @property
    def asked_by(self) -> AskedBy:
        return "invocations" if self.served_as is None else "open_inference"

    @property
    def placement(self) -> str:
        """The version's settings for `serving.yaml`, in one line of YAML."""
        remote = {"url": self.url} | ({} if self.served_as is None else {"model": self.served_as, "version": None})
        settings = {self.source.version: {"placement": "remote", "remote": remote}}
        return yaml.safe_dump(settings, default_flow_style=True, sort_keys=False, width=inf).strip()[1:-1]

    def command(self, option: str) -> str:
        """What somebody types for the same with one more option."""
        source = self.source
        words = ["shokado", "models", "connect", source.uri, "--as", source.version, "--url", self.url]
        words += ["--name", source.model] if source.model is not None else []
        words += ["--model", self.served_as] if self.served_as is not None else []
        words += ["--reference", str(source.reference)] if source.reference is not None else []
        return f"{shlex.join(words)} {option}"


def connect_version(order: ConnectOrder) -> Imported:
    """Put a card into the store by which the model is served as a remote version, unless it is there.

    Raises:
        SourceNotFound: the registry has no such model, or no scoring server answers.
        UnsupportedModel, ReferenceRefused: it takes or gives what rows and scores cannot say, or has no rows to ask.
        VerificationFailed: it answers otherwise for rows as a server sends them.
        VersionTaken: another source, or one that is asked in another way, is there under that label, and is to stay.
    """
    registry.require_packages()
    with repository.exclusive("registry"), registry.session() as client:
        connected = import_from(client, order.source, partial(_connect, order))
    if connected.artefact.card.asked_by != order.asked_by:
        by = connected.artefact.card.asked_by
        raise VersionTaken(f"{connected.artefact.tag} is there, and is asked by {by}.", order.command("--replace"))
    return connected


def _connect(
    order: ConnectOrder, client: "MlflowClient | None", source: ImportOrder, uri: str, stage: Path
) -> Artefact:
    from shokado.lifecycle.importing.asking import QuestionedServer
    from shokado.lifecycle.importing.label_rules import class_labels
    from shokado.lifecycle.importing.scoring_client import ScoringClient
    from shokado.lifecycle.importing.signature_rows import rows_of_signature

    assert client is not None, "what is in a registry needs a session"
    tag = f"{source.name}:{source.version}"
    prepared, downloads = stage / "prepared", stage / "downloads"
    prepared.mkdir()
    downloads.mkdir()
    with step(f"{tag}: read {uri}") as current:
        described = registry.describe(client, uri, downloads)
        table = rows_of_signature(described, source.reference)
        current.outcome = f"{len(table.features)} features; {table.said}"
    path = prepared / FileKind.MLMODEL.file_name
    path.write_bytes((described.folder / "MLmodel").read_bytes())
    with step(f"{tag}: ask {order.url}") as current:
        server = ScoringClient(order.url, uri, table.features, order.served_as)
        asked = QuestionedServer(server, uri, table, order.classes, order.command("--classes <label>,<label>"))
        receipt = asked.verified(source.tolerance)
        card = Card(
            format=format_of(asked.task, asked.features),
            model=source.name,
            version=source.version,
            task=asked.task,
            features=asked.features,
            classes=class_labels(asked.labels),
            own_classes=asked.labels,
            outputs=asked.outputs,
            asked_by=order.asked_by,
            source=Source(uri=uri, run_id=described.run_id, flavor=registry.PYTHON, framework=described.framework),
            files={FileKind.MLMODEL: describe_file(path)},
            verification={FileKind.MLMODEL: receipt},
            examples=asked.examples,
            metrics=described.metrics,
        )
        given = f"{card.task}, {len(card.classes)} labels" if card.classes else str(card.task)
        given += f", {', '.join(card.outputs)}" if card.outputs else ""
        current.outcome = f"{given}; {receipt.rows} rows, largest difference {receipt.max_abs_difference:.1e}"
    with step(f"{tag}: store"):
        write_card(card, prepared)
        return repository.put(prepared, stage, {"dataset": "unknown", "task": card.task.value, "source": uri})
