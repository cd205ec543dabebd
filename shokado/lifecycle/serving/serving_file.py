"""The `serving.yaml` that `shokado serve` writes: versions and their weights go in, a commented file comes out.

It is the person's to keep and to change. Its last line is a digest of all above, by which a file that was changed is
told from one that may be written over. A server keeps a lock on its file, which workers that start later read again.
"""

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from configuration import file_lock
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.importing import registry
from shokado.lifecycle.importing.registry import Formats
from shokado.lifecycle.serving.bringing import Brought
from shokado.lifecycle.serving.order import DEFAULT_HOST, DEFAULT_PORT, ServeOrder

# Each line that is commented out has the default; a test takes every one of them in.
_TEMPLATE = """\
# What shokado serve wrote for: {command}
# Yours to keep and to edit: once it was changed, it is not written over without --replace.
# Served again as it stands by: {again}
#
# What is not here has its default; configuration/serving.yaml names every key. Unknown keys are errors, and every key
# can be set from the environment as well: SHOKADO_WORKERS=2, SHOKADO_ENVIRONMENTS__PRODUCTION__STRATEGY=hash, ..

model: {model}  # its name in the BentoML model store
workers: {workers}  # server processes; auto: one per CPU

versions:
{versions}
# How the split begins. While serving, POST /v1/traffic-split changes it, and a restart goes on with what it has become.
environments:
  production:
    active: {active}  # answers where the version that a request was given cannot
    weights: {{{weights}}}  # relative to their sum
    strategy: random  # hash: a user (X-Unit-ID) keeps the version | weighted: by observed performance
    # shadow: null  # a version that gets a copy of the traffic, and whose answers nobody sees

# store: sqlite:///var/{{model}}.db  # keeps the split with its history; redis://host:6379/0 for several machines
# batching: {{latency_target_ms: 10}}  # how long one batch may take
# limits: {{max_rows: 10000}}  # rows of one request
# grpc: {{port: null}}  # a number opens the Open Inference Protocol over gRPC
# access: {{keys_file: null}}  # who may ask, and change; shokado keys create makes one
{rows}
"""
_ROWS = "# explanations: {keep_rows: true}  # some rows of the data of versions that it loads, for explanations"
_NO_ROWS = "explanations: {keep_rows: false}  # of versions that it loads, no rows of their data are kept"
_VERSION = """\
  {label}:  # the artefact {tag}, from {source}
    aliases: [{aliases}]  # what requests may call it as well
    # engine: auto  # xgboost | onnxruntime | auto: the faster one for the batch at hand
    # placement: embedded  # service: in processes of its own
"""
_MARK = "# sha256 of all above: "


def text_of(order: ServeOrder, brought: Sequence[Brought]) -> str:
    """The whole file."""
    weights = dict(zip((one.artefact.version for one in brought), order.weights, strict=True))
    body = _TEMPLATE.format(
        # Where it listens makes no other file of it.
        command=_on_one_line(
            order.command(config=None, host=DEFAULT_HOST, port=DEFAULT_PORT, replace=False, formats=Formats.ANY)
        ),
        again=_on_one_line(ServeOrder(config=shown(order.file, registry.PROJECT)).command()),
        model=_scalar(order.name),
        workers=order.workers or "auto",
        versions="".join(_version(one) for one in brought),
        active=_scalar(max(weights, key=weights.__getitem__)),
        weights=", ".join(f"{_scalar(label)}: {weight:.15g}" for label, weight in weights.items()),
        rows=_ROWS if order.keep_rows else _NO_ROWS,
    )
    return f"{body}\n{_MARK}{_digest(body)}\n"


def refuse_edited(order: ServeOrder) -> None:
    """Raise `LifecycleError` where the file was not left as it was written and is to stay, or could not be written."""
    if not order.file.parent.is_dir() and order.config is not None:
        raise LifecycleError(f"There is no folder {shown(order.file.parent)}.")
    if order.replace or not order.file.exists():
        return
    try:
        content = order.file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise LifecycleError(f"{order.file} cannot be read: {error}") from error
    body, mark, digest = content.rpartition(f"\n{_MARK}")
    if mark and digest == f"{_digest(body)}\n":
        return
    file = shown(order.file)
    raise LifecycleError(
        f"{file} was changed by hand, and stays as it is. Serve it so, write another one with --config, or write it "
        "anew with --replace.",
        ServeOrder(config=file, host=order.host, port=order.port).command(),
    )


def write(path: Path, text: str) -> bool:
    """Let the file have this text, and tell whether it had another one, or none.

    Raises `LifecycleError`, as where a server runs by the file.
    """
    try:
        if path.is_file():
            if path.read_bytes() == text.encode():
                return False
            _refuse_locked(path)
        path = path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
            scratch = Path(folder) / path.name
            scratch.write_text(text, encoding="utf-8")
            scratch.replace(path)
    except OSError as error:
        raise LifecycleError(f"{path} cannot be written: {error.strerror or error}") from error
    return True


def lock(path: Path) -> None:
    """Let nobody write the file for as long as this process lives, whatever program it becomes."""
    descriptor = os.open(path, os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def _refuse_locked(path: Path) -> None:
    with path.open("rb") as file:
        if not file_lock.lock(file):
            raise LifecycleError(
                f"A server runs by {shown(path)}, which its workers read whenever one starts: stop it first; or change "
                "its split while it serves, with POST /v1/traffic-split; or serve beside it, with another file "
                "(--config) and another store (such as SHOKADO_STORE=sqlite:///var/beside.db)."
            )


def _version(one: Brought) -> str:
    artefact = one.artefact
    source = artefact.card.source.uri
    return _VERSION.format(
        label=_scalar(artefact.version),
        tag=artefact.tag,
        source=_on_one_line(source if one.address == source else f"{source}, which was {one.address}"),
        aliases=", ".join(_scalar(alias) for alias in one.aliases),
    )


def _scalar(name: str) -> str:
    """A name in YAML, which reads some as a number, a time or a truth value unless they stand in quotes."""
    return name if yaml.safe_load(name) == name else json.dumps(name)


def _on_one_line(comment: str) -> str:
    return " ".join(comment.split())


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def shown(path: Path, folder: Path | None = None) -> Path:
    """The path as it is typed in a folder, by default in the one in which the command runs."""
    folder = folder or Path.cwd()
    return path.relative_to(folder) if path.is_relative_to(folder) else path
