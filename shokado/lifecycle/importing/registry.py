"""The MLflow registry: where it is, which versions it holds, and a model out of it by address.

`models:/customers/1`, `models:/customers@champion` or `runs:/<id>/model` goes in; a loaded model, its description
and its exact address come out. `MLFLOW_TRACKING_URI` names the registry; without it, it is the SQLite file
`var/mlflow.db` of this project. Importing this module does not import MLflow.
"""

import importlib.util
import logging
import math
import os
import re
import shlex
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from configuration.credentials import without_credentials
from shokado.lifecycle.errors import CanCarryCode, MissingPackage, NeedsPython, SourceNotFound, UnsupportedModel
from shokado.lifecycle.importing.names import fitting_name
from shokado.lifecycle.loggers import at_level
from shokado.lifecycle.progress import step

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import Model, ModelSignature
    from mlflow.models.model import ModelInfo

_CHECKOUT = Path(__file__).resolve().parents[3]
PROJECT = _CHECKOUT if (_CHECKOUT / "pyproject.toml").is_file() else Path.cwd()
"""The checkout; for an installed package the folder it is used in."""
VERSION_TAG = "shokado.version"
FLAVORS = ("xgboost", "lightgbm", "catboost", "sklearn", "onnx", "pytorch", "keras", "statsmodels")
CHECKPOINT = "checkpoint"
"""In place of a flavor, for a file that no registry has."""
ONNX_FILE = "onnx file"
"""The same for an ONNX file, be it in BentoML's store."""
PYTHON = "python_function"
"""The flavor of everything that MLflow's own server can score."""
SCORING_SERVER = "http://127.0.0.1:5001"
"""Where the commands that are offered let it listen: MLflow's own default is the port of its registry."""
INSTALL_COMMAND = "uv pip install -r requirements/train.txt"
FRAMEWORKS_COMMAND = "make frameworks"

_LIGHTGBM_BOOSTER = "lightgbm.basic.Booster"
_SAFE_XGBOOST_CLASS = re.compile(r"xgboost\.(core\.Booster|sklearn\.XGB\w+)")
_SAFE_SKOPS_TYPES = frozenset(
    {
        "collections.OrderedDict",
        "lightgbm.basic.Booster",
        "lightgbm.sklearn.LGBMClassifier",
        "lightgbm.sklearn.LGBMRanker",
        "lightgbm.sklearn.LGBMRegressor",
        "numpy.dtype",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
    }
)
"""What skops does not trust by itself, and what cannot run code: they hold arrays and numbers, and call nothing that
they are given. A doctored tree may lead its reader astray in memory, which ends the import's process (decision 31). A
Booster of LightGBM is the text that its `model.lgb` would be, read by the same parser (decision 49)."""

_CODE_IN_FORMATS = {
    "pytorch": "PyTorch stores modules as pickle, or as pt2, of which it evaluates expressions",
    "keras": "a file of Keras names what to build it with, and may have functions of its own",
    "statsmodels": "statsmodels stores results as pickle",
}
_OTHER_FORMATS = {
    **dict.fromkeys(("pytorch", "keras"), "as the ONNX file that it exports to"),
    "statsmodels": "as a line of scikit-learn in the format skops",
}
_PACKAGES = {
    "mlflow": "mlflow",
    "onnx": "onnx",
    "onnxmltools": "onnxmltools",
    "pandas": "pandas",
    "skl2onnx": "skl2onnx",
    "sklearn": "scikit-learn",
    "xgboost": "xgboost-cpu",
}
_FRAMEWORK_PACKAGES = {
    "lightgbm": ("lightgbm",),
    "catboost": ("catboost",),
    "pytorch": ("torch", "onnxscript"),
    "keras": ("keras", "torch", "onnxscript"),
    "statsmodels": ("statsmodels",),
    CHECKPOINT: ("torch", "onnxscript"),
}
"""What reading and exporting a model of the flavor needs beside those above."""
_EXACT = re.compile(r"models:/(?P<name>[^/@]+)/(?P<version>\d+)")
_LOGGED = re.compile(r"models:/(?P<model_id>m-[0-9a-f]{32})")
_LATEST = re.compile(r"models:/(?P<name>[^/@]+)(/latest)?")
_ALIAS = re.compile(r"models:/(?P<name>[^/@]+)@(?P<alias>[^/@]+)")
_RUN = re.compile(r"runs:/(?P<run_id>[^/]+)/.+")


class Formats(Enum):
    """Which formats a model may be stored in."""

    ANY = auto()
    WITHOUT_CODE = auto()
    """None that can run code of the model's author when it is read, such as pickle."""


@dataclass(frozen=True)
class Registered:
    """One version of a registered model."""

    name: str
    version: int

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model out of the registry, with what MLflow knows about it.

    Attributes:
        model: the framework's own object, such as `XGBClassifier` or a scikit-learn `Pipeline`; an `OnnxModel`.
        uri: its exact address: an alias is resolved to the version it means now.
        run_id: the run that logged it, or "".
        flavor: one of `FLAVORS`, `CHECKPOINT`, or `ONNX_FILE`.
        framework: package and version that trained it, such as `xgboost 3.2.0`.
        example: the logged input example as pandas or numpy, or None.
        metrics: the run's finite metrics.
        metadata: what the training put into the model's metadata under `shokado`; empty for foreign models.
        parameters: what the run logged of how the model was made.
        predict_method: which of its methods MLflow's own server calls.
    """

    model: Any
    uri: str
    run_id: str
    flavor: str
    framework: str
    signature: "ModelSignature | None"
    example: Any
    metrics: dict[str, float]
    metadata: dict[str, Any]
    parameters: dict[str, str] = field(default_factory=dict)
    predict_method: str = "predict"


@dataclass(frozen=True, eq=False)
class DescribedModel:
    """A model of the registry that was not loaded: what is said of it.

    Attributes:
        folder: where its files are.
        framework: the version of MLflow that logged it.
    """

    folder: Path
    uri: str
    run_id: str
    framework: str
    signature: "ModelSignature | None"
    example: Any
    metrics: dict[str, float]


def require_packages() -> None:
    """Raise `MissingPackage` with the command to run unless the whole `train` extra is installed."""
    missing = [package for module, package in _PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingPackage(
            f"Training and importing need packages that serving does not: {', '.join(missing)}.", INSTALL_COMMAND
        )


def require_framework(flavor: str) -> None:
    """Raise `MissingPackage` with the command to run unless all that models of the flavor need is installed."""
    missing = [name for name in _FRAMEWORK_PACKAGES.get(flavor, ()) if importlib.util.find_spec(name) is None]
    if missing:
        needed = f"A {flavor}" if flavor == CHECKPOINT else f"The flavor {flavor}"
        raise MissingPackage(
            f"{needed} needs packages that nothing else does, and here {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing: make frameworks installs all, and where there is no "
            f"make, pip install {' '.join(missing)}.",
            FRAMEWORKS_COMMAND,
        )


@contextmanager
def session() -> Iterator["MlflowClient"]:
    """A client of the registry, which is MLflow's current one as well, and quiet while it is used.

    MLflow, Alembic and the converters do not talk, and MLflow reports its use to nobody.
    """
    require_packages()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # At the end of a run, with what credentials it has.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # MLflow's own default keeps somebody who mistyped an address waiting for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    with warnings.catch_warnings(), ExitStack() as quiet:
        warnings.simplefilter("ignore")
        with step("open the registry") as current:
            import mlflow  # which sets its loggers' levels

            quiet.enter_context(at_level(logging.ERROR, "mlflow", "alembic", "skl2onnx"))
            client = _connect(mlflow)
            current.outcome = without_credentials(tracking_uri())
        yield client


def _connect(mlflow: Any) -> "MlflowClient":
    """Set MLflow's addresses and ask the registry for something, which creates the tables of a new SQLite file."""
    uri = tracking_uri()
    if database := _sqlite_file(uri):
        database.parent.mkdir(parents=True, exist_ok=True)
    try:
        mlflow.set_tracking_uri(uri)
        client: MlflowClient = mlflow.MlflowClient()
        client.search_registered_models(max_results=1)
    except Exception as error:  # whatever MLflow, requests or a database's driver raises
        raise SourceNotFound(
            f"The MLflow registry at {uri} does not answer; MLFLOW_TRACKING_URI names it. MLflow says: {error}"
        ) from error
    return client


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, else the project's own SQLite file."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{PROJECT / 'var' / 'mlflow.db'}"


def serve_command(uri: str, url: str = SCORING_SERVER) -> str:
    """What somebody types so that MLflow's own server scores the model at that address of this machine."""
    port = urlsplit(url).port or 80
    return f"{_where()}mlflow models serve -m {shlex.quote(uri)} -p {port} --env-manager local"


def mlserver_command(uri: str, url: str, model: str) -> str:
    """What somebody types so that MLServer scores the model under that name, in a folder without models."""
    port = urlsplit(url).port or 80
    settings = {"NAME": model, "IMPLEMENTATION": "mlserver_mlflow.MLflowRuntime", "URI": uri}
    words = [f"MLSERVER_MODEL_{name}={shlex.quote(value)}" for name, value in settings.items()]
    return f"{_where()}{' '.join(words)} MLSERVER_HTTP_PORT={port} mlserver start ."


def _where() -> str:
    """What a command needs in its environment so that it finds our own registry."""
    return "" if os.environ.get("MLFLOW_TRACKING_URI") else f"MLFLOW_TRACKING_URI={shlex.quote(tracking_uri())} "


def _sqlite_file(uri: str) -> Path | None:
    prefix = "sqlite:///"
    return Path(uri.removeprefix(prefix)).absolute() if uri.startswith(prefix) else None


def open_experiment(client: "MlflowClient", name: str) -> str:
    """The experiment's id. Beside an SQLite file the artifacts go to `mlartifacts`, else where the server says."""
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    database = _sqlite_file(tracking_uri())
    location = (database.parent / "mlartifacts" / name).as_uri() if database else None
    return str(client.create_experiment(name, artifact_location=location))


def find(client: "MlflowClient", name: str, label: str) -> Registered | None:
    """The newest registered version that training tagged with that version label."""
    versions = client.search_model_versions(f"name = '{name}'")
    tagged = [int(version.version) for version in versions if version.tags.get(VERSION_TAG) == label]
    return Registered(name, max(tagged)) if tagged else None


def register(client: "MlflowClient", name: str, logged: "ModelInfo", tags: dict[str, str], alias: str) -> Registered:
    """Make a logged model the newest version of a registered model, with its tags from the first moment on."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(name, source=logged.model_uri, run_id=logged.run_id, tags=tags)
    client.set_registered_model_alias(name, alias, str(version.version))
    return Registered(name, int(version.version))


def is_exact(uri: str) -> bool:
    """Whether the address names a version by its number, or a model by its id, so that it means the same forever."""
    return any(form.fullmatch(uri) for form in (_EXACT, _LOGGED))


def model_name(uri: str) -> str | None:
    """The registered model that the address names; None for `runs:/` and for a model's id."""
    if _LOGGED.fullmatch(uri):
        return None
    match = _EXACT.fullmatch(uri) or _ALIAS.fullmatch(uri) or _LATEST.fullmatch(uri)
    return match["name"] if match else None


def alias_of(uri: str) -> str | None:
    """The alias by which the address names a version; None for other addresses."""
    match = _ALIAS.fullmatch(uri)
    return match["alias"] if match else None


def label_of(uri: str) -> str:
    """What an exact address, or that of a run, is called beside others: `v3`, or the beginning of its id."""
    if exact := _EXACT.fullmatch(uri):
        return f"v{int(exact['version'])}"
    if logged := _LOGGED.fullmatch(uri):
        return logged["model_id"][:10]
    run = _RUN.fullmatch(uri)
    assert run is not None, "an address that moves has no label of its own"
    return fitting_name(f"run-{run['run_id'][:8]}")


def check_address(uri: str) -> None:
    """Raise `SourceNotFound` unless it has the form of a model's address."""
    if not any(form.fullmatch(uri) for form in (_EXACT, _LOGGED, _ALIAS, _LATEST, _RUN)):
        raise SourceNotFound(
            f"{uri!r} is no address of a model: use models:/<name>/<number>, models:/<name>/latest, "
            "models:/<name>@<alias>, models:/<model id> or runs:/<id>/<path>; or a file that ends with .onnx, or a tag "
            "of BentoML's store, <name>:<version>. A file of torch.save is imported with --architecture."
        )


def resolve(client: "MlflowClient", uri: str) -> str:
    """The exact address of what the address means now. Raises `SourceNotFound` if the registry does not have it."""
    from mlflow.exceptions import MlflowException

    try:
        if alias := _ALIAS.fullmatch(uri):
            version = client.get_model_version_by_alias(alias["name"], alias["alias"])
            return Registered(alias["name"], int(version.version)).uri
        if exact := _EXACT.fullmatch(uri):
            client.get_model_version(exact["name"], exact["version"])
        elif logged := _LOGGED.fullmatch(uri):
            client.get_logged_model(logged["model_id"])
        elif latest := _LATEST.fullmatch(uri):
            return _newest(client, latest["name"]).uri
        elif run := _RUN.fullmatch(uri):
            client.get_run(run["run_id"])
    except MlflowException as error:
        raise SourceNotFound(f"{tracking_uri()} has no {uri}: {error.message}{_elsewhere()}") from error
    return uri


def _elsewhere() -> str:
    """A hint for who has logged a model into a registry that is not this project's own."""
    return "" if os.environ.get("MLFLOW_TRACKING_URI") else " MLFLOW_TRACKING_URI names another registry."


def _newest(client: "MlflowClient", name: str) -> Registered:
    """The version of the highest number."""
    found = client.search_model_versions(f"name = '{name}'", order_by=["version_number DESC"], max_results=1)
    if not found or found[0].name != name:
        raise SourceNotFound(f"{tracking_uri()} has no version of a registered model {name!r}.{_elsewhere()}")
    return Registered(name, int(found[0].version))


def fetch(client: "MlflowClient", uri: str, folder: Path, formats: Formats = Formats.ANY) -> LoadedModel:
    """Load the model at an exact address (see `resolve`); artifacts that are not local are copied into `folder`.

    Loading runs the framework's own deserialization, so only a registry that is trusted may be read in any format.
    Raises `SourceNotFound` or `UnsupportedModel`.
    """

    path, description = _read(uri, folder)
    flavor = _flavor(description, uri)
    if formats is Formats.WITHOUT_CODE:
        _refuse_code(description.flavors[flavor], flavor, uri)
    require_framework(flavor)
    try:
        model = _load(path, description, flavor, uri)
        example = _example(description, path)
    except UnsupportedModel:
        raise
    except Exception as error:  # whatever the framework's own loader raises
        if isinstance(error, ModuleNotFoundError):  # of what stands within a model of scikit-learn
            require_framework(str(error.name))
        raise UnsupportedModel(f"{uri} does not load with the installed packages: {error}") from error
    metrics, parameters = _run(client, description.run_id)
    return LoadedModel(
        model=model,
        uri=uri,
        run_id=description.run_id or "",
        flavor=flavor,
        framework=_framework(description, flavor),
        signature=description.signature,
        example=example,
        metrics=metrics,
        parameters=parameters,
        metadata=dict((description.metadata or {}).get("shokado", {})),
        predict_method=description.flavors.get("python_function", {}).get("predict_fn", "predict"),
    )


def _load(path: str, description: "Model", flavor: str, uri: str) -> Any:
    """The framework's own object; an `OnnxModel` of what is a graph, or becomes one."""
    import mlflow

    if flavor in ("pytorch", "keras"):
        from shokado.lifecycle.importing import logged_networks

        return logged_networks.read(path, description, uri)
    model = getattr(mlflow, flavor).load_model(path)
    if flavor == "statsmodels":
        from shokado.lifecycle.importing import statsmodels_results

        return statsmodels_results.read(model, description.signature, uri)
    if flavor == "onnx":
        from shokado.lifecycle.importing import onnx_models

        return onnx_models.read(model)
    return model


def describe(client: "MlflowClient", uri: str, folder: Path) -> DescribedModel:
    """What the registry says of a model at an exact address; nothing of the model itself is loaded.

    Raises `SourceNotFound` or `UnsupportedModel`.
    """
    path, description = _read(uri, folder)
    if PYTHON not in description.flavors:
        raise UnsupportedModel(f"{uri} has no MLflow flavor {PYTHON}, which a scoring server needs.")
    try:
        example = _example(description, path)
    except Exception as error:  # whatever MLflow or pandas makes of a file
        raise UnsupportedModel(f"The input example of {uri} cannot be read: {error}") from error
    return DescribedModel(
        folder=Path(path),
        uri=uri,
        run_id=description.run_id or "",
        framework=f"mlflow {description.mlflow_version or 'of unknown version'}",
        signature=description.signature,
        example=example,
        metrics=_run(client, description.run_id)[0],
    )


def _read(uri: str, folder: Path) -> tuple[str, "Model"]:
    """Where the files of a model are now, copied into `folder` if they are not local, and its description."""
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    try:
        path = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder), tracking_uri=tracking_uri())
        return str(path), Model.load(path)
    except (MlflowException, OSError) as error:
        raise SourceNotFound(f"The files of {uri} cannot be read: {error}") from error


def _example(description: "Model", path: str) -> Any:
    """The input example, or None; columns that have numbers for names are called by those, as texts."""
    found: Any = description.load_input_example(path) if description.saved_input_example_info else None
    return found.rename(columns=str) if hasattr(found, "columns") else found


def _flavor(description: "Model", uri: str) -> str:
    for flavor in FLAVORS:
        if flavor in description.flavors:
            return flavor
    if "tensorflow" in description.flavors:
        raise UnsupportedModel(
            f"{uri} has the MLflow flavor tensorflow, which TensorFlow alone reads: log a model of Keras 3 with "
            "mlflow.keras.log_model, or its ONNX export with mlflow.onnx.log_model."
        )
    found = ", ".join(sorted(set(description.flavors) - {PYTHON})) or f"none but {PYTHON}"
    message = f"{uri} has the MLflow flavor {found}; the flavors {', '.join(FLAVORS)} can be imported."
    if PYTHON not in description.flavors:
        raise UnsupportedModel(message)
    raise NeedsPython(f"{message} Others need Python to score: MLflow's own server does that, as a remote version.")


def _refuse_code(stored: Mapping[str, Any], flavor: str, uri: str) -> None:
    """Raise `CanCarryCode` when reading the model could run code that its author chose.

    `stored` is what the flavor's part of the `MLmodel` file says. skops reads nothing but types that are harmless, and
    those that this file, which is the author's, calls trusted.
    """
    trusted = set(stored.get("skops_trusted_types") or ()) - _SAFE_SKOPS_TYPES
    model_class = str(stored.get("model_class", "xgboost.core.Booster"))
    # A Booster is text; the estimators are stored as scikit-learn's are.
    is_object = flavor == "sklearn" or (
        flavor == "lightgbm" and stored.get("model_class", _LIGHTGBM_BOOSTER) != _LIGHTGBM_BOOSTER
    )
    danger = None
    if stored.get("code"):
        danger = "it brings Python files of its own"
    elif is_object and (kind := stored.get("serialization_format", "pickle")) != "skops":
        danger = f"it is stored as {kind}"
    elif is_object and trusted:
        danger = f"it asks to trust {', '.join(sorted(trusted))}"
    elif flavor == "xgboost" and not _SAFE_XGBOOST_CLASS.fullmatch(model_class):
        danger = f"its class is {model_class}"
    elif flavor in _CODE_IN_FORMATS:
        danger = _CODE_IN_FORMATS[flavor]
    if danger:
        again = _OTHER_FORMATS.get(flavor, "in the format skops")
        raise CanCarryCode(
            f"{uri} could run code when it is read: {danger}. Register it again {again}, or, if you trust "
            "it, import it by hand, which leaves that out, and load what that says it stored.",
            f"shokado models import {uri} --as <label>",
        )


def _framework(description: "Model", flavor: str) -> str:
    package, key = {
        "xgboost": ("xgboost", "xgb_version"),
        "lightgbm": ("lightgbm", "lgb_version"),
        "catboost": ("catboost", "catboost_version"),
        "sklearn": ("scikit-learn", "sklearn_version"),
        "onnx": ("onnx", "onnx_version"),
        "pytorch": ("torch", "pytorch_version"),
        "keras": ("keras", "keras_version"),
        "statsmodels": ("statsmodels", "statsmodels_version"),
    }[flavor]
    return f"{package} {description.flavors[flavor].get(key, 'of unknown version')}"


def _run(client: "MlflowClient", run_id: str | None) -> tuple[dict[str, float], dict[str, str]]:
    """The finite metrics and the parameters of a run."""
    if not run_id:
        return {}, {}
    data = client.get_run(run_id).data
    finite = {name: float(value) for name, value in data.metrics.items() if math.isfinite(value)}
    return finite, dict(data.params)
