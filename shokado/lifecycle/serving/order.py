"""What `shokado serve` is told: addresses, shares of the traffic, where to listen.

Whatever needs no registry is checked when an order is made. An order can say itself as a command, with something
changed: what is refused names the command that helps.
"""

import math
import shlex
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.importing import names, onnx_files, registry
from shokado.lifecycle.importing.registry import Formats

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 3000


@dataclass(frozen=True)
class ServeOrder:
    """Versions of one model, or a file that says which. Raises `LifecycleError` for what cannot be meant.

    Attributes:
        addresses: versions in the MLflow registry, in any form that `ImportOrder` takes; ONNX files; tags of BentoML's
            store, of what `bentoml.onnx` saved or of imported versions. Where there is no address, `config` says all.
        split: a weight for each address, relative to their sum; None: the same for all.
        model: name in the model store; None: the registered model's.
        config: the file that is written, or served; None: one of that model below `var/serving/`.
        workers: server processes; None: one per CPU.
        replace: whether what was changed by hand since, in the file or of the split, gives way.
        formats: which formats the registry's models may have.
        keep_rows: whether imports, and the server's loads, may keep rows of the data, by which scores are explained.
    """

    addresses: tuple[str, ...] = ()
    split: tuple[float, ...] | None = None
    model: str | None = None
    config: Path | None = None
    workers: int | None = None
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    replace: bool = False
    formats: Formats = Formats.ANY
    keep_rows: bool = True

    def __post_init__(self) -> None:
        for address in self.addresses:
            if not onnx_files.is_named(address):
                registry.check_address(address)
        twice = next((address for address in self.addresses if self.addresses.count(address) > 1), None)
        if twice is not None:
            raise LifecycleError(f"{twice} is named twice: name each version once.")
        if self.addresses:
            self._check_model()

    @property
    def name(self) -> str:
        """The model's name in the store."""
        name = self.model or _model_name(self.addresses[0])
        assert name is not None, "checked when this was made"
        return name

    @property
    def file(self) -> Path:
        """The configuration, absolute."""
        return (self.config or registry.PROJECT / "var" / "serving" / f"{self.name}.yaml").absolute()

    @property
    def weights(self) -> tuple[float, ...]:
        """A weight for each address."""
        return self.split or (1.0,) * len(self.addresses)

    def command(self, **changed: Any) -> str:
        """What somebody types for the same with some attributes changed, to whatever value."""
        order = vars(self) | changed
        options = {
            "--split": ",".join(f"{weight:.15g}" for weight in order["split"] or ()),
            "--name": order["model"],
            "--config": order["config"],
            "--workers": order["workers"],
            "--host": order["host"] if order["host"] != DEFAULT_HOST else None,
            "--port": order["port"] if order["port"] != DEFAULT_PORT else None,
        }
        words = [word for option, value in options.items() if value for word in (option, str(value))]
        flags = {
            "--replace": order["replace"],
            "--no-pickle": order["formats"] is Formats.WITHOUT_CODE,
            "--no-rows": not order["keep_rows"],
        }
        words += [flag for flag, on in flags.items() if on]
        return shlex.join(["shokado", "serve", *order["addresses"], *words])

    def _check_model(self) -> None:
        if self.model is None:
            self._check_that_registered_names_agree()
        try:
            names.check_name("model name", self.name)
        except LifecycleError as error:
            raise LifecycleError(str(error), self.command(model=names.fitting_name(self.name))) from None

    def _check_that_registered_names_agree(self) -> None:
        first, name = self.addresses[0], _model_name(self.addresses[0])
        for address in self.addresses:
            registered = _model_name(address)
            if registered is None:
                message = f"{address} does not say which model it is a version of: add --name."
                raise LifecycleError(message, self.command(model="NAME"))
            if registered != name:
                raise LifecycleError(
                    f"{first} and {address} are versions of two models, and one server serves one. If they answer the "
                    "same question, serve them under one name.",
                    self.command(model=names.fitting_name(str(name))),
                )


def _model_name(address: str) -> str | None:
    return onnx_files.model_name(address) if onnx_files.is_named(address) else registry.model_name(address)


def parse_split(text: str, versions: int) -> tuple[float, ...]:
    """The weights in `90,10`, one for each version. Raises `ValueError`."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != versions:
        counted = f"{len(parts)} weight{'s' * (len(parts) != 1)} for {versions} version{'s' * (versions != 1)}"
        raise ValueError(f"{text} has {counted}: give one for each, such as 90,10")
    weights = tuple(_weight(part) for part in parts)
    if not any(weights):
        raise ValueError(f"{text} gives no version any traffic: at least one weight must be above 0")
    if versions == 1 and weights[0] not in (1, 100):
        raise ValueError(f"{text} is the weight of the only version, which gets all of the traffic: leave it out")
    return weights


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no weight: write numbers with commas between them, such as 90,10") from None
    if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f"{text} is no weight: weights are finite and not negative")
    return weight


def parse_host(text: str) -> str:
    """The address to listen at; BentoML takes no names. Raises `ValueError`."""
    host = DEFAULT_HOST if text == "localhost" else text
    try:
        ip_address(host)
    except ValueError:
        raise ValueError(f"{host!r} is no address, such as 127.0.0.1 or 0.0.0.0") from None
    return host
