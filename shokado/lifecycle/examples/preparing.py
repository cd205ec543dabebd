"""Preparation: the name of a data set goes in, both of its example versions are in the model store afterwards, and
where it is wanted a third one, which is quantized.

Whatever is there already is kept: an artefact is not imported twice, a registered version is not trained twice.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runners.artefacts import repository
from runners.artefacts.artefact import Artefact
from runners.inputs.datatypes import BYTES
from shokado.lifecycle import datasets
from shokado.lifecycle.importing import registry
from shokado.lifecycle.importing.version import Imported, ImportOrder, ImportOutcome, import_from, present
from shokado.lifecycle.isolation import ProcessLimits, Stored, Work, isolated
from shokado.lifecycle.progress import step
from shokado.lifecycle.quantizing.quantize_order import QuantizeOrder
from shokado.lifecycle.quantizing.quantized_version import Quantized, QuantizeOutcome, quantize_version

if TYPE_CHECKING:
    from mlflow import MlflowClient

LABELS = ("v1", "v2")
WIDE = "v2-wide"
QUANTIZED = "v2-quantized"


@dataclass(frozen=True)
class PrepareOrder:
    """Which data set's versions to prepare, and whether the quantized one is wanted as well."""

    dataset: str
    quantized: bool = False

    def __post_init__(self) -> None:
        datasets.check_name(self.dataset)


def prepare_isolated(order: PrepareOrder) -> list[Stored]:
    """`prepare_all` in a process of its own, which is not started where nothing is missing.

    Raises `LifecycleError`: as `prepare_all` does, and as `isolated` does.
    """
    if _is_prepared(order):
        return prepare_all(order)
    registry.require_packages()
    return isolated(Work("shokado.lifecycle.examples", f"The preparation of {order.dataset}"), order, ProcessLimits())


def _is_prepared(order: PrepareOrder) -> bool:
    wanted = [*LABELS, QUANTIZED] if order.quantized and not _is_of_texts(order.dataset) else LABELS
    return all(present(order.dataset, label) for label in wanted)


def prepare_all(order: PrepareOrder) -> list[Stored]:
    """Make sure that all versions of the order can be served. Raises what training and importing raise."""
    stored = [imported.stored for imported in prepare(order.dataset)]
    if order.quantized and (made := prepare_quantized(order.dataset)):
        assert made.artefact.card.quantized is not None
        stored.append(Stored(made.artefact.tag, made.outcome, made.artefact.card.quantized.parent))
    return stored


def prepare(dataset: str) -> list[Imported]:
    """Make sure that `<dataset>:v1` and `<dataset>:v2` can be served. Raises what training and importing raise.

    When both are there it reads two small folders and imports nothing heavy.
    """
    datasets.check_name(dataset)
    found = {label: present(dataset, label) for label in LABELS}
    if all(found.values()):
        return [_kept(artefact) for artefact in found.values() if artefact]
    data = _load(dataset)
    with repository.exclusive("prepare"), registry.session() as client:
        return [_prepare_version(client, data, label) for label in LABELS]


def prepare_quantized(dataset: str) -> Quantized | None:
    """Make sure that `<dataset>:v2-quantized` can be served, beside those that `prepare` made.

    It is the quantized version of `<dataset>:v2-wide`, which is trained and imported for it. None for texts, whose
    models have no layers to quantize.
    """
    if artefact := present(dataset, QUANTIZED):
        return Quantized(artefact, QuantizeOutcome.ALREADY_THERE)
    if _is_of_texts(dataset):
        return None
    if present(dataset, WIDE) is None:
        data = _load(dataset)
        with repository.exclusive("prepare"), registry.session() as client:
            _prepare_version(client, data, WIDE)
    return quantize_version(QuantizeOrder(f"{dataset}:{WIDE}", QUANTIZED))


def _is_of_texts(dataset: str) -> bool:
    artefact = present(dataset, LABELS[0])
    return artefact is not None and artefact.card.input_datatype == BYTES


def train(dataset: str) -> list[registry.Registered]:
    """Train and register new versions of both recipes, whatever is registered; import nothing."""
    data = _load(dataset)
    with repository.exclusive("prepare"), registry.session() as client:
        from shokado.lifecycle.examples import training

        return [training.train(data, recipe, client) for recipe in training.recipes_of(data)]


def _load(dataset: str) -> datasets.DataSet:
    datasets.check_name(dataset)
    registry.require_packages()
    with step(f"{dataset}: load the data") as current:
        data = datasets.load(dataset)
        current.outcome = f"{len(data.train.rows):,} training and {len(data.test.rows):,} test rows"
    return data


def _prepare_version(client: "MlflowClient", data: datasets.DataSet, label: str) -> Imported:
    if artefact := present(data.name, label):
        return _kept(artefact)
    from shokado.lifecycle.examples import training

    registered = registry.find(client, data.name, label) or training.train(
        data, training.recipe_of(data, label), client
    )
    return import_from(client, ImportOrder(registered.uri, label))


def _kept(artefact: Artefact) -> Imported:
    return Imported(artefact, ImportOutcome.ALREADY_THERE)
